"""How weights of 16 bits are rounded: by chance, and right on average."""

import math

import pytest
import torch
from torch import nn

import untuned
from untuned.rules import AGD, SGD, Adam, FreeNero

SHORT = [torch.bfloat16, torch.float16]
MANY = 2**14

every_type = pytest.mark.parametrize("dtype", SHORT, ids=str)


def after(start, by, dtype, seed=0, count=MANY):
    """Many entries, that start at a number of their type, after one step `by` the same amount."""
    weight = nn.Parameter(torch.full((count,), start, dtype=dtype))
    weight.grad = torch.full_like(weight, -math.copysign(1, by))
    untuned.Optimizer([weight], SGD(abs(by)), seed=seed).step()
    return weight.detach()


def neighbours(exact, dtype):
    """The numbers of a type next to each exact one, float64: below and above, or twice itself."""
    near = exact.to(dtype)
    away = torch.full_like(near, math.inf)
    below = torch.where(near.double() > exact, torch.nextafter(near, -away), near)
    above = torch.where(near.double() < exact, torch.nextafter(near, away), near)
    return below.double(), above.double()


def is_right_on_average(found, exact, below, above):
    """Whether the mean error of many numbers is within 5 of its standard errors."""
    gap = (above - below).clamp(min=1e-300)
    odds = ((exact - below) / gap).clamp(0, 1)
    error = ((found - exact) / gap).sum()
    return abs(error) <= 5 * (odds * (1 - odds)).sum().sqrt()


def places(dtype):
    """Where to start, and how far apart the numbers are there."""
    info = torch.finfo(dtype)
    tiny = info.smallest_normal * info.eps  # the least number of all
    huge = info.max / (2 - info.eps)  # the largest power of two
    return {
        "one": (1.0, info.eps),
        "minus one and a half": (-1.5, info.eps),
        "below a power of two": (2 - info.eps, info.eps),
        "above minus a power of two": (-2 - 2 * info.eps, 2 * info.eps),
        "zero": (0.0, tiny),
        "five of the least": (5 * tiny, tiny),
        "minus three of the least": (-3 * tiny, tiny),
        "last subnormal": (info.smallest_normal - tiny, tiny),
        "first normal": (-info.smallest_normal, tiny),
        "three quarters of the largest": (1.5 * huge, info.eps * huge),
    }


@pytest.mark.parametrize("share", [0.02, -0.3, 0.5, 0.75, -1.4])
@pytest.mark.parametrize("place", places(SHORT[0]))
@every_type
def test_a_number_becomes_one_of_its_two_neighbours_and_is_right_on_average(dtype, place, share):
    start, unit = places(dtype)[place]
    exact = (torch.full((MANY,), start) + torch.tensor(share * unit)).double()
    found = after(start, share * unit, dtype).double()
    below, above = neighbours(exact, dtype)
    assert ((found == below) | (found == above)).all()
    assert set(found.tolist()) == {below[0].item(), above[0].item()}
    assert is_right_on_average(found, exact, below, above)


@pytest.mark.parametrize("place", places(SHORT[0]))
@every_type
def test_what_a_type_can_hold_is_held(dtype, place):
    start, unit = places(dtype)[place]
    for by in (unit, -unit, -2 * unit):
        exact = torch.full((MANY,), start + by)
        below, above = neighbours(exact.double(), dtype)
        assert torch.equal(after(start, by, dtype).double(), below)
        assert torch.equal(below, above)


@every_type
def test_what_is_too_large_becomes_the_largest_and_never_infinite(dtype):
    info = torch.finfo(dtype)
    gap = info.max / (2 / info.eps - 1)
    for sign in (1.0, -1.0):
        for by in (0.01 * gap, 0.9 * gap, info.max):
            assert (after(sign * info.max, sign * by, dtype) == sign * info.max).all()
        last = after(sign * (info.max - gap), sign * 0.5 * gap, dtype)
        assert set(last.tolist()) == {sign * (info.max - gap), sign * info.max}


@every_type
def test_entries_steps_and_tensors_have_dice_of_their_own(dtype):
    """Of 64 x 64 entries rounded half up, half down: no two series of throws go together."""
    start, half = 1.0, torch.finfo(dtype).eps / 2
    weights = [nn.Parameter(torch.ones(64, 64, dtype=dtype)) for _ in range(2)]
    opt = untuned.Optimizer(weights, SGD(half))
    throws = []
    for _ in range(20):
        for weight in weights:
            weight.data.fill_(start)
            weight.grad = -torch.ones_like(weight)
        opt.step()
        throws.append(torch.stack([(w > start).double() * 2 - 1 for w in weights]))
    throws = torch.stack(throws)  # (steps, tensors, rows, columns)
    pairs = [
        (throws[1:], throws[:-1]),
        (throws[:, 0], throws[:, 1]),
        (throws[..., 1:, :], throws[..., :-1, :]),
        (throws[..., 1:], throws[..., :-1]),
    ]
    for one, other in pairs:
        assert abs((one * other).sum()) < 5 * math.sqrt(one.numel())
    means = throws.mean(0)  # over steps, of each entry: none is always rounded the same way
    assert means.abs().max() < 1
    assert means.square().mean() == pytest.approx(1 / 20, rel=0.1)


@every_type
@pytest.mark.parametrize("rule", [AGD(0.1), FreeNero(), Adam(), Adam() / SGD(), AGD(0.1) / SGD()])
def test_steps_of_any_rule_are_those_of_32_bits_on_average(rule, dtype):
    short = nn.Parameter(torch.randn(300, 300).to(dtype))
    full = nn.Parameter(short.detach().float())
    grad = torch.randn(300, 300).to(dtype)
    for weight in (short, full):
        weight.grad = grad.to(weight.dtype)
        untuned.Optimizer([weight], rule).step()
    exact, found = full.detach().double(), short.detach().double()
    below, above = neighbours(exact, dtype)
    slack = (above - below) * 1e-3  # norms of gradients may be added in another order
    assert (found >= below - slack).all()
    assert (found <= above + slack).all()
    assert is_right_on_average(found, exact, below, above)
