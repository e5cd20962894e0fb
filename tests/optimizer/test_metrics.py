"""`untuned.metrics`: floats for any logger, against what is known by other ways."""

import json

import pytest
import torch
from torch import nn

import untuned
from support.spies import HostReads
from untuned.errors import ParameterTypeError


def trained(build, steps=30):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    opt = build(net)
    xs, ys = torch.randn(steps, 16, 4), torch.randn(steps, 16, 2)
    for x, y in zip(xs, ys, strict=True):
        opt.zero_grad()
        (net(x) - y).square().mean().backward()
        opt.step()
    return net, opt


BUILD = {
    "Auto": untuned.Auto,
    "AGD": untuned.AGD,
    "SGD": lambda net: untuned.Optimizer(net, "sgd"),
    "tower": lambda net: untuned.Optimizer(net, "adam / sgd(lr=1e-4)"),
}


@pytest.mark.parametrize("build", BUILD.values(), ids=BUILD)
@pytest.mark.parametrize("steps", [0, 3])
def test_they_are_floats_that_json_takes_before_the_first_step_too(build, steps):
    _, opt = trained(build, steps)
    found = untuned.metrics(opt)
    assert {type(value) for value in found.values()} == {float}
    assert json.loads(json.dumps(found)) == found
    assert found["lr"] == opt.param_groups[0]["lr"]
    assert (found["effective_lr"] > 0) == (steps > 0)


def test_autos_are_those_of_its_report_and_of_the_equation():
    net, opt = trained(untuned.Auto)
    found, report = untuned.metrics(opt), untuned.report(opt)
    assert found["steps"] == report.steps == 30
    assert found["degree"] == report.degree > 1
    counts = opt.state[net[0].weight]["reversals"]  # of the only matrix but the head
    assert found["reversals"] == report.clock == counts.mean() > 0
    assert found["effective_lr"] == report.step


def test_auto_of_twice_the_lr_logs_twice_the_step():
    found = [
        untuned.metrics(trained(lambda net, lr=lr: untuned.Auto(net, lr), 1)[1]) for lr in (1, 2)
    ]
    assert found[1]["effective_lr"] == pytest.approx(2 * found[0]["effective_lr"])


def test_a_towers_are_its_hyperparameters_by_floor():
    _, opt = trained(BUILD["tower"])
    found = untuned.metrics(opt)
    assert found["floor0/lr"] == opt.hyperparameters()[0][0]["lr"] != 0.001
    assert found["floor1/lr"] == pytest.approx(1e-4)


def test_skipped_steps_are_counted():
    net, opt = trained(untuned.AGD, 2)
    net[0].weight.grad.fill_(float("nan"))
    with pytest.warns(untuned.errors.NonFiniteGradientWarning):
        opt.step()
    assert untuned.metrics(opt)["skipped_steps"] == 1
    assert untuned.metrics(opt)["effective_lr"] == 0


def test_the_rate_in_a_group_is_a_float_on_the_host_and_no_step_reads_for_it():
    net, opt = trained(lambda net: untuned.Auto(net, average=False), 12)
    net(torch.randn(16, 4)).sum().backward()
    with HostReads() as reads:
        opt.step()
    assert reads.count == 0
    assert {type(group["effective_lr"]) for group in opt.param_groups} == {float}


def test_other_optimizers_are_refused():
    with pytest.raises(ParameterTypeError, match="SGD"):
        untuned.metrics(torch.optim.SGD([torch.zeros(1, requires_grad=True)]))
