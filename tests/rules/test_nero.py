"""Nero against a plain transcription of arXiv:2102.07227, algorithm 1, in float64."""

import copy
import io
import math

import pytest
import torch
from torch import nn

import untuned
from support.networks import resnet
from support.neurons import network, rows


def transcription(weights, steps_of_grads, lr, beta, balanced):
    """Algorithm 1 with explicit loops over neurons."""
    weights = [w.clone() for w in weights]

    def balance(w):
        for row in rows(w) if w.ndim > 1 else ():
            row -= row.mean()
            row /= row.norm()

    for w in weights if balanced else ():
        balance(w)
    scales = []
    for w in weights:
        norms = [float(row.norm()) for row in (rows(w) if w.ndim > 1 else w)]
        scales.append(sum(norms) / len(norms) or 0.01)
    averages = [[0.0] * len(w) for w in weights]
    for t, grads in enumerate(steps_of_grads, start=1):
        for w, grad, scale, average in zip(weights, grads, scales, averages, strict=True):
            for i in range(len(w)):
                average[i] = beta * average[i] + (1 - beta) * float(grad[i].norm()) ** 2
                size = math.sqrt(average[i] / (1 - beta**t))
                w[i] -= lr * scale * grad[i] / size if size > 0 else 0
            if balanced:
                balance(w)
    return weights


@pytest.mark.parametrize("balanced", [True, False])
def test_steps_are_the_papers(balanced):
    shapes = [(4, 6), (4,), (3, 2, 3, 3), (5, 4)]
    start = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
    start[1].zero_()  # a bias: its scale is 0.01
    grads = [[torch.randn_like(w) for w in start] for _ in range(5)]
    expected = transcription(start, grads, lr=0.03, beta=0.9, balanced=balanced)
    params = [w.clone().requires_grad_() for w in start]
    opt = untuned.Nero(params, lr=0.03, beta=0.9, balanced=balanced)
    for step in grads:
        for param, grad in zip(params, step, strict=True):
            param.grad = grad
        opt.step()
    for param, weight in zip(params, expected, strict=True):
        torch.testing.assert_close(param.detach(), weight, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("lr", [0.003, 0.01, 0.03])
def test_a_neuron_turns_by_about_lr_where_gradients_are_stationary(lr):
    param = torch.randn(16, 256, requires_grad=True)
    opt = untuned.Nero([param], lr=lr)
    angles = []
    for _ in range(20):
        before = param.detach().clone()
        param.grad = torch.randn(16, 256)
        opt.step()
        cosine = torch.cosine_similarity(before, param.detach(), dim=1)
        angles.append(cosine.clamp(max=1).double().acos())
    assert float(torch.stack(angles).mean()) == pytest.approx(lr, rel=0.1)


def test_a_neuron_without_gradient_stays_and_the_others_turn():
    param = torch.randn(5, 8, requires_grad=True)
    opt = untuned.Nero([param])
    before = param.detach().clone()
    param.grad = torch.randn(5, 8)
    param.grad[2] = 0
    opt.step()
    moved = (param.detach() != before).any(dim=1)
    assert moved.tolist() == [True, True, False, True, True]


def test_lr_is_the_learning_rate_and_schedulers_multiply_it():
    model = network()
    opt = untuned.Nero(model)
    assert {group["lr"] for group in opt.param_groups} == {0.01}
    assert opt.hyperparameters()[0] == [{"lr": 0.01, "beta": 0.999}]
    scheduler = torch.optim.lr_scheduler.ExponentialLR(opt, 0.5)
    opt.step()
    scheduler.step()
    before = model[3].weight.detach().clone()
    opt.step()
    assert opt.param_groups[0]["effective_lr"] == 0.005
    turned = torch.cosine_similarity(before, model[3].weight.detach(), dim=1).double().acos()
    assert float(turned.mean()) == pytest.approx(0.005, rel=0.2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_resuming_is_exact_and_state_keeps_its_precision(dtype):
    straight, resumed = nn.Linear(6, 4).to(dtype), None
    resumed = copy.deepcopy(straight)
    grads = [torch.randn(4, 6, dtype=dtype) for _ in range(6)]

    def train(model, opt, some):
        for grad in some:
            model.weight.grad = grad
            opt.step()

    opt = untuned.Nero(straight)
    train(straight, opt, grads)
    first = untuned.Nero(resumed)
    train(resumed, first, grads[:3])
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = untuned.Nero(resumed)
    second.load_state_dict(torch.load(file, weights_only=True))
    assert all(v.dtype == torch.float32 for v in second.state[resumed.weight].values())
    train(resumed, second, grads[3:])
    assert torch.equal(resumed.weight, straight.weight)


def test_state_is_a_thousandth_of_a_square_layer_of_width_1024():
    layer = nn.Linear(1024, 1024, bias=False)
    layer.weight.grad = torch.randn(1024, 1024)
    opt = untuned.Nero(layer)
    opt.step()
    kept = sum(value.numel() * value.element_size() for value in opt.state[layer.weight].values())
    assert kept <= 0.002 * layer.weight.numel() * layer.weight.element_size()


def test_a_resnet_learns_the_digits(digits):
    from test_training import accuracy_of

    model = resnet()
    assert accuracy_of(model, untuned.Nero(model), digits, seed=0, steps=150) > 0.9


@pytest.mark.usefixtures("_eyes")
@pytest.mark.parametrize("balanced", [True, False])
def test_small_tensors_that_are_done_at_once_go_where_each_would_alone(balanced):
    """Side by side they are copied: rows of one length, whatever their shapes and strides."""
    shapes = [(8, 6), (2, 3), (5, 6), (4, 2, 3, 1), (6,), (3, 6), (9,), (2, 200, 100, 1)]
    together = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
    together[5] = torch.randn(6, 3, dtype=torch.float64).T
    apart = [weight.clone().requires_grad_() for weight in together]
    assert not together[5].requires_grad_().is_contiguous()
    opt = untuned.Nero([weight.requires_grad_() for weight in together], balanced=balanced)
    opts = [untuned.Nero([weight], balanced=balanced) for weight in apart]
    for _ in range(3):
        for one, other in zip(together, apart, strict=True):
            one.grad = torch.randn_like(one)
            one.grad[0] = 0  # a neuron that stays
            other.grad = one.grad.clone()
        for each in (opt, *opts):
            each.step()
    for one, other in zip(together, apart, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-13, atol=1e-15)


def test_neurons_of_a_transposed_convolution_are_its_output_channels():
    layer = nn.ConvTranspose2d(3, 5, (2, 4), bias=False, dtype=torch.float64)
    before = layer.weight.detach().clone()  # (in, out, kx, ky)
    layer.weight.grad = torch.randn_like(before)
    untuned.Nero(layer, balanced=False).step()
    (moved,) = transcription(
        [before.movedim(1, 0)], [[layer.weight.grad.movedim(1, 0)]], 0.01, 0.999, balanced=False
    )
    torch.testing.assert_close(layer.weight.detach(), moved.movedim(0, 1))
