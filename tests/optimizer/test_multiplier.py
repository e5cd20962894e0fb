"""An lr left in from another optimizer warns once; warm-ups, decays and no-op steps do not."""

import math
import warnings

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

import untuned
from untuned.errors import HorizonWarning, LearningRateWarning


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


def train(opt, net, steps, after=lambda step: None):
    """Train, and return which warnings came in which steps."""
    came = []
    for step in range(steps):
        opt.zero_grad()
        net(torch.linspace(-1, 1, 12).view(3, 4)).square().sum().backward()
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            opt.step()
        came += [(step, each.category, str(each.message)) for each in seen]
        after(step)
    return came


BUILD = {
    "Auto": untuned.Auto,
    "AGD": untuned.AGD,
    "tower": lambda net, lr=1.0: untuned.Optimizer(net, "adam / sgd", lr=lr),
}


@pytest.mark.parametrize("build", BUILD.values(), ids=BUILD)
@pytest.mark.parametrize("lr", [1e-3, torch.tensor(5e-5)])
def test_a_learning_rate_of_adamw_warns_once_with_the_mend(build, lr):
    net = network()
    came = train(build(net, lr=lr), net, 5)
    assert [(step, kind) for step, kind, _ in came] == [(1, LearningRateWarning)]
    assert "leave lr at 1.0" in came[0][2]


@pytest.mark.parametrize("build", BUILD.values(), ids=BUILD)
def test_multipliers_are_left_alone(build):
    for lr in (1.0, 0.25, 0.02, 4.0):
        net = network()
        assert train(build(net, lr=lr), net, 4) == []


def test_rules_with_a_learning_rate_of_their_own_may_have_a_small_one():
    for build in (untuned.Nero, lambda net, lr: untuned.Optimizer(net, "adam", lr=lr)):
        net = network()
        assert train(build(net, lr=1e-3), net, 4) == []


def test_a_small_group_beside_others_is_meant():
    net = network()
    opt = untuned.AGD([{"params": net[0], "lr": 0.01}, {"params": net[2]}])
    assert train(opt, net, 4) == []


def warm_up(opt):
    return lr_scheduler.LinearLR(opt, 1e-4, 1.0, 10)


def cosine(opt):
    return lr_scheduler.CosineAnnealingLR(opt, 10)


SOUND = {
    "warm-up": warm_up,
    "warm-up from 0": lambda opt: lr_scheduler.LambdaLR(opt, lambda step: step / 12),
    "cosine to 0": cosine,
    "both": lambda opt: lr_scheduler.SequentialLR(opt, [warm_up(opt), cosine(opt)], [10]),
    "one cycle": lambda opt: lr_scheduler.OneCycleLR(opt, 1.0, 20, cycle_momentum=False),
    "constant start": lambda opt: lr_scheduler.ConstantLR(opt, 0.01, 5),
    "cycles": lambda opt: lr_scheduler.CyclicLR(opt, 1e-3, 1.0, 4, cycle_momentum=False),
}


@pytest.mark.parametrize("schedule", SOUND.values(), ids=SOUND)
def test_schedules_whose_largest_value_is_a_multiplier_are_left_alone(schedule):
    net = network()
    opt = untuned.AGD(net)
    scheduler = schedule(opt)
    assert train(opt, net, 14, lambda _: scheduler.step()) == []


LEFT = {
    "one cycle": (lambda opt: lr_scheduler.OneCycleLR(opt, 3e-3, 20, cycle_momentum=False), 1.0),
    "cosine": (cosine, 1e-3),
    "warm-up": (warm_up, 1e-3),
    "constant": (lambda opt: lr_scheduler.LambdaLR(opt, lambda step: 1), 5e-5),
}


@pytest.mark.parametrize(("schedule", "lr"), LEFT.values(), ids=LEFT)
def test_schedules_of_other_optimizers_warn_once(schedule, lr):
    net = network()
    opt = untuned.AGD(net, lr=lr)
    scheduler = schedule(opt)
    came = train(opt, net, 19, lambda _: scheduler.step())
    assert [kind for _, kind, _ in came] == [LearningRateWarning]


def by_hand(largest, warm, steps):
    """As loops set it that have no scheduler: a linear warm-up, then a cosine to a tenth."""

    def rate(step):
        if step < warm:
            return largest * (step + 1) / (warm + 1)
        return largest * (0.55 + 0.45 * math.cos(math.pi * (step - warm) / (steps - warm)))

    return rate


@pytest.mark.parametrize(("largest", "count"), [(6e-4, 1), (1.0, 0)])
def test_a_loop_that_sets_the_rate_by_hand_is_seen_at_the_top(largest, count):
    net = network()
    opt, rate = untuned.AGD(net), by_hand(largest, 6, 20)

    def set_rate(step):
        for group in opt.param_groups:
            group["lr"] = rate(step + 1)

    set_rate(-1)
    came = train(opt, net, 20, set_rate)
    assert [kind for _, kind, _ in came] == [LearningRateWarning] * count
    assert all(step == 7 for step, _, _ in came)  # the first that is no longer than the last


def test_a_very_long_warm_up_of_another_optimizer_is_not_waited_for():
    net = network()
    opt = untuned.AGD(net, lr=1e-6)

    def rise(step):
        for group in opt.param_groups:
            group["lr"] += 1e-6

    came = train(opt, net, 310, rise)
    assert [(step, kind) for step, kind, _ in came] == [(299, LearningRateWarning)]


def test_steps_that_move_nothing_do_not_count():
    net = network()
    opt = untuned.AGD(net, lr=0.0)
    assert train(opt, net, 3) == []


def test_a_run_resumed_at_the_end_of_a_decay_is_left_alone():
    net = network()
    opt = untuned.AGD(net)
    train(opt, net, 2)
    state = opt.state_dict()
    for group in state["param_groups"]:
        group["lr"] = 0.004
    resumed = untuned.AGD(net)
    resumed.load_state_dict(state)
    assert train(resumed, net, 3) == []


def test_a_state_without_steps_as_accelerate_loads_it_hides_nothing():
    net = network()
    opt = untuned.AGD(net, lr=1e-3)
    opt.load_state_dict(opt.state_dict())
    assert [kind for _, kind, _ in train(opt, net, 3)] == [LearningRateWarning]


@pytest.mark.parametrize("horizon", [None, 20])
def test_a_schedule_that_decays_beside_a_horizon_warns_once(horizon):
    net = network()
    opt = untuned.Auto(net, horizon=horizon)
    scheduler = cosine(opt)
    came = train(opt, net, 8, lambda _: scheduler.step())
    assert [(step, kind) for step, kind, _ in came] == [(1, HorizonWarning)] * bool(horizon)


def test_a_warm_up_beside_a_horizon_is_sound():
    net = network()
    opt = untuned.Auto(net, horizon=20)
    scheduler = warm_up(opt)
    assert train(opt, net, 14, lambda _: scheduler.step()) == []
