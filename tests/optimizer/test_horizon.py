"""A horizon: taken for no learning rate, passed with a word, and stated anew by who resumes."""

import warnings

import pytest
import torch
from torch import nn

import untuned
from untuned.errors import DomainError, HorizonWarning


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


def train(opt, net, steps):
    """By how much the horizon shortened each step, and the steps, from one, that said something."""
    rates, came = [], []
    for step in range(1, steps + 1):
        opt.zero_grad()
        net(torch.linspace(-1, 1, 12).view(3, 4)).square().mean().backward()
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            opt.step()
        came += [(step, each.category) for each in seen]
        group = opt.param_groups[0]
        unit = min(0.06, 0.4812118 / untuned.report(opt).degree)
        rates.append(float(group["effective_lr"] / group["floor0/network.believed"]) / unit)
    return rates, came


@pytest.mark.parametrize("steps", [10_000, 100, torch.tensor(500.0)])
def test_a_number_of_steps_is_no_learning_rate(steps):
    with pytest.raises(DomainError, match=f"write horizon={float(steps):g}"):
        untuned.Auto(network(), steps)
    assert untuned.Auto(network(), horizon=10_000).param_groups[0]["horizon"] == 10_000


def test_large_multipliers_are_still_possible():
    assert untuned.Auto(network(), 16.0).param_groups[0]["lr"] == 16.0


def test_past_the_horizon_steps_stay_as_short_as_the_last_and_one_warning_says_so():
    net = network()
    opt = untuned.Auto(net, horizon=12)
    rates, came = train(opt, net, 12)
    assert came == []
    before = opt.state_dict()["state"][0]["average.iterate"].clone()
    further, came = train(opt, net, 6)
    assert came == [(1, HorizonWarning)]
    assert not torch.equal(opt.state_dict()["state"][0]["average.iterate"], before)
    assert rates == pytest.approx([1 - t / 12 for t in range(12)], rel=1e-4)
    assert further == pytest.approx([1 / 12] * 6, rel=1e-4)


def test_no_op_steps_count_for_no_horizon():
    net = network()
    opt = untuned.Auto(net, horizon=3)
    for group in opt.param_groups:
        group["lr"] = 0.0
    assert train(opt, net, 6)[1] == []


def resumed(first, second, steps):
    """An optimizer built with a horizon, which has loaded the state of one with another."""
    net = network()
    opt = untuned.Auto(net, horizon=first)
    train(opt, net, steps)
    state = opt.state_dict()
    other = network()
    other.load_state_dict(net.state_dict())
    again = untuned.Auto(other, horizon=second)
    return other, again, state


def test_the_horizon_of_the_run_that_resumes_counts_and_says_so():
    """After its 10 steps the first run stands still; the second has 30 of its 40 before it."""
    net, opt, state = resumed(10, 40, 10)
    with pytest.warns(HorizonWarning, match="horizon=10.*horizon=40.*goes on with 40"):
        opt.load_state_dict(state)
    assert {group["horizon"] for group in opt.param_groups} == {40}
    rates, came = train(opt, net, 30)
    assert came == []
    assert rates == pytest.approx([1 - t / 40 for t in range(10, 40)], rel=1e-4)
    assert train(opt, net, 1)[1] == [(1, HorizonWarning)]


def test_a_horizon_that_was_not_known_before_may_be_stated_on_resuming():
    _, opt, state = resumed(None, 40, 5)
    with pytest.warns(HorizonWarning, match="no horizon"):
        opt.load_state_dict(state)
    assert {group["horizon"] for group in opt.param_groups} == {40}


@pytest.mark.parametrize("second", [None, 10])
def test_the_same_horizon_or_none_is_that_of_the_state(second):
    net, opt, state = resumed(10, second, 8)
    opt.load_state_dict(state)  # warnings are errors here
    assert {group["horizon"] for group in opt.param_groups} == {10}
    assert train(opt, net, 4)[1] == [(3, HorizonWarning)]
