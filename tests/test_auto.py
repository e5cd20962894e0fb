"""Auto against a plain transcription of the equations in `rules/auto.py`, in float64."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import untuned
from networks import equal, snapshot
from untuned.rules.auto import INPUT
from untuned.spectral import orthogonal

double = torch.float64


def polar(matrix):
    """Five steps of the quintic, on one matrix."""
    X = matrix / matrix.norm()
    if X.shape[0] > X.shape[1]:
        return polar(matrix.T).T
    for _ in range(5):
        S = X @ X.T
        X = 3.4445 * X - 4.7750 * S @ X + 2.0315 * S @ S @ X
    return X


class Plain:
    """The equations, tensor by tensor and block by block.

    `matrices` are (tensor, radius, how it falls into matrices, and is put together of them);
    `others` are (tensor, size of an entry's step).
    """

    def __init__(self, matrices, others, head, inputs, horizon=None):
        self.horizon, self.reversals = horizon, {}
        self.matrices, self.others, self.head, self.inputs = matrices, others, head, inputs
        self.t, self.product, self.square = 0, 0.0, 0.0
        self.m = {tensor: torch.zeros_like(tensor) for tensor, *_ in (*matrices, *others)}
        self.v = {tensor: torch.zeros_like(tensor) for tensor, *_ in others}
        self.sizes = {tensor: None for tensor, *_ in matrices}

    def step(self):
        every = [*(tensor for tensor, *_ in self.matrices), self.head]
        every = sum(float((w.data * w.grad).sum()) for w in every)
        head = float((self.head.data * self.head.grad).sum())
        self.product = 0.95 * self.product + 0.05 * every * head
        self.square = 0.95 * self.square + 0.05 * head**2
        D = max(1.0, self.product / self.square)
        counts = torch.cat([*self.reversals.values()] or [torch.zeros(1)])
        shorter = 1 / (1 + float(counts.mean()) / 60)
        if self.horizon:
            shorter = max(0.0, 1 - self.t / self.horizon)
        s = min(0.03, math.log((1 + 5**0.5) / 2) / D) * shorter
        R = min(10.0, 300 ** (1 / D))
        self.t += 1
        correction = 1 - 0.9 ** (self.t + 1)
        for tensor, radius, apart, together in self.matrices:
            self.m[tensor] = 0.9 * self.m[tensor] + 0.1 * tensor.grad
            ahead = 0.9 * self.m[tensor] + 0.1 * tensor.grad
            blocks = apart(ahead)
            new = torch.stack([block.norm() ** 2 for block in apart(tensor.grad)])
            old = self.sizes[tensor]
            self.sizes[tensor] = 0.02 * new if old is None else 0.98 * old + 0.02 * new
            directions, turned = [], []
            for block, size in zip(blocks, self.sizes[tensor], strict=True):
                # what is left of gradients of norm one that have nothing to do with each other
                left = [0.19, *(0.1 * 0.9 ** (j + 1) for j in range(1, 2000))]
                noise = math.sqrt(sum(share**2 for share in left))
                rms = math.sqrt(float(size) / (1 - 0.98**self.t))
                certain = min(1.0, float(block.norm()) / correction / rms / noise)
                turned.append(float(certain < 1))
                directions.append(certain * polar(block.flatten(1)).view_as(block))
            self.reversals[tensor] = self.reversals.get(tensor, 0) + torch.tensor(turned)
            step = s * radius / self.inputs.get(tensor, 1.0) * together(directions)
            tensor.data = (1 - s / R) * tensor.data - step
        for tensor, size in self.others:
            self.m[tensor] = 0.9 * self.m[tensor] + 0.1 * tensor.grad
            ahead = (0.9 * self.m[tensor] + 0.1 * tensor.grad) / correction
            self.v[tensor] = 0.98 * self.v[tensor] + 0.02 * tensor.grad**2
            root = (self.v[tensor] / (1 - 0.98**self.t)).sqrt()
            direction = torch.where(root > 0, ahead / root, 0.0)
            tensor.data = tensor.data - s * size / self.inputs.get(tensor, 1.0) * direction


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


def plain(net, inputs, horizon):
    def offsets(tensor):
        return [tensor[:, :, k] for k in range(tensor.shape[2])]

    def gates(tensor):
        return list(tensor.chunk(4))

    def filters(tensor):
        return list(tensor[:, None].flatten(2))

    lstm = dict(net.lstm.named_parameters())
    matrices = [
        (net.conv.weight, math.sqrt(8 / 6 / 3), offsets, lambda b: torch.stack(b, -1)),
        (net.depthwise.weight, 1.0, filters, lambda b: torch.stack(b)),
        (lstm["weight_ih_l0"], math.sqrt(5 / 8), gates, torch.cat),
        (lstm["weight_hh_l0"], 1.0, gates, torch.cat),
        (net.beside.weight, math.sqrt(5 / 3), whole, one),
    ]
    biases = [net.conv.bias, lstm["bias_ih_l0"], lstm["bias_hh_l0"], *net.norm.parameters()]
    others = [(tensor, 0.2) for tensor in (net.table.weight, *biases, net.beside.bias)]
    others += [(net.head.weight, 0.2 * 125 / 5), (net.head.bias, 0.2)]
    return Plain(matrices, others, net.head.weight, inputs, horizon)


@pytest.mark.parametrize("horizon", [None, 30])
def test_steps_are_the_equations(horizon):
    torch.manual_seed(0)
    net = Network().double()
    other = copy.deepcopy(net)
    numbers = 0.01 * torch.randn(40, 8, 3, dtype=double)
    size = float(numbers[0].square().mean().sqrt())
    opt = untuned.Auto(net, horizon=horizon)
    reference = plain(other, {other.beside.weight: size}, horizon)
    for t in range(40):
        tokens = torch.randint(11, (8, 9))
        labels = torch.randint(4, (8,))
        for model, optimizer in ((net, opt), (other, reference)):
            model.zero_grad()
            F.cross_entropy(model(tokens, numbers[t]), labels).backward()
            optimizer.step()
        for (name, ours), theirs in zip(net.named_parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(
                ours, theirs, rtol=1e-6, atol=1e-8, msg=lambda m, at=f"{name}, {t}": f"{at}: {m}"
            )


@pytest.mark.parametrize("shape", [(1, 5, 5), (1, 3, 17), (1, 17, 3), (2, 1, 9), (4, 6, 7)])
def test_singular_values_become_about_one_and_directions_stay(shape):
    torch.manual_seed(0)
    matrices = torch.randn(shape, dtype=double)
    U, _, V = torch.linalg.svd(matrices, full_matrices=False)
    made = orthogonal(matrices)
    turned = U.mT @ made @ V.mT
    values = torch.diagonal(turned, dim1=-2, dim2=-1)
    torch.testing.assert_close(torch.diag_embed(values), turned, rtol=0, atol=1e-9)
    assert values.min() > 0.4
    assert values.max() < 1.3
    assert not orthogonal(torch.zeros(1, 3, 4)).any()


@pytest.mark.parametrize("size", [1e-44, 1e-25, 1e-10, 1e25])
def test_how_large_matrices_are_does_not_matter(size):
    """In 32 bits the squares of the outer three vanish or overflow."""
    torch.manual_seed(0)
    matrices = torch.randn(3, 4, 7)
    expected = orthogonal(matrices)
    rtol = 0.5 if size < torch.finfo().tiny else 1e-4
    torch.testing.assert_close(orthogonal(size * matrices), expected, rtol=rtol, atol=rtol)


def chain(depth, width=16, norm=False):
    layers = [nn.Linear(width, width, bias=False) for _ in range(depth)]
    modules = [module for layer in layers for module in (layer, nn.ReLU())][:-1]
    if norm:  # before the head
        modules.insert(-1, nn.LayerNorm(width, elementwise_affine=False, eps=0.0))
    return nn.Sequential(*modules).double()


def degree(opt):
    group = opt.param_groups[0]
    product, square = (group[f"floor0/network.{name}"] for name in ("product", "square"))
    return float(product / square)


@pytest.mark.parametrize(
    ("net", "expected"), [(chain(3), 3), (chain(12), 12), (chain(6, norm=True), 1)]
)
def test_the_degree_is_how_the_function_grows_with_its_weights(net, expected):
    """Measured from the function itself, and by the optimizer from gradients."""
    torch.manual_seed(0)
    for layer in net:
        if isinstance(layer, nn.Linear):
            nn.init.orthogonal_(layer.weight, gain=1.4)
    x = torch.randn(32, 16, dtype=double)
    grown = copy.deepcopy(net)
    with torch.no_grad():
        for weight in grown.parameters():
            weight.mul_(1.001)
        ratio = grown(x).norm() / net(x).norm()
    assert math.log(ratio) / math.log(1.001) == pytest.approx(expected, rel=1e-6)
    opt = untuned.Auto(net)
    for _ in range(3):
        opt.zero_grad()
        F.cross_entropy(net(x), torch.randint(16, (32,))).backward()
        opt.step()
    assert degree(opt) == pytest.approx(expected, rel=1e-6)


def trained(net, xs, scale=1.0, steps=10):
    opt = untuned.Auto(net)
    for step in range(steps):
        torch.manual_seed(step)
        opt.zero_grad()
        (scale * F.cross_entropy(net(xs), torch.randint(16, (len(xs),)))).backward()
        opt.step()
    return net


def test_the_unit_of_the_loss_does_not_matter():
    xs = torch.randn(32, 16, dtype=double)
    nets = [chain(4) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    one, other = (trained(net, xs, scale) for net, scale in zip(nets, (1.0, 1e-4), strict=True))
    for ours, theirs in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-9)


def test_the_unit_of_the_data_does_not_matter():
    """Data a thousand times smaller, first weights as many times larger: the same functions."""
    xs = torch.randn(32, 16, dtype=double)
    one, other = chain(4), chain(4)
    other.load_state_dict(one.state_dict())
    with torch.no_grad():
        other[0].weight.mul_(1000)
    trained(one, xs), trained(other, xs / 1000)
    torch.testing.assert_close(one(xs), other(xs / 1000), rtol=1e-4, atol=1e-7)


def test_hooks_look_once_in_training_and_are_gone():
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    opt = untuned.Auto(net)
    with torch.no_grad():
        net(torch.full((3, 4), 100.0))  # not training
    net.eval()(torch.full((3, 4), 100.0))
    net.train()(torch.full((3, 4), 0.5)).sum().backward()
    net(torch.full((3, 4), 7.0))  # the first look counts
    opt.step()
    assert opt.state[net[0].weight][INPUT] == 0.5
    assert opt.state[net[2].weight][INPUT] == 1.0  # what it sees is made by the network
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_networks_and_optimizers_can_be_copied_before_the_first_step():
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    opt = untuned.Auto(net)
    twin = copy.deepcopy(net)
    twin(torch.ones(3, 4)).sum().backward()
    copy.deepcopy(opt).step()
    net(torch.ones(3, 4)).sum().backward()
    before = snapshot(net)
    opt.step()
    assert not equal(before, snapshot(net))


def test_what_has_no_gradient_stays():
    """A matrix that the loss does not depend on, and one of which the gradients' squares vanish."""
    net = chain(4).float()
    before = snapshot(net)
    opt = untuned.Auto(net)
    for _ in range(3):
        for weight in net.parameters():
            weight.grad = torch.zeros_like(weight)
        net[2].weight.grad.fill_(1e-30)
        net[6].weight.grad.normal_()
        opt.step()
    after = snapshot(net)
    assert [equal(a, b) for a, b in zip(before, after, strict=True)] == [True, True, True, False]


def test_micro_batches_train_as_one_batch():
    xs = F.normalize(torch.randn(32, 16, dtype=double), dim=1) * 4  # every part of one size
    whole, parts = chain(4), chain(4)
    parts.load_state_dict(whole.state_dict())
    labels = torch.randint(16, (32,))
    for net, count in ((whole, 1), (parts, 4)):
        opt = untuned.Auto(net)
        for _ in range(10):
            opt.zero_grad()
            for x, y in zip(xs.chunk(count), labels.chunk(count), strict=True):
                (F.cross_entropy(net(x), y) / count).backward()
            opt.step()
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9)


def test_state_is_one_tensor_a_matrix_and_two_for_the_rest():
    net = Network()
    opt = untuned.Auto(net)
    net(torch.randint(11, (8, 9)), torch.randn(8, 3)).sum().backward()
    opt.step()
    for name, weight in net.named_parameters():
        full = [k for k, v in opt.state[weight].items() if v.shape == weight.shape and v.ndim]
        vector = weight.ndim < 2 or name.startswith(("table", "head"))
        assert sorted(full) == (["momentum", "square"] if vector else ["momentum"]), name
        rest = sum(v.numel() for k, v in opt.state[weight].items() if k not in full)
        assert rest <= 2 + 2 * max(8, weight.shape[0])
