"""How many matrices take turns: from operations counted by hand; and what a turn is."""

import copy
import math

import pytest
import torch
from torch import nn

import untuned
from support.networks import equal
from untuned.inference import turns as rule_of_turns


@pytest.fixture(autouse=True)
def small_counts_as_large(monkeypatch):
    monkeypatch.setattr(rule_of_turns, "WIDE", 4)


def train(net, opt, batches):
    for batch in batches:
        opt.zero_grad()
        net(batch).square().mean().backward()
        opt.step()


def turns(net, batch, steps=10):
    """What the groups say after the look."""
    opt = untuned.Auto(net)
    train(net, opt, [batch] * steps)
    (k,) = {group["turns"] for group in opt.param_groups}
    return k


def square(m, n):
    """Operations of five steps of Newton-Schulz: X X^T, its square, and their product with X."""
    return 5 * (2 * m * m * n + 2 * m**3 + 2 * m * m * n)


def expected(duals, passes):
    return min(4, max(1, math.ceil(2 * duals / passes)))


def test_a_chain_pays_for_its_duals_by_its_batch():
    layers = nn.Linear(24, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 5)
    duals, entries = square(24, 32) + square(32, 32), 24 * 32 + 32 * 32 + 32 * 5
    by_rows = {rows: expected(duals, 6 * rows * entries) for rows in (8, 100, 150, 200, 1000)}
    assert set(by_rows.values()) == {1, 2, 3, 4}
    for rows, k in by_rows.items():
        assert turns(nn.Sequential(*layers), torch.randn(rows, 24)) == k


def test_positions_are_rows():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(800, 4))
    images, positions = 3, 100
    passes = 6 * images * (positions * 8 * 3 * 9 + 800 * 4)
    k = expected(9 * square(3, 8), passes)
    assert turns(net, torch.randn(images, 3, 10, 10)) == k == 1

    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.out = nn.LSTM(6, 10, batch_first=True), nn.Linear(10, 4)

        def forward(self, x):
            return self.out(self.lstm(x)[0])

    sequences, length = 2, 20
    passes = 6 * sequences * length * (4 * 10 * 6 + 4 * 10 * 10 + 10 * 4)
    k = expected(4 * (square(6, 10) + square(10, 10)), passes)
    assert turns(Recurrent(), torch.randn(sequences, length, 6)) == k == 2


def test_micro_batches_pay_together():
    net = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32))
    opt = untuned.Auto(net)
    for _ in range(10):
        opt.zero_grad()
        for _ in range(20):
            net(torch.randn(10, 32)).square().mean().backward()
        opt.step()
    k = expected(square(32, 32), 6 * 200 * 2 * 32 * 32)
    assert {group["turns"] for group in opt.param_groups} == {k}
    assert k < 4


def test_what_is_frozen_pays_too():
    frozen = nn.Sequential(*[nn.Linear(32, 32) for _ in range(50)]).requires_grad_(False)
    ends = nn.Linear(32, 32), nn.Linear(32, 2)
    assert turns(nn.Sequential(ends[0], frozen, ends[1]), torch.randn(16, 32)) == 1
    assert turns(nn.Sequential(*ends), torch.randn(16, 32)) == 4


def test_who_states_a_number_keeps_it():
    net = nn.Sequential(nn.Linear(32, 32), nn.Linear(32, 2))
    opt = untuned.Auto([{"params": net, "turns": 1}])
    train(net, opt, [torch.randn(4, 32)] * 10)
    assert {group["turns"] for group in opt.param_groups} == {1}


def test_after_forty_steps_each_matrix_moves_in_its_turn_alone():
    torch.manual_seed(0)
    net = nn.Sequential(*[nn.Linear(16, 16, bias=False) for _ in range(6)], nn.Linear(16, 2))
    opt = untuned.Auto(net, average=False)
    moved = []
    for _ in range(48):
        before = [layer.weight.detach().clone() for layer in net]
        momentum = [copy.deepcopy(opt.state.get(layer.weight, {})) for layer in net]
        train(net, opt, [torch.randn(4, 16)])
        now = [layer.weight.detach() for layer in net]
        moved.append([not torch.equal(*pair) for pair in zip(before, now, strict=True)])
        for layer, old in zip(net, momentum, strict=True):
            if old:
                assert not torch.equal(opt.state[layer.weight]["momentum"], old["momentum"])
    assert all(map(all, moved[:40]))
    hidden = torch.tensor([each[:-1] for each in moved[40:]])
    assert hidden[:4].sum(0).eq(1).all()  # once in four steps
    assert hidden[:4].equal(hidden[4:])
    assert hidden.any(1).all()  # never all at once
    assert all(each[-1] for each in moved)  # the head moves always


def test_a_run_goes_on_in_its_turn():
    torch.manual_seed(0)
    layers = nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 2)
    net = nn.Sequential(*layers)
    opt = untuned.Auto(net)
    batches = torch.randn(55, 4, 16)
    train(net, opt, batches[:45])
    other = copy.deepcopy(net)
    resumed = untuned.Auto(other)
    resumed.load_state_dict(copy.deepcopy(opt.state_dict()))
    for model, optimizer in ((net, opt), (other, resumed)):
        train(model, optimizer, batches[45:])
    assert equal(net.state_dict(), other.state_dict())


@pytest.mark.parametrize(("width", "k"), [(252, 1), (256, 4)])
def test_only_large_matrices_take_turns(monkeypatch, width, k):
    monkeypatch.undo()
    net = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2))
    assert turns(net, torch.randn(2, width)) == k
