"""Gradients that are not finite: the step is skipped whole, counted, and told of once."""

import copy
import warnings

import pytest
import torch
from torch import nn

import untuned
from support.networks import backward, equal, loss_of, numbers, perceptron, same, snapshot
from support.spies import Allocations, HostReads
from untuned.errors import NonFiniteGradientWarning
from untuned.optimizer import nonfinite as guard
from untuned.rules import AGD, SGD, Adam, FreeNero, Nero


def network():
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(12, 4), nn.LSTM(4, 5))
    for param in model.parameters():
        param.grad = torch.randn_like(param)
    return model


NAMES = [name for name, _ in network().named_parameters()]


@pytest.mark.usefixtures("_eyes")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_one_bad_number_anywhere_skips_the_whole_step_and_is_named(name, value):
    model = network()
    opt, before = untuned.AGD(model), snapshot(model)
    model.get_parameter(name).grad.view(-1)[1] = value
    with pytest.warns(NonFiniteGradientWarning, match=f"'{name}'"):
        opt.step()
    assert same(model, before)
    assert opt.skipped_steps == 1
    assert all(float(group["effective_lr"]) == 0.0 for group in opt.param_groups)


@pytest.mark.usefixtures("_eyes")
@pytest.mark.parametrize("rule", [AGD(), AGD().as_published()])
def test_training_goes_on_after_a_skip_and_warns_no_more(rule):
    model = network()
    opt = untuned.Optimizer(model, rule)
    opt.step()
    good, before = [p.grad.clone() for p in model.parameters()], snapshot(model)
    model[2].bias.grad[0] = float("nan")
    with pytest.warns(NonFiniteGradientWarning):
        opt.step()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opt.step()
        assert opt.skipped_steps == 2
        assert same(model, before)
        for param, grad in zip(model.parameters(), good, strict=True):
            param.grad = grad
        opt.step()
    assert opt.skipped_steps == 2
    assert not same(model, before)
    assert all(p.isfinite().all() for p in model.parameters())


@pytest.mark.usefixtures("_eyes")
@pytest.mark.parametrize("lr", [0.0, 1.0])
def test_gradients_whose_sum_overflows_are_skipped_too(lr):
    weights = [torch.ones((), requires_grad=True) for _ in range(2)]
    for weight in weights:
        weight.grad = torch.tensor(3e38)
    opt = untuned.AGD(weights, lr=lr)
    with pytest.warns(NonFiniteGradientWarning):
        opt.step()
    assert [weight.item() for weight in weights] == [1.0, 1.0]
    assert opt.skipped_steps == 1


def test_a_step_on_a_device_copies_no_more_than_one_tensor_at_a_time(monkeypatch):
    weights = [torch.zeros(64, 64, requires_grad=True) for _ in range(8)]
    for weight in weights:
        weight.grad = torch.randn(64, 64)
    opt = untuned.AGD(weights)
    monkeypatch.setattr(guard, "readable", lambda tensor: False)
    opt.step()
    with Allocations() as seen:
        opt.step()
    assert seen.largest == 64 * 64  # to clean a gradient that may not be finite


def test_the_count_starts_at_zero_and_an_unnamed_parameter_is_told_by_its_place():
    weights = [torch.zeros(2, 3, requires_grad=True), torch.zeros(4, 2, requires_grad=True)]
    opt = untuned.AGD(weights)
    assert opt.skipped_steps == 0
    weights[1].grad = torch.full((4, 2), float("nan"))
    with pytest.warns(NonFiniteGradientWarning, match=r"parameter 1 .*\(4, 2\)"):
        opt.step()


def test_where_the_host_may_not_look_the_same_weights_come_out(monkeypatch):
    seen = network()
    unseen = network()
    unseen.load_state_dict(seen.state_dict())
    for a, b in zip(seen.parameters(), unseen.parameters(), strict=True):
        b.grad = a.grad.clone()
    untuned.AGD(seen).step()
    monkeypatch.setattr(guard, "readable", lambda flag: False)
    untuned.AGD(unseen).step()
    assert same(seen, snapshot(unseen))


@pytest.mark.parametrize("rule", [AGD(), AGD().as_published(), Nero(), FreeNero()])
def test_a_step_asks_no_tensor_for_its_value(rule, monkeypatch):
    model = network()
    opt = untuned.Optimizer(model[:3], rule)
    opt.step()
    with HostReads() as on_cpu:
        opt.step()
    assert on_cpu.count == 0
    monkeypatch.setattr(guard, "readable", lambda flag: False)
    opt._guard.warned = True  # what has arrived on the host is the host's own to read
    with HostReads() as on_device:
        opt.step()
    assert on_device.count == 0
    with HostReads() as control:
        float(opt.param_groups[0]["effective_lr"] + torch.zeros(()))
    assert control.count == 1  # the check works


TOWERS = [
    Adam(0.1) / SGD(1.0),
    SGD(0.1).per_tensor("lr") / Adam(0.05),
    AGD() / SGD(),
    Nero() / AGD(),
]


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("tower", TOWERS, ids=str)
def test_a_batch_that_a_grad_scaler_drops_might_never_have_been(tower, clip):
    """Scales are powers of two, so that unscaled gradients are the twin's, bit for bit."""
    model = perceptron()
    opt = untuned.Optimizer(model, tower)
    twin_model, twin = copy.deepcopy((model, opt))
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=2)

    def step(bad):
        opt.zero_grad()
        scaler.scale(loss_of(model)).backward()
        if bad:
            model[0].weight.grad[0, 0] = float("inf")
        if clip:
            scaler.unscale_(opt)
            nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        scaler.step(opt)
        scaler.update()

    for i in range(6):
        if i in (0, 3):
            before, state = snapshot(model), copy.deepcopy(opt.state_dict())
            scale = scaler.get_scale()
            step(bad=True)
            assert scaler.get_scale() == scale / 2
            assert same(model, before)
            assert equal(opt.state_dict(), state)
        step(bad=False)
        twin.zero_grad()
        backward(twin_model)
        if clip:
            nn.utils.clip_grad_norm_(twin_model.parameters(), 0.1)
        twin.step()
        assert same(model, snapshot(twin_model))
    assert numbers(opt) == numbers(twin)
    assert opt.skipped_steps == 0  # the scaler never showed them


@pytest.mark.gpu
def test_on_a_gpu_no_step_waits_and_the_culprit_is_named_in_time():
    model = network().cuda()
    for param in model.parameters():
        param.grad = torch.randn_like(param)
    opt = untuned.AGD(model)
    opt.step()
    before = snapshot(model)
    model[2].bias.grad[0] = float("nan")
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        with pytest.warns(NonFiniteGradientWarning, match="2.bias"):
            for _ in range(1000):
                opt.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert same(model, before)
    assert opt.skipped_steps == 1000
