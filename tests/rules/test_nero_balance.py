"""Nero's neurons are balanced: mean zero, norm one, whatever holds them."""

import pytest
import torch
from torch import nn

import untuned
from support.networks import same, snapshot
from support.neurons import network, rows


def assert_balanced(model):
    for param in model.parameters():
        if param.ndim > 1:
            row = rows(param.detach())
            torch.testing.assert_close(row.mean(1), torch.zeros(len(row)), atol=1e-6, rtol=0)
            torch.testing.assert_close(row.norm(dim=1), torch.ones(len(row)))


def test_constructing_it_balances_weights_and_steps_keep_them_balanced():
    model = network()
    before = snapshot(model)
    opt = untuned.Nero(model)
    assert_balanced(model)
    vectors = [p for p in model.parameters() if p.ndim < 2]
    assert all(any(torch.equal(p, b) for b in before) for p in vectors)
    for _ in range(3):
        opt.step()
    assert_balanced(model)


def test_balanced_false_leaves_weights_where_they_are():
    model = network()
    before = snapshot(model)
    untuned.Nero(model, balanced=False)
    assert same(model, before)


def test_frozen_weights_are_left_as_they_are():
    model = network()
    model[3].requires_grad_(False)
    before = snapshot(model[3])
    untuned.Nero(model)
    assert same(model[3], before)
    torch.testing.assert_close(rows(model[0].weight.detach()).norm(dim=1), torch.ones(4))


@pytest.mark.parametrize("how", ["lr=0", "zero gradients"])
def test_nothing_moves_not_even_by_projection(how):
    model = network()
    opt = untuned.Nero(model)
    opt.step()
    with torch.no_grad():
        model[3].weight.mul_(1.001)  # off balance: a projection would be seen
    before = snapshot(model)
    if how == "lr=0":
        opt.param_groups[0]["lr"] = 0.0
        for group in opt.param_groups:
            group["lr"] = 0.0
    else:
        opt.zero_grad(set_to_none=False)
    opt.step()
    assert same(model, before)


def test_dead_neurons_make_no_nan_and_single_weights_keep_their_size():
    dead, single = torch.zeros(3, 4), torch.tensor([[2.0], [-3.0]])
    dead[1] = 1.0  # a constant row: nothing is left of it
    params = [dead.requires_grad_(), single.requires_grad_()]
    opt = untuned.Nero(params)
    assert params[1].flatten().tolist() == [2.0, -3.0]
    for _ in range(3):
        params[0].grad, params[1].grad = torch.zeros(3, 4), torch.ones(2, 1)
        opt.step()
    assert params[0].isfinite().all()
    assert not params[0].any()
    assert params[1].isfinite().all()


def test_neurons_of_transposed_convolutions_are_output_channels():
    module = nn.ConvTranspose2d(4, 6, 3, groups=2, bias=False)  # weight (4, 3, 3, 3)
    untuned.Nero(module)
    weight = module.weight.detach().view(2, 2, 3, 9)  # groups, in, out, offsets
    torch.testing.assert_close(weight.square().sum((1, 3)), torch.ones(2, 3))


def test_neurons_of_gpt2s_stored_transposed_weights_are_outputs():
    from transformers.pytorch_utils import Conv1D

    module = Conv1D(6, 4)  # weight (in 4, out 6)
    untuned.Nero(module)
    torch.testing.assert_close(module.weight.detach().norm(dim=0), torch.ones(6))
