"""What torch checks of its own optimizers, asked of ours: steps.

`support/infos.py` says what is left out. Each check is written anew from what torch's asserts;
the machinery that names optimizers, their arguments and their errors (`OptimizerInfo`) is torch's.
"""

import copy

import pytest
import torch
from torch import nn
from torch.testing._internal.common_optimizers import OptimizerErrorEnum

import untuned
from support.infos import CASES, ERRORS, INFOS, PLAIN, SCHEDULERS, Squares
from untuned.rules import SGD, Adam

pytestmark = pytest.mark.integration
every_case = pytest.mark.parametrize("case", CASES, ids=str)
every_rule = pytest.mark.parametrize("case", PLAIN, ids=str)


@pytest.mark.parametrize(
    ("optim_cls", "error"), ERRORS, ids=lambda x: getattr(x, "optimizer_error_input", x)
)
def test_errors_are_the_built_in_ones_and_say_why(optim_cls, error):
    given = error.optimizer_error_input
    params = [nn.Parameter(torch.randn(1, 1))] if given.params is None else given.params
    if error.error_on is OptimizerErrorEnum.CONSTRUCTION_ERROR:
        with pytest.raises(error.error_type, match=error.error_regex):
            optim_cls(params, **given.kwargs)
    else:
        opt = optim_cls(params, **given.kwargs)
        with pytest.raises(error.error_type, match=error.error_regex):
            opt.step()


def test_a_parameter_listed_twice_in_one_group_is_one_parameter():
    """torch warns of it; layers that share a tensor list it twice, and mean it."""
    weight = nn.Parameter(torch.randn(2, 2))
    assert untuned.AGD([weight, weight]).param_groups[0]["params"] == [weight]


@every_case
def test_it_prints_its_class_its_tensors_and_their_numbers(case):
    text = repr(case([{"params": [p]} for p in Squares().params]))
    assert text.startswith(case.info.name)
    for expected in ("parameters: 2 tensors, ", "geometry: ", "  lr: "):
        assert expected in text


@pytest.mark.parametrize("contiguous", [True, False])
@every_case
def test_it_goes_in_the_right_direction(case, contiguous):
    problem = Squares(contiguous)
    losses = problem.train(case(problem.params), 20)
    assert case.sign * (losses[-1] - losses[0]) > 0


@pytest.mark.parametrize("place", range(len(SCHEDULERS)))
@every_rule
def test_it_goes_in_the_right_direction_under_torchs_schedulers(case, place):
    problem = Squares()
    opt = case(problem.params)
    start, before = opt.param_groups[0]["lr"], problem.loss()
    schedulers = [make(opt) for make in SCHEDULERS[place]]
    rates = [opt.param_groups[0]["lr"]]
    for _ in range(20):
        problem.train(opt, 1, schedulers)
        rates.append(opt.param_groups[0]["lr"])
    assert problem.loss() < before
    assert any(rate != start for rate in rates)


@every_rule
def test_gaps_in_memory_change_nothing(case):
    tight, gappy = Squares(), Squares(contiguous=False)
    tight.train(case(tight.params), 5)
    gappy.train(case(gappy.params), 5)
    torch.testing.assert_close(tight.params, gappy.params, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dimensions", [0, 1, 2])
@every_rule
def test_a_tensor_lr_of_one_element_is_the_float(case, dimensions):
    plain, tensor = Squares(), Squares()
    rate = torch.full((1,) * dimensions, 0.125)
    losses = plain.train(case(plain.params, lr=0.125), 5)
    opt = case(tensor.params, lr=rate)
    assert tensor.train(opt, 5) == pytest.approx(losses, rel=1e-5)
    assert rate.item() == 0.125
    rate.fill_(0)  # it is still its owner's to set
    before = tensor.loss()
    tensor.train(opt, 1)
    assert tensor.loss() == before


@every_rule
def test_each_group_has_its_own_lr(case):
    """Of the bias, which no rule projects: half the rate, half the way."""
    moved = []
    for rate in (0.01, 0.005, 0.0):
        problem = Squares()
        weight, bias = problem.params
        opt = case([{"params": [weight]}, {"params": [bias], "lr": rate}], lr=0.01)
        assert [group["lr"] for group in opt.param_groups] == [0.01, rate]
        before = bias.detach().clone()
        problem.train(opt, 1)
        moved.append(bias.detach() - before)
    assert moved[0].abs().min() > 0
    torch.testing.assert_close(moved[1], moved[0] / 2, rtol=1e-4, atol=1e-7)
    assert not moved[2].any()


@pytest.mark.parametrize("grads", ["none", "zeros"])
@every_case
def test_a_step_without_gradients_or_with_zeros_moves_nothing(case, grads):
    problem = Squares()
    opt = case(problem.params)
    before = copy.deepcopy(problem.params)
    for param in problem.params:
        param.grad = torch.zeros_like(param) if grads == "zeros" else None
    for _ in range(2):
        opt.step()
    assert all(map(torch.equal, problem.params, before))
    assert not opt.state or grads == "zeros"


@every_rule
def test_dtypes_may_be_mixed(case):
    dtypes = (torch.float32, torch.float64, torch.bfloat16)
    params = [nn.Parameter((1e-3 * torch.randn(3, 3)).to(dtype)) for dtype in dtypes]
    opt = case(params, lr=0.1)
    for _ in range(3):
        before = copy.deepcopy(params)
        for param in params:
            param.grad = torch.randn_like(param)
        opt.step()
        assert not any(map(torch.equal, params, before))
        assert all(param.isfinite().all() for param in params)


@every_rule
def test_a_closure_is_called_once_with_gradients_enabled_and_its_loss_returned(case):
    plain, closed = Squares(), Squares()
    expected = plain.train(case(plain.params), 3)
    opt = case(closed.params)
    seen = []

    def closure():
        assert torch.is_grad_enabled()
        opt.zero_grad()
        loss = closed.loss()
        loss.backward()
        seen.append(loss.item())
        return loss

    with torch.no_grad():
        returned = [opt.step(closure).item() for _ in range(3)]
    assert returned == seen == expected[:3]
    assert all(map(torch.equal, plain.params, closed.params))


@every_rule
def test_zero_grad_sets_to_none_or_to_zeros(case):
    problem = Squares()
    opt = case(problem.params)
    problem.loss().backward()
    kept = [param.grad for param in problem.params]
    opt.zero_grad(set_to_none=False)
    assert all(
        p.grad is grad and not grad.any() for p, grad in zip(problem.params, kept, strict=True)
    )
    opt.zero_grad()
    assert all(param.grad is None for param in problem.params)


@every_rule
def test_a_profiler_sees_its_steps_by_name(case):
    problem = Squares()
    opt = case(problem.params)
    with torch.autograd.profiler.profile() as profile:
        problem.train(opt, 2)
    counts = {event.key: event.count for event in profile.key_averages()}
    name = case.info.name
    assert counts[f"Optimizer.step#{name}.step"] == 2
    assert counts[f"Optimizer.zero_grad#{name}.zero_grad"] == 2


def test_every_optimizer_is_asked():
    assert {info.optim_cls for info in INFOS} == {untuned.AGD, untuned.Nero, untuned.Optimizer}
    towers = [case.input.kwargs["rule"] for case in PLAIN if "/" in case.input.desc]
    assert Adam() / SGD() in towers
