"""Which matrix Auto takes for the head: the last of the pass, wherever it is declared."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.utils.checkpoint import checkpoint

import untuned
from support.networks import by_shape, equal, layers
from untuned.geometry import Dense, Head


def heads(opt):
    """The names of what moves as a head does."""
    return [
        name
        for group, its in zip(opt.param_groups, layers(opt), strict=True)
        for name, layer in zip(group["param_names"], its, strict=True)
        if isinstance(layer, Head)
    ]


def degree(opt):
    group = opt.param_groups[0]
    product, square = (group[f"floor0/network.{name}"] for name in ("product", "square"))
    return float(product / square)


def train(net, opt, steps=1, inputs=None, classes=8):
    losses = []
    for step in range(steps):
        torch.manual_seed(step)
        x = torch.randn(16, 8, dtype=torch.float64) if inputs is None else inputs
        opt.zero_grad()
        out = net(x)
        loss = F.cross_entropy(out, torch.randint(out.shape[-1], (len(out),)))
        loss.backward()
        losses.append(loss.item())
        opt.step()
    return losses


class Chain(nn.Module):
    """Layers that are applied in one order, and declared in another."""

    def __init__(self, order):
        super().__init__()
        self.depth = len(order)
        for number in order:
            layer = nn.Linear(8, 8, bias=False).double()
            torch.manual_seed(number)
            nn.init.orthogonal_(layer.weight, gain=1.4)
            setattr(self, f"layer{number}", layer)

    def forward(self, x):
        for number in range(self.depth):
            x = getattr(self, f"layer{number}")(x if number == 0 else F.relu(x))
        return x


ORDERS = {"in order": range(12), "first last": [*range(1, 12), 0], "reversed": range(11, -1, -1)}


def test_the_order_of_declarations_does_not_matter():
    found = {}
    for name, order in ORDERS.items():
        net = Chain(order)
        opt = untuned.Auto(net)
        found[name] = train(net, opt, 20)
        assert heads(opt) == ["layer11.weight"]
        assert degree(opt) == pytest.approx(12, rel=1e-6)
    assert found["in order"] == pytest.approx(found["first last"], rel=1e-12)
    assert found["in order"] == pytest.approx(found["reversed"], rel=1e-12)


@pytest.mark.parametrize("cut", [0, 5])
def test_training_resumes_with_the_head_that_it_had(cut):
    net = Chain(ORDERS["first last"])
    opt = untuned.Auto(net)
    train(net, opt, cut)
    other = copy.deepcopy(net)
    resumed = untuned.Auto(other)
    resumed.load_state_dict(opt.state_dict())
    assert heads(resumed) == heads(opt)
    assert train(net, opt, 6) == train(other, resumed, 6)
    assert heads(resumed) == ["layer11.weight"]
    assert equal(opt.state_dict(), resumed.state_dict())


def test_torchs_way_to_load_a_state_finds_the_head_too():
    """It makes a state of its own first, for the head that was declared."""
    net = Chain(ORDERS["first last"])
    opt = untuned.Auto(net)
    train(net, opt, 3)
    saved = copy.deepcopy(get_optimizer_state_dict(net, opt))
    other = Chain(ORDERS["first last"])
    other.load_state_dict(net.state_dict())
    resumed = untuned.Auto(other)
    set_optimizer_state_dict(other, resumed, saved)
    assert heads(resumed) == ["layer11.weight"]
    assert train(net, opt, 6) == train(other, resumed, 6)


def test_a_finder_of_learning_rates_does_not_lose_the_head():
    net = Chain(ORDERS["first last"])
    opt = untuned.Auto(net)
    before = copy.deepcopy(opt.state_dict())
    train(net, opt, 12)
    opt.load_state_dict(before)
    train(net, opt)
    assert heads(opt) == ["layer11.weight"]


class Odd(nn.Module):
    """Networks whose head is no `Linear` that was declared last."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        if kind == "convolution":
            self.head = nn.Conv1d(8, 5, 1, bias=False)
        elif kind == "own":
            self.head = nn.Parameter(torch.randn(5, 8) / 3)
        elif kind == "table":
            self.head = nn.Embedding(5, 8)
        self.body, self.inner = (nn.Linear(8, 8, bias=False) for _ in range(2))

    def forward(self, x):
        x = torch.relu(self.inner(torch.relu(self.body(x))))
        if self.kind == "convolution":
            return self.head(x[..., None])[..., 0]
        return F.linear(x, self.head if self.kind == "own" else self.head.weight)


