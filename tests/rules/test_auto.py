"""Auto against a plain transcription of the equations in `rules/auto.py`, in float64."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import untuned
from support.polar import polar


class Plain:
    """The equations, tensor by tensor and block by block.

    `matrices` are (tensor, radius, how it falls into matrices, and is put together of them);
    `others` are (tensor, size of an entry's step).
    Matrices take `turns` in their order here.
    """

    def __init__(self, matrices, others, head, inputs, horizon, average, turns=1):
        self.turns, self.places = turns, {entry[0]: i for i, entry in enumerate(matrices)}
        self.horizon, self.reversals, self.average = horizon, {}, average
        self.q = 2.0**-8
        self.matrices, self.others, self.head, self.inputs = matrices, others, head, inputs
        self.t, self.product, self.square = 0, 0.0, 0.0
        self.m = {tensor: torch.zeros_like(tensor) for tensor, *_ in (*matrices, *others)}
        self.v = {tensor: torch.zeros_like(tensor) for tensor, *_ in others}
        self.sizes = {tensor: None for tensor, *_ in matrices}
        self.x = {}  # averages

    def turn_of(self, tensor):
        """How many steps the matrix takes in this one; the first forty are taken one by one."""
        turn = self.t - 1
        if self.turns == 1 or turn < 40:
            return 1
        return self.turns if (turn + self.places[tensor]) % self.turns == 0 else 0

    def confirmed(self):
        """How much of each matrix's momentum the gradient confirms."""
        for tensor, _, apart, _ in self.matrices:
            for g, m in zip(apart(tensor.grad), apart(self.m[tensor]), strict=True):
                unbiased = m / (1 - 0.9**self.t)
                yield min(1.0, max(-1.0, float((g * unbiased).sum() / unbiased.norm() ** 2)))

    def step(self):
        every = [*(tensor for tensor, *_ in self.matrices), self.head]
        every = sum(float((w.data * w.grad).sum()) for w in every)
        head = float((self.head.data * self.head.grad).sum())
        self.product = 0.95 * self.product + 0.05 * every * head
        self.square = 0.95 * self.square + 0.05 * head**2
        D = max(1.0, self.product / self.square)
        counts = torch.cat([*self.reversals.values()] or [torch.zeros(1)])
        shorter = 1 / (1 + float(counts.mean()) / 40) ** (0.5 if self.average else 1)
        if self.horizon:
            shorter = max(1, self.horizon - self.t) / self.horizon
        if self.t:
            found = list(self.confirmed())
            a = sum(found) / len(found)
            grows, falls = min(0.25, max(0.0, a)), min(0.25, max(0.0, -a - 0.5))
            self.q = min(1.0, self.q * 2 ** (4 * grows - 2 * falls)) if self.q < 1 else 1.0
        s = self.q * min(0.06, math.log((1 + 5**0.5) / 2) / D) * shorter
        R = min(30.0, 2000 ** (1 / D))
        self.t += 1
        correction = 1 - 0.9 ** (self.t + 1)
        for tensor, radius, apart, together in self.matrices:
            self.m[tensor] = 0.9 * self.m[tensor] + 0.1 * tensor.grad
            ahead = 0.9 * self.m[tensor] + 0.1 * tensor.grad
            blocks = apart(ahead)
            new = torch.stack([block.norm() ** 2 for block in apart(tensor.grad)])
            old = self.sizes[tensor]
            self.sizes[tensor] = 0.02 * new if old is None else 0.98 * old + 0.02 * new
            directions, turned, kept = [], [], []
            for block, size in zip(blocks, self.sizes[tensor], strict=True):
                # what is left of gradients of norm one that have nothing to do with each other
                left = [0.19, *(0.1 * 0.9 ** (j + 1) for j in range(1, 2000))]
                noise = math.sqrt(sum(share**2 for share in left))
                rms = math.sqrt(float(size) / (1 - 0.98**self.t))
                certain = min(1.0, float(block.norm()) / correction / rms / noise)
                turned.append(float(certain < 1))
                directions.append(certain * polar(block.flatten(1)).view_as(block))
                kept.append((1 - s * certain / R) * torch.ones_like(block))
            k = self.turn_of(tensor)
            self.reversals[tensor] = self.reversals.get(tensor, 0) + k * torch.tensor(turned)
            if k == 0:
                continue
            kept = [1 - k * (1 - each) for each in kept]
            step = k * s * radius / self.inputs.get(tensor, 1.0) * together(directions)
            moved = together(kept) * tensor.data - step
            tensor.data = torch.where(self.m[tensor] == 0, tensor.data, moved)
        for tensor, size in self.others:
            self.m[tensor] = 0.9 * self.m[tensor] + 0.1 * tensor.grad
            ahead = (0.9 * self.m[tensor] + 0.1 * tensor.grad) / correction
            self.v[tensor] = 0.98 * self.v[tensor] + 0.02 * tensor.grad**2
            root = (self.v[tensor] / (1 - 0.98**self.t)).sqrt()
            direction = torch.where(root > 0, ahead / root, 0.0)
            kept = 1 - s / R if tensor is self.head else 1.0
            moved = kept * tensor.data - s * size / self.inputs.get(tensor, 1.0) * direction
            tensor.data = torch.where(self.v[tensor] == 0, tensor.data, moved)
        for tensor in self.m:
            x = self.x.get(tensor, tensor.data)
            self.x[tensor] = x + 9 / (self.t + 8) * (tensor.data - x)


class Network(nn.Module):
    """Of every kind that differs."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(11, 6)
        self.conv = nn.Conv1d(6, 8, 3, padding=1)
        self.depthwise = nn.Conv1d(8, 8, 3, groups=8, bias=False)
        self.lstm = nn.LSTM(8, 5, batch_first=True)
        self.norm = nn.LayerNorm(5)
        self.beside = nn.Linear(3, 5)  # data go in here
        self.head = nn.Linear(5, 4)

    def forward(self, tokens, numbers):
        x = self.depthwise(self.conv(self.table(tokens).mT)).mT
        x = self.norm(self.lstm(x)[0][:, -1])
        return self.head(x + torch.relu(self.beside(numbers)))


def whole(tensor):
    return [tensor]


def one(blocks):
    return blocks[0]


def plain(net, inputs, horizon, average, turns):
    def offsets(tensor):
        return [tensor[:, :, k] for k in range(tensor.shape[2])]

    def gates(tensor):
        return list(tensor.chunk(4))

    def filters(tensor):
        return list(tensor[:, None].flatten(2))

    lstm = dict(net.lstm.named_parameters())
    matrices = [
        (net.conv.weight, math.sqrt(8 / 6) / 3**0.75, offsets, lambda b: torch.stack(b, -1)),
        (net.depthwise.weight, 3**-0.25, filters, lambda b: torch.stack(b)),
        (lstm["weight_ih_l0"], math.sqrt(5 / 8), gates, torch.cat),
        (lstm["weight_hh_l0"], 1.0, gates, torch.cat),
        (net.beside.weight, math.sqrt(5 / 3), whole, one),
    ]
    biases = [net.conv.bias, lstm["bias_ih_l0"], lstm["bias_hh_l0"], *net.norm.parameters()]
    others = [(tensor, 0.4) for tensor in (net.table.weight, *biases, net.beside.bias)]
    others += [(net.head.weight, 0.4 * 75 / 5), (net.head.bias, 0.4)]
    return Plain(matrices, others, net.head.weight, inputs, horizon, average, turns)


@pytest.mark.filterwarnings("ignore::untuned.errors.HorizonWarning")
@pytest.mark.parametrize(
    ("horizon", "average", "turns"),
    [(None, False, 1), (None, True, 1), (30, False, 1), (30, True, 1), (None, True, 3)],
)
def test_steps_are_the_equations(horizon, average, turns):
    torch.manual_seed(0)
    net = Network().double()
    other = copy.deepcopy(net)
    numbers = 0.01 * torch.randn(40, 8, 3, dtype=torch.float64)
    opt = untuned.Auto(net, horizon=horizon, average=average)
    opt.param_groups[0]["turns"] = turns
    reference = plain(other, {}, horizon, average, turns)
    for t in range(40 if turns == 1 else 50):
        size = numbers[: min(t + 1, 8)].square().mean().sqrt()  # of the first eight steps
        reference.inputs[other.beside.weight] = float(size)
        tokens = torch.randint(11, (8, 9))
        labels = torch.randint(4, (8,))
        for model, optimizer in ((net, opt), (other, reference)):
            model.zero_grad()
            F.cross_entropy(model(tokens, numbers[t % 40]), labels).backward()
            optimizer.step()
        for (name, ours), theirs in zip(net.named_parameters(), other.parameters(), strict=True):
            theirs = reference.x[theirs] if average else theirs
            atol = 1e-8 * max(1.0, float(theirs.detach().abs().max()))  # some weights are hundreds
            torch.testing.assert_close(
                ours, theirs, rtol=1e-6, atol=atol, msg=lambda m, at=f"{name}, {t}": f"{at}: {m}"
            )


class Factors(nn.Module):
    """No matrix: rows of two tables, and a number."""

    def __init__(self):
        super().__init__()
        self.users, self.items = nn.Embedding(7, 3), nn.Embedding(5, 3)
        self.mean = nn.Parameter(torch.tensor(0.5))

    def forward(self, user, item):
        return (self.users(user) * self.items(item)).sum(1) + self.mean


class PlainFactors:
    """The equations row by row: all move by entry, and all rows' reversals count alike."""

    def __init__(self, net):
        self.rows = [(w, i) for w in net.parameters() for i in range(len(w) if w.ndim else 1)]
        self.m, self.v, self.turned, self.t = {}, {}, dict.fromkeys(self.rows, 0), 0

    def step(self):
        N = sum(self.turned.values()) / len(self.turned)
        s = 0.06 / (1 + N / 40)
        self.t += 1
        for row in self.rows:
            w, i = row
            w, grad = (w.data[i], w.grad[i]) if w.ndim else (w.data, w.grad)
            m = self.m.get(row, torch.zeros_like(grad))
            self.turned[row] += int((grad * m).sum() < 0)
            self.m[row] = m = 0.9 * m + 0.1 * grad
            self.v[row] = v = 0.98 * self.v.get(row, 0.0) + 0.02 * grad**2
            root = (v / (1 - 0.98**self.t)).sqrt()
            ahead = (0.9 * m + 0.1 * grad) / (1 - 0.9 ** (self.t + 1))
            w -= torch.where(root > 0, s * 0.4 * ahead / root, 0.0)


def test_with_no_matrix_time_runs_where_entries_are_turned_back():
    torch.manual_seed(0)
    net = Factors().double()
    other = copy.deepcopy(net)
    opt, reference = untuned.Auto(net, average=False), PlainFactors(other)
    table = torch.randn(7, 5, dtype=torch.float64)
    for _ in range(60):
        user, item = torch.randint(7, (6,)), torch.randint(5, (6,))
        for model, optimizer in ((net, opt), (other, reference)):
            model.zero_grad()
            F.mse_loss(model(user, item), table[user, item]).backward()
            optimizer.step()
    for ours, theirs in zip(net.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    assert 5 < sum(reference.turned.values()) / len(reference.turned) < 50


@pytest.mark.parametrize(("gains", "first"), [(False, math.log((1 + 5**0.5) / 2)), (True, 0.06)])
def test_only_a_head_alone_takes_the_whole_trust_region(gains, first):
    """On frozen features; where their gains move too, layers move together."""
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6)).requires_grad_(False)
    net = nn.Sequential(body, nn.Linear(6, 1)).double()
    body[1].requires_grad_(gains)
    x, y = torch.randn(30, 4, dtype=torch.float64), torch.randn(30, 1, dtype=torch.float64)
    first_bias = net[1].bias.item()
    opt = untuned.Auto(net, average=False)
    F.mse_loss(net(x), y).backward()
    opt.step()
    assert abs(net[1].bias.item() - first_bias) == pytest.approx(0.4 * first)
