"""Elementwise rules against torch's own, in whatever precision."""

import pytest
import torch
from torch import nn

import untuned
from support.twins import TWINS
from support.walks import tensors, walk
from untuned.execution.buckets import CHUNK, LARGE
from untuned.rules import SGD, Adam

TORCH = TWINS | {
    "adam": (Adam(0.01, betas=(0.8, 0.99)), lambda p: torch.optim.Adam(p, 0.01, (0.8, 0.99))),
}
SMALL = [(7, 5), (), (3,), (4, 2, 3, 3), (0, 3), (1,)]


@pytest.mark.parametrize("name", TORCH)
@pytest.mark.parametrize("maximize", [False, True])
def test_a_lone_rule_is_torchs_optimizer(name, maximize):
    rule, build = TORCH[name]
    ours, theirs = tensors(SMALL), tensors(SMALL)
    walk(ours, untuned.Optimizer(ours, rule, maximize=maximize))
    opt = build(theirs)
    opt.param_groups[0]["maximize"] = maximize
    walk(theirs, opt)
    tolerance = 1e-6 if name in ("adagrad", "rmsprop") else 1e-12  # their epsilon stands elsewhere
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def test_hyperparameters_may_be_numbers_or_tensors():
    grad = torch.linspace(-1, 1, 5, dtype=torch.float64)
    numbers = Adam(0.01, betas=(0.8, 0.99))
    values = {k: torch.tensor(v, dtype=grad.dtype) for k, v in numbers.hyperparameters().items()}
    state = numbers.init(torch.ones_like(grad))
    one, other = numbers.update(grad, state), numbers.replacing(values).update(grad, state)
    torch.testing.assert_close(one.state, other.state, rtol=1e-15, atol=0)
    torch.testing.assert_close(one.direction, other.direction, rtol=1e-15, atol=0)


def test_a_parameter_that_joins_late_has_its_own_count_of_steps():
    ours, theirs = tensors([(3,), (4,)]), tensors([(3,), (4,)])
    for params, opt in (
        (ours, untuned.Optimizer(ours, Adam(0.1))),
        (theirs, torch.optim.Adam(theirs, 0.1)),
    ):
        for step in range(5):
            params[0].grad = torch.full((3,), step + 1.0, dtype=torch.float64)
            params[1].grad = torch.ones(4, dtype=torch.float64) if step >= 3 else None
            opt.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)


def test_half_precision_weights_move_by_a_32_bit_rule():
    short, full = tensors([(50, 40)], torch.bfloat16), tensors([(50, 40)], torch.float32)
    with torch.no_grad():
        full[0].copy_(short[0])
    for params in (short, full):
        opt = untuned.Optimizer(params, Adam(0.1) / SGD(1e-3))
        for _ in range(3):
            params[0].grad = torch.linspace(-1, 1, 2000).view(50, 40).to(params[0].dtype)
            opt.step()
        states = [v.dtype for v in opt.state[params[0]].values()]
        assert set(states) == {torch.float32}
    torch.testing.assert_close(short[0].float(), full[0], rtol=2e-2, atol=2e-2)
    assert CHUNK > LARGE


def test_each_weight_is_moved_in_its_own_precision():
    short, long = tensors([(4,)], torch.float32)[0], tensors([(3,)], torch.float64)[0]
    plain = tensors([(3,)], torch.float64)
    walk([short, long], untuned.Optimizer([short, long], Adam(0.01)))
    opt = torch.optim.Adam(plain, 0.01)
    for step in range(6):
        plain[0].grad = torch.sin(plain[0].detach() * (1 + step + 1)) + 1.5
        opt.step()
    torch.testing.assert_close(long, plain[0], rtol=1e-12, atol=0)


def test_an_eps_below_what_32_bits_square_is_kept():
    ours, theirs = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(3))
    for param, opt in (
        (ours, untuned.Optimizer([ours], Adam(eps=1e-20))),
        (theirs, torch.optim.Adam([theirs], eps=1e-20)),
    ):
        for _ in range(3):
            param.grad = torch.full((3,), 1e-15)
            opt.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=0)