@pytest.mark.parametrize("kind", ["convolution", "own", "table"])
def test_heads_of_other_kinds_are_found(kind):
    net = Odd(kind).double()
    opt = untuned.Auto(net)
    count = len(opt.param_groups)
    train(net, opt, 3)
    assert heads(opt) == ["head" if kind == "own" else "head.weight"]
    assert len(opt.param_groups) == count
    names = sorted(name for group in opt.param_groups for name in group["param_names"])
    assert names == sorted(name for name, _ in net.named_parameters())
    assert degree(opt) == pytest.approx(3, rel=1e-6)
    resumed = untuned.Auto(net)
    resumed.load_state_dict(opt.state_dict())
    assert heads(resumed) == heads(opt)


def bare_chain(depth):
    torch.manual_seed(0)
    layers = [nn.Linear(8, 8, bias=False) for _ in range(depth)]
    for layer in layers:
        nn.init.orthogonal_(layer.weight, gain=1.4)
    return nn.Sequential(*(m for layer in layers for m in (layer, nn.ReLU())))[:-1].double()


def test_before_a_frozen_head_the_last_matrix_that_moves_gives_the_degree():
    net = bare_chain(6)
    net[-1].requires_grad_(False)
    opt = untuned.Auto(net)
    train(net, opt, 3)
    assert degree(opt) == pytest.approx(5, rel=1e-6)
    assert heads(opt) == ["10.weight"]  # it stays, for when it thaws


def test_what_moves_as_a_head_has_no_matrix_after_it():
    """Declared last, but first in the pass, before a frozen head."""
    net = Chain(ORDERS["first last"])
    net.layer11.requires_grad_(False)
    opt = untuned.Auto(net)
    train(net, opt, 3)
    assert heads(opt) == []
    assert degree(opt) == pytest.approx(11, rel=1e-6)


@pytest.mark.parametrize("turn", ["upper half", "lower half"])
def test_the_degree_is_that_of_what_moves(turn):
    """Also just after other tensors begin to."""
    net = bare_chain(6)
    halves = net[:6], net[6:]
    opt = untuned.Auto(net)
    first, second = halves if turn == "upper half" else halves[::-1]
    for part, other in ((first, second), (second, first)):
        part.requires_grad_(True)
        other.requires_grad_(False)
        train(net, opt)
        assert degree(opt) == pytest.approx(3, rel=1e-6)
    net.requires_grad_(True)
    train(net, opt)
    assert degree(opt) == pytest.approx(6, rel=1e-6)


def test_bare_tensors_have_the_degree_of_a_chain():
    net = bare_chain(6)
    opt = untuned.Auto(by_shape(net))
    train(net, opt, 3)
    assert degree(opt) == pytest.approx(6, rel=1e-6)


class Tasks(nn.Module):
    """Two heads on one body, and its features besides."""

    def __init__(self):
        super().__init__()
        self.body = bare_chain(3)
        self.one, self.other = (nn.Linear(8, 5, bias=False).double() for _ in range(2))

    def forward(self, x):
        features = torch.relu(self.body(x))
        return {"features": features, "one": self.one(features), "other": self.other(features)}


def test_several_heads_count_as_one():
    net = Tasks()
    opt = untuned.Auto(net)
    for _ in range(3):
        opt.zero_grad()
        made = net(torch.randn(16, 8, dtype=torch.float64))
        (made["one"].square().mean() - made["other"].square().mean() / 2).backward()
        opt.step()
    assert degree(opt) == pytest.approx(4, rel=1e-6)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoints_do_not_hide_the_head(reentrant):
    class Checkpointed(Chain):
        def forward(self, x):
            x = self.layer0(x)
            for number in (1, 2):
                layer = getattr(self, f"layer{number}")
                x = checkpoint(lambda y, f=layer: f(F.relu(y)), x, use_reentrant=reentrant)
            return self.layer3(F.relu(x))

    net = Checkpointed([3, 2, 1, 0])
    opt = untuned.Auto(net)
    train(net, opt, 2)
    assert heads(opt) == ["layer3.weight"]
    assert degree(opt) == pytest.approx(4, rel=1e-6)


