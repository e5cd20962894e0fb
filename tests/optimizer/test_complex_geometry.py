"""What rules and geometries take complex tensors for."""

import math

import pytest
import torch
from torch import nn

import untuned
from support.neurons import rows
from support.polar import polar
from untuned.geometry import Vector

pytestmark = pytest.mark.filterwarnings("ignore::untuned.errors.BareTensorsWarning")


def test_agd_takes_a_complex_matrix_for_a_map_of_complex_vectors():
    """The paper's step, with absolute values of complex entries in Frobenius norms."""
    params = [nn.Parameter(torch.randn(s, dtype=torch.complex128)) for s in [(7, 5), (5, 9)]]
    params += [nn.Parameter(torch.randn(2, 7, dtype=torch.float64))]
    G, L = 0.0, len(params)
    for p in params:
        p.grad = torch.randn_like(p)
        G += math.sqrt(p.shape[0] / p.shape[1] * float((p.grad.abs() ** 2).sum())) / L
    eta = math.log((1 + math.sqrt(1 + 4 * G)) / 2)
    expected = [
        p.detach() - eta / L * math.sqrt(p.shape[0] / p.shape[1]) * p.grad / p.grad.norm()
        for p in params
    ]
    untuned.AGD(params).step()
    torch.testing.assert_close([p.detach() for p in params], expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("balanced", [False, True])
def test_nero_takes_a_row_for_a_neuron_of_twice_the_weights(balanced):
    start = torch.randn(4, 3, dtype=torch.complex128)
    grad = torch.randn_like(start)
    expected = torch.view_as_real(start).flatten(1).clone()

    def balance():
        for row in rows(expected) if balanced else ():
            row -= row.mean()
            row /= row.norm()

    balance()
    scale = expected.norm(dim=1).mean()
    for row, g in zip(expected, torch.view_as_real(grad).flatten(1), strict=True):
        row -= 0.03 * scale * g / g.norm()
    balance()
    weight = nn.Parameter(start.clone())
    opt = untuned.Nero([weight], lr=0.03, balanced=balanced)
    weight.grad = grad
    opt.step()
    torch.testing.assert_close(torch.view_as_real(weight.detach()).flatten(1), expected)


def test_neros_neurons_of_one_complex_weight_are_not_balanced():
    weight, column = (nn.Parameter(torch.randn(s, dtype=torch.complex64)) for s in [(3,), (3, 1)])
    before = [weight.detach().clone(), column.detach().clone()]
    untuned.Nero([weight, column])
    assert torch.equal(weight, before[0])
    assert torch.equal(column, before[1])


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4)])
def test_autos_first_step_is_along_the_dual_of_the_complex_spectral_norm(shape):
    body = nn.Parameter(torch.randn(shape, dtype=torch.complex128))
    head = nn.Parameter(torch.randn(2, 3, dtype=torch.complex128))
    other = [nn.Parameter(p.detach().clone()) for p in (body, head)]
    groups = [{"params": [body]}, {"params": [head], "layer": untuned.geometry.Head(dense())}]
    opt = untuned.Auto(groups)
    for p, twin in zip((body, head), other, strict=True):
        p.grad = torch.randn_like(p)
        twin.grad = p.grad.clone()
    opt.step()
    s = float(opt.param_groups[0]["effective_lr"])
    inner = [(p.detach().conj() * p.grad).real.sum() for p in other]
    degree = max(1.0, float(sum(inner) / inner[1]))
    R = min(30.0, 2000 ** (1 / degree))
    W, g = other[0].detach(), other[0].grad
    step = s * math.sqrt(shape[0] / shape[1]) * polar(g)
    torch.testing.assert_close(body.detach(), (1 - s / R) * W - step, rtol=1e-9, atol=1e-12)
    W, g = other[1].detach(), torch.view_as_real(other[1].grad)
    moved = 0.4 * 75 / (2 * 3) * torch.view_as_complex(g.sign())  # three complex inputs: six
    torch.testing.assert_close(head.detach(), (1 - s / R) * W - s * moved, rtol=1e-6, atol=1e-9)


def dense():
    return untuned.geometry.Dense()


def test_auto_measures_the_parts_of_complex_data():
    net = nn.Sequential(nn.Linear(4, 6, dtype=torch.complex64), nn.Linear(6, 1, dtype=torch.cfloat))
    opt = untuned.Auto(net)
    x = 0.01 * torch.randn(64, 4, dtype=torch.complex64)
    net(x).abs().square().mean().backward()
    opt.step()
    expected = torch.view_as_real(x).square().mean().sqrt()
    torch.testing.assert_close(opt.state[net[0].weight]["auto.input"], expected)
    assert opt.state[net[1].weight]["auto.input"] == 1


def test_initialise_makes_unitary_matrices_of_the_layers_radius():
    layer, square = (nn.Linear(n, 4, dtype=torch.complex128) for n in (9, 4))
    assert untuned.initialise_(layer) == untuned.initialise_(square) == []
    gram = layer.weight @ layer.weight.mH
    torch.testing.assert_close(gram, 4 / 9 * torch.eye(4, dtype=torch.complex128))
    torch.testing.assert_close(square.weight @ square.weight.mH, torch.eye(4).to(gram.dtype))
    assert not layer.bias.any()


def test_a_report_counts_singular_values_of_complex_matrices():
    net = nn.Sequential(*(nn.Linear(a, b, dtype=torch.complex128) for a, b in [(9, 4), (4, 2)]))
    untuned.initialise_(net)
    layers = {each.name: each for each in untuned.report(untuned.Auto(net)).layers}
    assert layers["0.weight"].size == pytest.approx(1.0)
    assert layers["0.weight"].radius == pytest.approx(2 / 3)
    assert str(Vector()) in layers["0.bias"].geometry
