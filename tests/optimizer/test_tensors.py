"""Tensors that are not plain ones: of 16 bits, in another order of memory, without memory."""

import contextlib
import copy

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import untuned
from support.networks import perceptron, snapshot


def test_half_precision_and_mixed_precision_parameters():
    model = perceptron()
    model[0].to(torch.bfloat16)
    model[2].to(torch.float64)
    opt = untuned.AGD(model)
    before = snapshot(model)
    for param in model.parameters():
        param.grad = torch.randn_like(param)
    opt.step()
    for param, old in zip(model.parameters(), before, strict=True):
        assert param.dtype == old.dtype
        assert not torch.equal(param, old)


def test_channels_last_convolutions_move_as_contiguous_ones():
    plain = nn.Conv2d(4, 6, 3, groups=2)
    last = copy.deepcopy(plain).to(memory_format=torch.channels_last)
    x = torch.randn(2, 4, 5, 5)
    for net in (plain, last):
        opt = untuned.AGD(net)
        net(x).square().mean().backward()
        opt.step()
    torch.testing.assert_close(plain.weight, last.weight)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(4,), (4, 4), (4, 4, 3, 3), ()])
def test_small_gradients_of_16_bit_weights_do_not_overflow(dtype, shape):
    """Their coefficient, eta * radius / ||g||, is too large for float16; the step is not."""
    weight = torch.ones(shape, dtype=dtype, requires_grad=True)
    other = torch.randn(8, 8, requires_grad=True)
    weight.grad, other.grad = torch.full_like(weight, 1e-6), torch.randn(8, 8)
    opt = untuned.AGD([weight, other])
    opt.step()
    assert weight.isfinite().all()
    assert (weight < 1).all()
    assert opt.skipped_steps == 0


@pytest.mark.parametrize(
    "rule", ["agd", "nero", "adam", "adam / sgd", "sgd.per_tensor('lr') / sgd"]
)
def test_fake_tensors_take_a_step_and_leave_nothing_behind(rule):
    """Estimators of memory, and tracers, step on tensors that have only shapes."""

    def step():
        model = nn.Linear(37, 11)
        opt = untuned.Optimizer(model, rule)
        for _ in range(2):
            opt.zero_grad()
            model(torch.rand(2, 37)).sum().backward()
            opt.step()
        return model

    for mode in (contextlib.nullcontext(), FakeTensorMode()):  # nor do they mind what is there
        with mode:
            step()
    before = nn.Linear(37, 11).weight
    assert not torch.equal(step().weight, before)
