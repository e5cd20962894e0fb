"""AGD against a plain transcription of arXiv:2304.05187, algorithm 1, in float64."""

import math

import pytest
import torch
from torch import nn

import untuned
from untuned.geometry import Conv, Dense
from untuned.rules import AGD


def eta_of(G: float) -> float:
    return math.log((1 + math.sqrt(1 + 4 * G)) / 2)


def fans(weight):
    return math.sqrt(weight.shape[0] / weight.shape[1])


def transcription(weights, grads, gain=1.0):
    """One step on matrices and convolutions with explicit loops; returns new weights and eta."""
    L, G = len(weights), 0.0
    pieces = []
    for weight, grad in zip(weights, grads, strict=True):
        scale = fans(weight) / math.sqrt(math.prod(weight.shape[2:]))
        for offset in torch.cartesian_prod(*map(torch.arange, (1, *weight.shape[2:]))).view(
            -1, weight.ndim - 1
        ):
            where = (slice(None), slice(None), *offset[1:].tolist())
            pieces.append((weight, where, scale, grad[where]))
            G += scale * math.sqrt(float((grad[where] ** 2).sum())) / L
    new = [weight.clone() for weight in weights]
    for weight, where, scale, grad in pieces:
        index = next(i for i, w in enumerate(weights) if w is weight)
        norm = math.sqrt(float((grad**2).sum()))
        if norm > 0:
            new[index][where] -= gain * eta_of(G) / L * scale * grad / norm
    return new, eta_of(G)


def problem(*shapes):
    params = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    for param in params:
        param.grad = torch.randn_like(param)
    return params


SHAPES = [[(7, 5)], [(7, 5), (5, 9), (2, 2)], [(6, 4, 3, 3), (5, 6)], [(4, 3, 5), (3, 2, 2, 3, 2)]]


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("gain", [1.0, 3.0])
def test_a_step_is_the_papers(shapes, gain):
    params = problem(*shapes)
    expected, eta = transcription([p.detach() for p in params], [p.grad for p in params], gain)
    layer = Conv() if len(shapes[0]) == 3 else None  # or it would be a stack of matrices
    opt = untuned.AGD([{"params": params, "layer": layer}], gain=gain)
    opt.step()
    assert float(opt.param_groups[0]["effective_lr"]) == pytest.approx(eta, rel=1e-12)
    for param, new in zip(params, expected, strict=True):
        torch.testing.assert_close(param.detach(), new, rtol=1e-12, atol=1e-14)


def test_depth_and_eta_span_all_groups():
    together, apart = problem((7, 5), (5, 9), (2, 2)), None
    apart = [p.detach().clone().requires_grad_() for p in together]
    for a, b in zip(apart, together, strict=True):
        a.grad = b.grad.clone()
    untuned.AGD(together).step()
    untuned.AGD([{"params": [p]} for p in apart]).step()
    for a, b in zip(apart, together, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=0)


def test_each_group_has_its_own_lr_and_gain():
    params = problem((7, 5), (5, 9), (2, 2))
    before = [p.detach().clone() for p in params]
    plain, eta = transcription(before, [p.grad for p in params])
    opt = untuned.AGD(
        [
            {"params": params[:1], "lr": 0.5},
            {"params": params[1:2], "gain": 3.0},
            {"params": params[2:]},
        ]
    )
    opt.step()
    for param, old, new, factor in zip(params, before, plain, (0.5, 3.0, 1.0), strict=True):
        torch.testing.assert_close(
            param.detach() - old, factor * (new - old), rtol=1e-9, atol=1e-12
        )
    rates = [float(group["effective_lr"]) for group in opt.param_groups]
    assert rates == pytest.approx([0.5 * eta, eta, eta])


def test_a_vector_moves_by_eta_over_depth_in_root_mean_square():
    params = problem((7, 5), (7,), (3, 7))
    before = params[1].detach().clone()
    opt = untuned.AGD(params)
    opt.step()
    eta = float(opt.param_groups[0]["effective_lr"])
    moved = params[1].detach() - before
    assert float(moved.square().mean().sqrt()) == pytest.approx(eta / 2)  # two matrices, L = 2
    assert torch.cosine_similarity(moved, -params[1].grad, dim=0) == pytest.approx(1.0)


def test_where_nothing_is_a_matrix_each_tensor_is_a_layer():
    params = problem((4,), ())
    G = (math.sqrt(4) * float(params[0].grad.norm()) + float(params[1].grad.abs())) / 2
    opt = untuned.AGD(params)
    opt.step()
    assert float(opt.param_groups[0]["effective_lr"]) == pytest.approx(eta_of(G))


