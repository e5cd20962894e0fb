"""Every scheduler of torch on our `lr`: torch's SGD gets the same rates; steps go by them."""

import copy
import inspect

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler, swa_utils

import untuned
from untuned.rules import SGD, Adam

STEPS = 8


def chained(opt):
    return lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(opt, 0.5, 3), lr_scheduler.ExponentialLR(opt, 0.9)], opt
    )


def sequential(opt):
    return lr_scheduler.SequentialLR(
        opt, [lr_scheduler.LinearLR(opt, 0.1, 1.0, 3), lr_scheduler.CosineAnnealingLR(opt, 4)], [3]
    )


SCHEDULERS = {
    "LambdaLR": lambda opt: lr_scheduler.LambdaLR(opt, lambda t: 1 / (1 + t)),
    "MultiplicativeLR": lambda opt: lr_scheduler.MultiplicativeLR(opt, lambda t: 0.8),
    "StepLR": lambda opt: lr_scheduler.StepLR(opt, 2, 0.5),
    "MultiStepLR": lambda opt: lr_scheduler.MultiStepLR(opt, [1, 4], 0.3),
    "ConstantLR": lambda opt: lr_scheduler.ConstantLR(opt, 0.25, 3),
    "LinearLR": lambda opt: lr_scheduler.LinearLR(opt, 0.2, 1.0, 5),
    "ExponentialLR": lambda opt: lr_scheduler.ExponentialLR(opt, 0.7),
    "PolynomialLR": lambda opt: lr_scheduler.PolynomialLR(opt, STEPS, 2.0),
    "CosineAnnealingLR": lambda opt: lr_scheduler.CosineAnnealingLR(opt, 5),
    "CosineAnnealingWarmRestarts": lambda opt: lr_scheduler.CosineAnnealingWarmRestarts(opt, 3),
    "CyclicLR": lambda opt: lr_scheduler.CyclicLR(opt, 0.1, 0.9, 3, cycle_momentum=False),
    "OneCycleLR": lambda opt: lr_scheduler.OneCycleLR(opt, 0.9, STEPS + 1, cycle_momentum=False),
    "ReduceLROnPlateau": lambda opt: lr_scheduler.ReduceLROnPlateau(opt, patience=1),
    "ChainedScheduler": chained,
    "SequentialLR": sequential,
    "SWALR": lambda opt: swa_utils.SWALR(opt, 0.05, 4),
}

OPTIMIZERS = {
    "AGD": untuned.AGD,
    "Nero": untuned.Nero,
    "Adam / SGD": lambda params, lr: untuned.Optimizer(params, Adam() / SGD(), lr=lr),
}

every_scheduler = pytest.mark.parametrize("schedule", SCHEDULERS.values(), ids=SCHEDULERS)
every_optimizer = pytest.mark.parametrize("build", OPTIMIZERS.values(), ids=OPTIMIZERS)
every_lr = pytest.mark.parametrize("lr", [0.5, torch.tensor(0.5)], ids=["float", "tensor"])


def own(lr):
    """An lr that no other optimizer's schedule writes into."""
    return copy.deepcopy(lr)


def advance(scheduler, step):
    """One step; to those that ask for a loss, one that has stopped falling."""
    wants = "metrics" in inspect.signature(scheduler.step).parameters
    scheduler.step(*([1.0 + step] if wants else []))


def rate(opt):
    return float(opt.param_groups[0]["lr"])


def vector():
    """A vector, which no rule projects."""
    return nn.Parameter(torch.ones(4))


def test_the_table_has_every_scheduler_of_torch():
    found = {
        name
        for module in (lr_scheduler, swa_utils)
        for name, kind in vars(module).items()
        if inspect.isclass(kind) and issubclass(kind, lr_scheduler.LRScheduler)
    }
    assert found - {"LRScheduler", "_LRScheduler"} == set(SCHEDULERS)


@every_lr
@every_optimizer
@every_scheduler
def test_the_rates_are_those_of_torchs_sgd_and_the_steps_go_by_them(schedule, build, lr):
    """A twin without a schedule stands where each step starts, at a rate of 1."""
    weight, plain = vector(), vector()
    opt, reference = build([weight], own(lr)), torch.optim.SGD([plain], own(lr))
    start = opt.param_groups[0]["lr"]
    ours, theirs = schedule(opt), schedule(reference)
    rates = []
    for step in range(STEPS):
        weight.grad, plain.grad = torch.arange(1.0, 5.0), torch.arange(1.0, 5.0)
        twin_weight, twin = copy.deepcopy((weight, opt))
        twin.param_groups[0]["lr"] = 1.0
        twin_weight.grad = weight.grad.clone()
        before = weight.detach().clone()
        opt.step()
        reference.step()
        twin.step()
        rates.append(rate(opt))
        assert rates[-1] == pytest.approx(rate(reference), rel=1e-6)
        far = rates[-1] * (twin_weight.detach() - before)
        torch.testing.assert_close(weight.detach() - before, far, rtol=1e-3, atol=1e-6)
        assert far.abs().max() > 0 or rates[-1] == 0
        advance(ours, step)
        advance(theirs, step)
    assert max(rates) > 1.05 * min(rates)
    if isinstance(lr, torch.Tensor):
        assert opt.param_groups[0]["lr"] is start  # filled in place: others may hold it


@every_lr
@every_optimizer
def test_a_schedule_that_reaches_zero_moves_nothing_there(build, lr):
    weights = [nn.Parameter(torch.randn(5, 3)), vector()]
    opt = build(weights, own(lr))
    schedule = lr_scheduler.MultiStepLR(opt, [2, 4], gamma=0.0)
    for step in range(4):
        before = copy.deepcopy(weights)
        for weight in weights:
            weight.grad = torch.randn_like(weight)
        opt.step()
        same = [torch.equal(w, b) for w, b in zip(weights, before, strict=True)]
        assert same == [step >= 2] * 2
        schedule.step()


@every_lr
@every_optimizer
@every_scheduler
def test_states_of_scheduler_and_optimizer_go_on_where_they_were(schedule, build, lr):
    def steps(weight, opt, scheduler, span):
        rates = []
        for step in span:
            weight.grad = torch.arange(1.0, 5.0) / (1 + step)
            opt.step()
            advance(scheduler, step)
            rates.append(rate(opt))
        return rates

    weight, fresh = vector(), vector()
    opt = build([weight], own(lr))
    scheduler = schedule(opt)
    steps(weight, opt, scheduler, range(STEPS // 2))
    other = build([fresh], own(lr))
    resumed = schedule(other)
    fresh.data.copy_(weight.data)
    other.load_state_dict(copy.deepcopy(opt.state_dict()))
    resumed.load_state_dict(copy.deepcopy(scheduler.state_dict()))
    rest = range(STEPS // 2, STEPS)
    assert steps(fresh, other, resumed, rest) == steps(weight, opt, scheduler, rest)
    assert torch.equal(fresh, weight)
