"""`untuned.report`: what Auto has inferred, against values computed by hand."""

import math

import pytest
import torch
from torch import nn

import untuned
from untuned.errors import ParameterTypeError


def trained(steps, width=6):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 2, bias=False))
    opt = untuned.Auto(net)
    for _ in range(steps):
        opt.zero_grad()
        net(torch.full((3, 4), 5.0)).square().sum().backward()
        opt.step()
    return net, opt, untuned.report(opt)


def test_each_layer_is_reported_as_it_is():
    net, opt, found = trained(3)
    layers = {layer.name: layer for layer in found.layers}
    assert layers.keys() == {"0.weight", "0.bias", "2.weight"}
    first, bias, head = (layers[name] for name in ("0.weight", "0.bias", "2.weight"))
    radius = math.sqrt(6 / 4) / 5
    assert first.radius == pytest.approx(radius)
    singular = torch.linalg.svdvals(net[0].weight.detach())
    assert first.size == pytest.approx(float(singular.square().mean().sqrt()) / radius)
    assert (first.inputs, first.measured, first.looked) == (5, 3, 3)
    assert (head.inputs, head.measured, head.looked) == (1, 0, 3)
    assert [layer.head for layer in (first, bias, head)] == [False, False, True]
    assert bias.ball is head.ball is None
    assert first.ball == pytest.approx(min(30, 2000 ** (1 / found.degree)))
    assert found.steps == 3
    assert found.step == pytest.approx(float(opt.param_groups[0]["effective_lr"]))


def test_its_text_is_a_table():
    lines = str(trained(3)[2]).splitlines()
    assert lines[0].startswith("degree ")
    assert lines[0].endswith("after 3 steps")
    assert lines[1].split() == [
        "name",
        "geometry",
        "radius",
        "ball",
        "size",
        "inputs",
        "seen",
        "head",
    ]
    assert [line.split()[0] for line in lines[2:]] == ["0.weight", "0.bias", "2.weight"]


def test_before_the_first_step_there_is_a_report_too():
    found = trained(0)[2]
    assert (found.degree, found.clock, found.steps) == (1, 0, 0)
    assert {layer.looked for layer in found.layers} == {0}


def test_the_clock_is_the_mean_of_reversals():
    net, opt, found = trained(30)
    assert found.clock == float(opt.state[net[0].weight]["reversals"])
    assert found.clock > 0


def test_with_no_matrix_the_clock_is_the_mean_over_all():
    torch.manual_seed(0)
    net = nn.Linear(3, 2)
    opt = untuned.Auto(net)
    for sign in (1, -1) * 10:  # each step opposes the last
        opt.zero_grad()
        (sign * net(torch.ones(4, 3))).sum().backward()
        opt.step()
    assert untuned.report(opt).clock == opt.state[net.weight]["reversals"].item() > 5


def test_other_rules_have_no_report():
    net = nn.Linear(2, 2)
    assert untuned.report(untuned.Optimizer(net, "auto")).steps == 0
    with pytest.raises(ParameterTypeError, match="AGD"):
        untuned.report(untuned.AGD(net))
