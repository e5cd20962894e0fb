"""The degree that Auto finds is that of what moves, whatever is frozen, shared or normed."""

import pytest
import torch
from torch import nn

import untuned
from support.chains import ORDERS, Chain, bare_chain, degree, heads, train
from support.networks import by_shape


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