@pytest.mark.parametrize("parts", [2, 3, 4])
@pytest.mark.parametrize("transposed", [False, True])
def test_fused_matrices_move_as_they_would_apart(parts, transposed):
    apart = problem(*[(6, 4)] * parts)
    bystanders = [p.detach().clone().requires_grad_() for p in apart[:1]]
    bystanders[0].grad = apart[0].grad.clone()
    join = (lambda ts: torch.cat([t.T for t in ts], 1)) if transposed else torch.cat
    fused = join([p.detach() for p in apart]).clone().requires_grad_()
    fused.grad = join([p.grad for p in apart])
    before = fused.detach().clone()
    layer = Dense(parts, transposed)
    opt = untuned.AGD([{"params": [fused], "layer": layer}])
    opt.step()
    # the sum over parts is the same, the depth is one instead of `parts`
    G = sum(fans(p) * float(p.grad.norm()) for p in apart)
    assert float(opt.param_groups[0]["effective_lr"]) == pytest.approx(eta_of(G))
    expected = join([-eta_of(G) * fans(p) * p.grad / p.grad.norm() for p in apart])
    torch.testing.assert_close(fused.detach() - before, expected)


def test_grouped_convolution_moves_as_its_groups_would_apart():
    weight = problem((6, 2, 3, 3))[0]
    before, grad = weight.detach().clone(), weight.grad
    model = nn.Conv2d(6, 6, 3, groups=3, bias=False).double()
    model.weight = nn.Parameter(before.clone())
    model.weight.grad = grad
    opt = untuned.AGD(model)
    opt.step()
    eta = float(opt.param_groups[0]["effective_lr"])
    moved = model.weight.detach() - before
    for group in range(3):
        rows = slice(2 * group, 2 * group + 2)
        unit = grad[rows] / grad[rows].norm()
        torch.testing.assert_close(moved[rows], -eta * math.sqrt(2 / 2) * unit)
    assert eta == pytest.approx(
        eta_of(sum(float(grad[2 * g : 2 * g + 2].norm()) for g in range(3)))
    )


@pytest.mark.parametrize("rule", [AGD(), AGD().as_published()])
def test_zero_gradients_of_a_tensor_or_a_submatrix_move_nothing_there(rule):
    params = problem((5, 4, 3, 3), (5, 5), (5,), (3, 5))
    params[0].grad[:, :, 1, 2] = 0
    params[1].grad.zero_()
    before = [p.detach().clone() for p in params]
    untuned.Optimizer(params, rule).step()
    assert all(p.isfinite().all() for p in params)
    assert torch.equal(params[0][:, :, 1, 2], before[0][:, :, 1, 2])
    assert not torch.equal(params[0], before[0])
    assert torch.equal(params[1], before[1])
    assert not torch.equal(params[3], before[3])


@pytest.mark.parametrize("rule", [AGD(), AGD().as_published()])
def test_all_zero_gradients_move_nothing(rule):
    params = problem((5, 4), (5,))
    for param in params:
        param.grad.zero_()
    before = [p.detach().clone() for p in params]
    untuned.Optimizer(params, rule).step()
    assert all(torch.equal(p, b) for p, b in zip(params, before, strict=True))


@pytest.mark.parametrize("size", [1e-30, 1e-12, 1.0, 1e12])
def test_eta_keeps_its_precision_at_any_size_of_the_gradient(size):
    param = torch.ones(4, 4, requires_grad=True)
    param.grad = torch.full((4, 4), size)
    opt = untuned.AGD([param])
    opt.step()
    G = 4 * size  # ||g||_F of a 4 x 4 constant
    exact = math.log1p(G / (0.5 + math.sqrt(0.25 + G)))
    rate = float(opt.param_groups[0]["effective_lr"])
    assert rate == pytest.approx(exact if size > 1e-20 else 0.0, rel=1e-5, abs=1e-28)


def test_the_direction_does_not_depend_on_the_size_of_the_loss():
    once, scaled = problem((7, 5), (3, 7)), None
    scaled = [p.detach().clone().requires_grad_() for p in once]
    for a, b in zip(scaled, once, strict=True):
        a.grad = 1000 * b.grad
    steps = []
    for params in (once, scaled):
        before = [p.detach().clone() for p in params]
        untuned.AGD(params).step()
        steps.append([p.detach() - b for p, b in zip(params, before, strict=True)])
    ratios = [float((b / a).mean()) for a, b in zip(*steps, strict=True)]
    assert ratios[0] > 1.5
    assert ratios[0] == pytest.approx(ratios[1], rel=1e-9)
    for a, b in zip(*steps, strict=True):
        torch.testing.assert_close(b, ratios[0] * a)


def test_published_vectors_need_a_weight_before_them():
    bias, weight = torch.zeros(3, requires_grad=True), torch.zeros(3, 3, requires_grad=True)
    with pytest.raises(untuned.errors.ParameterError, match=r"bias.*list the weight first"):
        untuned.Optimizer([("bias", bias), ("weight", weight)], AGD().as_published())


def test_agd_keeps_no_state():
    params = problem((7, 5), (7,), (4, 3, 3, 3))
    opt = untuned.AGD(params)
    opt.step()
    assert not opt.state
    assert opt.state_dict()["state"] == {}
