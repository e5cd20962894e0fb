"""Complex parameters train in every rule, as pairs of reals."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

import untuned
from support.twins import TWINS
from untuned.errors import NonFiniteGradientWarning
from untuned.rules import Adam

ELEMENTWISE = [
    *("sgd(lr=0.1, momentum=0.9)", "adam(lr=0.01)", "adagrad(lr=0.1)", "rmsprop(lr=0.01)"),
    *("adam(lr=0.01) / sgd(lr=1e-4)", "adam(lr=0.01).tuning('lr') / sgd(lr=1e-4)"),
    *("sgd(lr=0.1).per_tensor('lr') / adam", "adam / adam / sgd(lr=1e-4)"),
]
BLOCKWISE = ["agd", "nero", "freenero", "auto", "agd / sgd(lr=0.1)", "nero / sgd(lr=0.01)"]

pytestmark = pytest.mark.filterwarnings("ignore::untuned.errors.BareTensorsWarning")


class Network(nn.Module):
    """Complex layers, of which a real one reads the magnitudes; `pairs`: written with reals."""

    def __init__(self, pairs=False, dtype=torch.complex128):
        super().__init__()
        torch.manual_seed(0)
        shapes = {"first": (5, 3), "second": (4, 5), "phase": (4,)}
        for name, shape in shapes.items():
            weight = torch.randn(shape, dtype=dtype) / 2
            weight = torch.view_as_real(weight) if pairs else weight
            self.register_parameter(name, nn.Parameter(weight.clone()))
        self.head = nn.Linear(4, 2, dtype=weight.real.dtype)

    def forward(self, x):
        first, second, phase = (
            p if p.is_complex() else torch.view_as_complex(p)
            for p in (self.first, self.second, self.phase)
        )
        return self.head((phase * (x @ first.T @ second.T)).abs())


def problem(dtype=torch.complex128):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(32, 3, dtype=dtype, generator=generator)
    return x, torch.stack([x[:, 0].abs(), (x[:, 1] * x[:, 2].conj()).real], 1)


def train(net, opt, steps):
    x, y = problem(net.first.dtype if net.first.is_complex() else torch.complex128)
    losses = []
    for _ in range(steps):
        opt.zero_grad()
        loss = (net(x) - y).square().mean()
        loss.backward()
        opt.step()
        losses.append(loss.item())
    return losses


TORCH = TWINS | {
    "adam": (Adam(0.01), lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.0)),
}


@pytest.mark.parametrize("name", TORCH)
@pytest.mark.parametrize("shapes", [[(7, 5)], [(), (3,), (4, 2, 3, 3), (0, 3), (1,)], [(300, 300)]])
def test_a_lone_rule_is_torchs_optimizer(name, shapes):
    rule, build = TORCH[name]

    def tensors():
        torch.manual_seed(0)
        dtypes = torch.complex128, torch.float64  # side by side
        return [nn.Parameter(torch.randn(shape, dtype=d)) for shape in shapes for d in dtypes]

    ours, theirs = tensors(), tensors()
    for params, opt in ((ours, untuned.Optimizer(ours, rule)), (theirs, build(theirs))):
        generator = torch.Generator().manual_seed(1)
        for _ in range(6):
            for param in params:
                noise = torch.randn(param.shape, dtype=param.dtype, generator=generator)
                param.grad = noise / 4 + (1.5 - 2j if param.is_complex() else 1.5)
            opt.step()
    tolerance = 1e-6 if name in ("adagrad", "rmsprop") else 1e-12  # their epsilon stands elsewhere
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("rule", ELEMENTWISE)
def test_a_network_trains_as_the_same_one_written_with_pairs_of_reals(rule):
    net, pairs = Network(), Network(pairs=True)
    losses = train(net, untuned.Optimizer(net, rule), 20)
    assert losses == pytest.approx(train(pairs, untuned.Optimizer(pairs, rule), 20), rel=1e-9)
    assert losses[-1] < losses[0]
    for weight, pair in zip(net.parameters(), pairs.parameters(), strict=True):
        weight = torch.view_as_real(weight) if weight.is_complex() else weight
        torch.testing.assert_close(weight, pair, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rule", ["agd", "nero", "freenero", "auto", "agd / sgd(lr=0.1)"])
def test_a_complex_vector_is_a_real_one_of_twice_the_length(rule):
    weight, pair = (nn.Parameter(torch.ones(3, dtype=torch.complex128)) for _ in "ab")
    pair = nn.Parameter(torch.view_as_real(pair.detach()).flatten())
    opts = untuned.Optimizer([weight], rule), untuned.Optimizer([pair], rule)
    for step in range(6):
        gradient = torch.randn(6, dtype=torch.float64, generator=torch.manual_seed(step))
        weight.grad, pair.grad = torch.view_as_complex(gradient.view(3, 2)), gradient
        for opt in opts:
            opt.step()
    torch.testing.assert_close(torch.view_as_real(weight).flatten(), pair, rtol=1e-9, atol=1e-12)


def test_auto_trains_alike_in_any_basis_of_complex_hidden_units():
    """A unitary change of basis between two matrices changes nothing."""
    one, other = Network(), Network()
    unitary = torch.linalg.qr(torch.randn(5, 5, dtype=torch.complex128)).Q
    with torch.no_grad():
        other.first.copy_(unitary @ one.first)
        other.second.copy_(one.second @ unitary.mH)
    losses = [train(net, untuned.Auto(net), 60) for net in (one, other)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert losses[0][-1] < losses[0][0] / 10


@pytest.mark.parametrize("rule", [*ELEMENTWISE, *BLOCKWISE])
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_every_rule_trains_and_resumes_to_the_bit(rule, dtype):
    net = Network(dtype=dtype)
    opt = untuned.Optimizer(net, rule)
    losses = train(net, opt, 10)
    assert min(losses) < losses[0]
    other = Network(dtype=dtype)
    its = untuned.Optimizer(other, rule)
    other.load_state_dict(net.state_dict())
    its.load_state_dict(copy.deepcopy(opt.state_dict()))
    assert train(net, opt, 5) == train(other, its, 5)
    moved = [p for p in net.parameters() if p.is_complex()]
    assert all((p.real != q.real).any() and (p.imag != q.imag).any() for p, q in pairs(moved))


def pairs(moved):
    """Complex weights beside those they started with."""
    fresh = Network(dtype=moved[0].dtype)
    return zip(moved, [p for p in fresh.parameters() if p.is_complex()], strict=True)


@pytest.mark.parametrize("rule", ["adam", "nero", "auto", "adam / sgd(lr=0.1)"])
def test_torchs_distributed_state_dicts_carry_it(rule):
    net, other = Network(), Network()
    opt = untuned.Optimizer(net, rule)
    train(net, opt, 3)
    opt.zero_grad()
    saved = copy.deepcopy(get_optimizer_state_dict(net, opt))
    its = untuned.Optimizer(other, rule)
    set_optimizer_state_dict(other, its, saved)
    other.load_state_dict(net.state_dict())
    assert train(net, opt, 3) == train(other, its, 3)


def test_auto_averages_complex_weights():
    net, alone = Network(), Network()
    opt, plain = untuned.Auto(net), untuned.Auto(alone, average=False)
    for group in plain.param_groups:
        group["power"] = 0.5 + 1e-12  # at 0.5 it would average
    average = {}
    for t in range(1, 13):
        train(net, opt, 1)
        train(alone, plain, 1)  # the iterates
        for name, p in alone.named_parameters():
            x = average.get(name, p.detach().clone())
            average[name] = x + 9 / (t + 8) * (p.detach() - x)
    for name, p in net.named_parameters():
        torch.testing.assert_close(p.detach(), average[name], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("rule", [*ELEMENTWISE, *BLOCKWISE])
@pytest.mark.parametrize("bad", [complex(0, math.nan), complex(math.inf, 0)])
def test_a_part_that_is_not_finite_skips_the_step(rule, bad):
    net = Network()
    opt = untuned.Optimizer(net, rule)
    train(net, opt, 2)
    before = [p.detach().clone() for p in net.parameters()]
    net.second.grad[1, 2] = bad
    with pytest.warns(NonFiniteGradientWarning, match="second"):
        opt.step()
    assert opt.skipped_steps == 1
    assert all(map(torch.equal, net.parameters(), before))
    assert math.isfinite(train(net, opt, 2)[-1])


@pytest.mark.parametrize("rule", ["adam", "agd", "nero", "auto", "adam / sgd(lr=0.1)"])
def test_memory_that_others_have_put_in_place_of_a_weight_moves(rule):
    net, other = Network(), Network()
    opt, its = untuned.Optimizer(net, rule), untuned.Optimizer(other, rule)
    train(net, opt, 2)
    train(other, its, 2)
    net.first.data = net.first.data.clone()
    assert train(net, opt, 3) == train(other, its, 3)


@pytest.mark.parametrize("rule", ["adam", "agd", "auto"])
def test_gradients_may_be_conjugate_views(rule):
    one, other = (nn.Parameter(torch.ones(3, 2, dtype=torch.complex64)) for _ in "ab")
    gradient = torch.randn(3, 2, dtype=torch.complex64)
    one.grad, other.grad = gradient.conj(), gradient.conj().resolve_conj()
    assert one.grad.is_conj()
    for param in (one, other):
        untuned.Optimizer([param], rule).step()
    assert torch.equal(one, other)
