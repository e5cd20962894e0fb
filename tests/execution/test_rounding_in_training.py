"""Training of weights of 16 bits: what throws the dice that round them, and what does not."""

import copy
import math

import pytest
import torch
from torch import nn

import untuned
from support.networks import equal, same, snapshot
from untuned.errors import NonFiniteGradientWarning
from untuned.rules import AGD, SGD, Adam, FreeNero, Nero

RULES = [SGD(0.1), SGD(0.1, 0.9), Adam(), AGD(), FreeNero(), Nero(), Adam() / SGD(), AGD() / SGD()]

every_type = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
every_rule = pytest.mark.parametrize("rule", RULES, ids=str)


def trained(rule, dtype, seed=0, steps=5):
    """A network of some precision after some steps, and its optimizer."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).to(dtype)
    opt = untuned.Optimizer(model, rule, seed=seed)
    for _ in range(steps):
        step(model, opt)
    return model, opt


def step(model, opt):
    """A step along made up gradients."""
    for i, weight in enumerate(model.parameters()):
        weight.grad = torch.cos(torch.arange(weight.numel()) + i).view(weight.shape).to(weight)
    opt.step()


@every_type
@every_rule
def test_the_same_seed_throws_the_same_and_another_does_not(rule, dtype):
    model, opt = trained(rule, dtype, seed=3)
    replica, other = trained(rule, dtype, seed=3)
    assert same(replica, snapshot(model))
    assert equal(other.state_dict(), opt.state_dict())
    assert not same(trained(rule, dtype, seed=4)[0], snapshot(model))


@pytest.mark.usefixtures("_eyes")
@pytest.mark.parametrize("bad", [math.nan, math.inf])
@every_type
@every_rule
def test_what_is_no_number_is_never_written_and_throws_no_dice(rule, dtype, bad):
    model, opt = trained(rule, dtype, steps=2)
    before = snapshot(model)
    for weight in model.parameters():
        weight.grad.fill_(bad)
    with pytest.warns(NonFiniteGradientWarning):
        opt.step()
    assert same(model, before)
    step(model, opt)
    assert same(model, snapshot(trained(rule, dtype, steps=3)[0]))


@every_rule
def test_weights_of_32_bits_are_not_rounded_at_all(rule):
    model, opt = trained(rule, torch.float32, seed=3)
    assert same(trained(rule, torch.float32, seed=4)[0], snapshot(model))
    assert all("rounding.steps" not in group for group in opt.param_groups)


@pytest.mark.usefixtures("_eyes")
@every_type
@every_rule
def test_with_a_rate_of_zero_no_weight_moves(rule, dtype):
    model, opt = trained(rule, dtype)
    before = snapshot(model)
    for group in opt.param_groups:
        group["lr"] = 0.0
    step(model, opt)
    assert same(model, before)
    for weight in model.parameters():
        weight.grad.zero_()
    opt.step()
    assert same(model, before)


@pytest.mark.usefixtures("_eyes")
@every_type
@every_rule
def test_gradients_of_zero_move_nothing_that_has_no_momentum(rule, dtype):
    remembers = str(rule).startswith(("Adam", "SGD(lr=0.1, momentum"))
    model, opt = trained(rule, dtype, steps=0 if remembers else 3)
    before = snapshot(model)
    for _ in range(3):
        for weight in model.parameters():
            weight.grad = torch.zeros_like(weight)
        opt.step()
    assert same(model, before)


@every_type
@every_rule
def test_what_is_remembered_of_them_has_32_bits_and_keeps_them_when_loaded(rule, dtype):
    model, opt = trained(rule, dtype)
    fresh, other = trained(rule, dtype, steps=0)
    other.load_state_dict(copy.deepcopy(opt.state_dict()))
    for weight, its in zip(model.parameters(), fresh.parameters(), strict=True):
        assert equal(other.state[its], opt.state[weight])
        kept = {name: value for name, value in other.state[its].items() if "." not in name}
        assert all(value.dtype == torch.float32 for value in kept.values())


@pytest.mark.parametrize(("rule", "lr"), [(SGD(), 1e-3), (AGD(), 0.06)], ids=str)
def test_every_group_throws_dice_of_its_own(rule, lr):
    weights = [nn.Parameter(torch.ones(64, 64).bfloat16()) for _ in "ab"]
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    opt = untuned.Optimizer([{"params": [weight]} for weight in weights], rule, lr=lr)
    opt.step()
    up = [(weight.detach() != 1).double().flatten() for weight in weights]
    assert all(0.05 < each.mean() < 0.95 for each in up)
    assert abs(torch.corrcoef(torch.stack(up))[0, 1]) < 5 / 64  # 5 standard errors
