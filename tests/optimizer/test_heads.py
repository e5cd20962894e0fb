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
from support.chains import ORDERS, Chain, bare_chain, degree, heads, train
from support.networks import equal
from untuned.geometry import Dense, Head


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
