"""The shell: everything that users do with a `torch.optim.Optimizer`."""

import math

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

import untuned
from support.networks import backward, perceptron, same, snapshot
from support.spies import Allocations
from untuned.rules import AGD


@pytest.mark.parametrize("rule", ["agd", "AGD()", "agd(gain=1)", "agd(1.0)", AGD()])
def test_a_rule_may_be_written_as_text(rule):
    opt = untuned.Optimizer(perceptron(), rule)
    assert opt.hyperparameters() == [[{"gain": 1.0}]]


def test_closures_return_the_loss_and_see_gradients_enabled():
    model = perceptron()
    opt = untuned.AGD(model)
    before, expected = snapshot(model), backward(model).item()

    def closure():
        opt.zero_grad()
        return backward(model)

    with torch.no_grad():
        loss = opt.step(closure)
    assert loss.item() == expected
    assert not same(model, before)
    assert opt.step() is None


def test_zero_grad():
    model = perceptron()
    opt = untuned.AGD(model)
    backward(model)
    opt.zero_grad()
    assert all(p.grad is None for p in model.parameters())
    backward(model)
    opt.zero_grad(set_to_none=False)
    assert all(not p.grad.any() for p in model.parameters())


def test_a_step_without_any_gradient_does_nothing():
    model = perceptron()
    opt, before = untuned.AGD(model), snapshot(model)
    opt.step()
    assert same(model, before)
    assert opt.skipped_steps == 0


def test_parameters_without_gradient_stay_and_do_not_count_as_layers():
    model, small = perceptron(), nn.Linear(6, 8)
    small.load_state_dict(model[0].state_dict())
    opt, reference = untuned.AGD(model), untuned.AGD(small)
    x = torch.randn(5, 6)
    for net in (model[0], small):
        net(x).square().mean().backward()
    before = snapshot(model[2])
    opt.step()
    reference.step()
    assert same(model[2], before)
    torch.testing.assert_close(model[0].weight, small.weight)


def test_frozen_parameters_stay_and_move_once_thawed():
    model = perceptron()
    model[0].requires_grad_(False)
    opt, before = untuned.AGD(model), snapshot(model[0])
    backward(model)
    opt.step()
    assert same(model[0], before)
    model[0].requires_grad_(True)
    opt.zero_grad()
    backward(model)
    opt.step()
    assert not same(model[0], before)


def test_tied_parameters_move_once():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.b(self.a(x))

    model = Tied()
    before = model.a.weight.detach().clone()
    opt = untuned.AGD(model)
    model(torch.randn(3, 4)).square().mean().backward()
    opt.step()
    eta = float(opt.param_groups[0]["effective_lr"])
    assert float((model.a.weight.detach() - before).norm()) == pytest.approx(eta, rel=1e-5)  # L = 1


def test_maximize_climbs_as_minimising_the_negative_descends():
    up, down = perceptron(), perceptron()
    down.load_state_dict(up.state_dict())
    climber, descender = untuned.AGD(up, maximize=True), untuned.AGD(down)
    backward(up)
    grads = [p.grad.clone() for p in up.parameters()]
    backward(down, sign=-1.0)
    climber.step()
    descender.step()
    for a, b in zip(up.parameters(), down.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    assert all(torch.equal(p.grad, g) for p, g in zip(up.parameters(), grads, strict=True))


@pytest.mark.parametrize("size", [0.0, 1.0, 1e15])
def test_lr_zero_moves_nothing_whatever_the_gradient(size):
    model = perceptron()
    opt, before = untuned.AGD(model, lr=0.0), snapshot(model)
    for param in model.parameters():
        param.grad = size * torch.randn_like(param)
    opt.step()
    assert same(model, before)
    assert float(opt.param_groups[0]["effective_lr"]) == 0.0


def paper_eta(model):
    """The paper's eta of a chain of two layers with biases, transcribed."""
    G = 0.0
    for layer in (model[0], model[2]):
        rows, columns = layer.weight.shape
        G += math.sqrt(rows / columns) * float(layer.weight.grad.norm()) / 2
        G += math.sqrt(rows) * float(layer.bias.grad.norm()) / 2
    return math.log((1 + math.sqrt(1 + 4 * G)) / 2)


SCHEDULERS = [
    lambda opt: lr_scheduler.LambdaLR(opt, lambda step: 0.5**step),
    lambda opt: lr_scheduler.LinearLR(opt, 0.5, 1.0, 3),
    lambda opt: lr_scheduler.CosineAnnealingLR(opt, 4),
    lambda opt: lr_scheduler.OneCycleLR(opt, 1.0, total_steps=6, cycle_momentum=False),
    lambda opt: lr_scheduler.SequentialLR(
        opt, [lr_scheduler.ConstantLR(opt, 0.1, 2), lr_scheduler.ExponentialLR(opt, 0.9)], [2]
    ),
]


@pytest.mark.parametrize("schedule", SCHEDULERS)
@pytest.mark.parametrize("tensor_lr", [False, True])
def test_schedulers_multiply_the_automatic_step(schedule, tensor_lr):
    model = perceptron()
    opt = untuned.AGD(model, lr=torch.tensor(1.0) if tensor_lr else 1.0)
    scheduler = schedule(opt)
    for _ in range(4):
        lr = float(opt.param_groups[0]["lr"])
        before = snapshot(model)
        opt.zero_grad()
        backward(model)
        opt.step()
        rate = float(opt.param_groups[0]["effective_lr"])
        moved = float((model[0].weight.detach() - before[0]).norm())
        assert moved == pytest.approx(rate / 2 * (8 / 6) ** 0.5, rel=1e-3)  # L = 2
        assert rate == pytest.approx(lr * paper_eta(model), rel=1e-4)
        scheduler.step()


def test_hooks_fire_once_a_step():
    model = perceptron()
    opt = untuned.AGD(model)
    fired = []
    opt.register_step_pre_hook(lambda *_: fired.append("before"))
    opt.register_step_post_hook(lambda *_: fired.append("after"))
    backward(model)
    opt.step()
    assert fired == ["before", "after"]


def test_a_rate_that_a_schedule_made_nonsense_of_is_an_error_and_nothing_moves():
    model = perceptron()
    opt, before = untuned.AGD(model), snapshot(model)
    backward(model)
    opt.param_groups[0]["lr"] = float("nan")
    with pytest.raises(untuned.errors.DomainError, match="lr=nan"):
        opt.step()
    assert same(model, before)


def test_maximize_needs_no_copy_of_the_gradients():
    weight = torch.randn(64, 64, requires_grad=True)
    weight.grad = torch.randn(64, 64)
    opt = untuned.AGD([weight], maximize=True)
    opt.step()
    with Allocations() as seen:
        opt.step()
    assert seen.largest < 100
