"""Nero balances what it is given, once: an optimizer built anew changes nothing."""

import pytest
import torch
from torch import nn

import untuned
from support.networks import same, snapshot

TYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
every_type = pytest.mark.parametrize("dtype", TYPES, ids=str)
either = pytest.mark.parametrize("rule", ["nero", "nero.as_published()", "nero / sgd(lr=0.1)"])


def network(dtype):
    """Neurons of 1 to 70000 entries, with means that are not zero; one is dead."""
    model = nn.Sequential(
        nn.Linear(1, 5),
        nn.Linear(2, 5),
        nn.Linear(300, 40),
        nn.Linear(70_000, 3, bias=False),
        nn.Conv2d(6, 4, 3, groups=2),
        nn.ConvTranspose2d(4, 6, 3),
        nn.Embedding(9, 4),
        nn.LayerNorm(7),
        nn.LSTM(5, 6),
    )
    with torch.no_grad():
        for weight in model.parameters():
            weight += 3 * weight.abs().mean()
        model[2].weight[7] = 0
    return model.to(dtype)


def train(model, opt, steps):
    """Steps along gradients of very different sizes, some of them zero."""
    for i in range(steps):
        for weight in model.parameters():
            weight.grad = torch.randn_like(weight) * 10.0 ** -(i % 3)
        model[2].weight.grad[3] = 0
        opt.step()


@every_type
@either
def test_a_second_optimizer_finds_nothing_to_balance(rule, dtype):
    model = network(dtype)
    before = snapshot(model)
    untuned.Optimizer(model, rule)
    assert not same(model, before)
    before = snapshot(model)
    untuned.Optimizer(model, rule)
    assert same(model, before)


@every_type
@either
def test_nor_does_it_after_training(rule, dtype):
    model = network(dtype)
    opt = untuned.Optimizer(model, rule)
    for steps in (1, 10, 30):
        train(model, opt, steps)
        before = snapshot(model)
        untuned.Optimizer(model, rule)
        assert same(model, before)


@every_type
def test_only_what_has_left_its_place_is_brought_back(dtype):
    model = network(dtype)
    train(model, untuned.Nero(model), 5)
    before = snapshot(model)
    with torch.no_grad():
        model[2].weight[1] *= 3
        model[2].weight[4] += 1
    untuned.Nero(model)
    now, then = model[2].weight.detach(), before[4]
    kept = [row for row in range(40) if row not in (1, 4)]
    assert torch.equal(now[kept], then[kept])
    rounding = 40 * torch.finfo(dtype).eps
    for row in (1, 4):
        torch.testing.assert_close(now[row], then[row], rtol=rounding, atol=rounding)