def test_of_compiled_networks_the_last_layer_called_is_the_head():
    torch._dynamo.reset()
    net = Chain([3, 2, 1, 0])
    opt = untuned.Auto(net)
    train(torch.compile(net, backend="aot_eager"), opt, 2)
    assert heads(opt) == ["layer3.weight"]
    assert degree(opt) == pytest.approx(4, rel=1e-6)


def test_of_two_modules_one_has_the_head():
    net = bare_chain(4)
    opt = untuned.Auto([{"params": net[:4]}, {"params": net[4:]}])
    train(net, opt, 2)
    assert heads(opt) == ["6.weight"]
    assert degree(opt) == pytest.approx(4, rel=1e-6)


def test_learning_rates_stay_with_their_tensors():
    """And with their groups, wherever the head is found."""
    net = Chain([2, 1, 0])
    one, other = nn.ModuleList([net.layer1]), nn.ModuleList([net.layer2, net.layer0])
    opt = untuned.Auto([{"params": one, "lr": 2.0}, {"params": other, "lr": 3.0}])
    train(net, opt, 2)
    assert [group["lr"] for group in opt.param_groups] == [2.0, 3.0]
    assert opt.param_groups[0]["params"] == [net.layer1.weight]
    assert opt.param_groups[1]["params"] == [net.layer2.weight, net.layer0.weight]
    assert heads(opt) == ["0.weight"]  # of the second group
    assert degree(opt) == pytest.approx(3, rel=1e-6)


def test_layers_that_thaw_later_are_no_heads():
    """Each module that is given has a last matrix; what was trained before stays the head."""
    net = bare_chain(4)
    net[:4].requires_grad_(False)
    opt = untuned.Auto(net[4:])
    train(net, opt, 3)
    for part in (net[2:4], net[:2]):
        part.requires_grad_(True)
        opt.add_param_group({"params": part})
        train(net, opt, 3)
        assert heads(opt) == ["6.weight"]
    assert all("square" in opt.state[p] for p in net[6].parameters())
    assert not any("square" in opt.state[p] for p in net[:6].parameters())


def test_a_head_that_is_stated_of_bare_tensors_stays():
    net = bare_chain(3)
    stated = {"params": [("last", net[4].weight)], "layer": Head(Dense())}
    opt = untuned.Auto([{"params": net[:4]}, stated])
    train(net, opt, 2)
    assert "last" in heads(opt)


class Language(nn.Module):
    """A table of which rows are looked up, and which may be the head too."""

    def __init__(self, tied, deep=True):
        super().__init__()
        self.table = nn.Embedding(8, 8)
        if not tied:
            self.head = nn.Linear(8, 8, bias=False)
        if deep:
            self.one, self.two = (nn.Linear(8, 8, bias=False) for _ in range(2))
        self.tied, self.deep = tied, deep

    def forward(self, tokens):
        x = self.table(tokens)
        if self.deep:
            x = torch.relu(self.two(torch.relu(self.one(x))))
        return F.linear(x, self.table.weight) if self.tied else self.head(x)


@pytest.mark.parametrize(("tied", "deep"), [(True, True), (False, True), (False, False)])
def test_rows_that_are_looked_up_are_no_factors(tied, deep):
    net = Language(tied, deep).double()
    opt = untuned.Auto(net)
    train(net, opt, 2, inputs=torch.randint(8, (16,)))
    expected = ["table.weight" if tied else "head.weight"]
    assert heads(opt) == expected
    assert [layer.name for layer in untuned.report(opt).layers if layer.head] == expected


class Normed(nn.Module):
    """Norms and a residual, declared out of order."""

    def __init__(self):
        super().__init__()
        self.head, self.norm = nn.Linear(8, 5, bias=False), nn.LayerNorm(8, eps=0.0)
        self.up, self.down = nn.Linear(8, 16, bias=False), nn.Linear(16, 8, bias=False)

    def forward(self, x):
        return self.head(self.norm(x + self.down(torch.relu(self.up(x)))))


def test_a_norm_before_the_head_has_degree_one():
    net = Normed().double()
    opt = untuned.Auto(net)
    train(net, opt, 5)
    assert heads(opt) == ["head.weight"]
    assert degree(opt) < 3  # the norm has no degree, whatever comes before it
