"""Tensors without a module: shapes tell stacked networks, and where they do not a warning does."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.func import functional_call, stack_module_state

import untuned
from support.networks import by_shape, equal
from untuned.errors import GeometryWarning
from untuned.geometry import Conv, Dense, Stacked, Vector
from untuned.rules import AGD

# of the networks that train alone
pytestmark = pytest.mark.filterwarnings("ignore::untuned.errors.BareTensorsWarning")


def perceptron():
    sizes = (8, 32), (32, 32), (32, 2)
    layers = [each for fan in sizes for each in (nn.Linear(*fan), nn.Tanh())]
    return nn.Sequential(*layers[:-1])


def convolutions():
    layers = nn.Unflatten(1, (1, 2, 4)), nn.Conv2d(1, 16, 3, padding=1), nn.Tanh()
    return nn.Sequential(*layers, nn.Conv2d(16, 8, 2), nn.Flatten(), nn.Linear(24, 2))


def problem():
    x = torch.randn(256, 8, generator=torch.Generator().manual_seed(5))
    return x, torch.stack([torch.sin(2 * x[:, 0] * x[:, 1]), torch.cos(x[:, 2] + x[:, 3])], 1)


def train(output, opt, steps):
    """Losses of each network in the end; `output` is (networks, batch, 2)."""
    x, y = problem()
    for step in range(steps):
        batch = torch.randint(256, (64,), generator=torch.Generator().manual_seed(step))
        opt.zero_grad()
        losses = (output(x[batch]) - y[batch]).square().mean((1, 2))
        losses.sum().backward()
        opt.step()
    return (output(x) - y).square().mean((1, 2)).detach()


def together(models):
    """Stacked parameters, and the outputs as a function of the inputs."""
    params, buffers = stack_module_state(models)
    base = copy.deepcopy(models[0]).to("meta")

    def output(x):
        run = torch.vmap(lambda p, b: functional_call(base, (p, b), (x,)))
        return run(params, buffers)

    return params, output


def test_stacked_networks_end_where_each_ends_alone():
    """Given as tensors, or in pairs with their names."""
    models = [perceptron() for _ in range(3)]
    ends = []
    for listed in (dict.values, dict.items):
        params, output = together(models)
        opt = untuned.Auto(list(listed(params)))
        assert [group["layer"] for group in opt.param_groups] == [Stacked()]
        ends.append(train(output, opt, 300))
    alone = [
        train(lambda x, m=m: m(x)[None], untuned.Auto(by_shape(m)), 300).item() for m in models
    ]
    torch.testing.assert_close(*ends)
    assert ends[0].max() < 0.01  # of a variance of about 0.4
    assert ends[0].tolist() == pytest.approx(alone, rel=0.2)


def test_a_step_of_stacked_networks_is_that_of_each():
    """Auto's first step from gradients that are alike but for their size."""
    models = [convolutions() for _ in range(3)]
    params, output = together(models)
    opt = untuned.Auto(list(params.values()))
    train(output, opt, 1)
    s = float(opt.param_groups[0]["effective_lr"])
    for place, model in enumerate(models):
        its = untuned.Auto(by_shape(model))
        before = [p.detach().clone() for p in model.parameters()]
        train(lambda x, m=model: m(x)[None], its, 1)
        own = float(its.param_groups[0]["effective_lr"])
        for stacked, alone, start in zip(params.values(), model.parameters(), before, strict=True):
            moved = (stacked.detach()[place] - start) / s
            # the ball's radius is one for all: its share of a step is 1 / 30, or a little more
            torch.testing.assert_close(moved, (alone.detach() - start) / own, rtol=0.1, atol=0.02)


def test_stacked_matrices_turn_as_each_alone_under_nero_and_agd():
    stack = torch.randn(3, 5, 4, dtype=torch.float64)
    grad = torch.randn_like(stack)
    for build in (untuned.Nero, lambda p: untuned.Optimizer(p, AGD())):
        weight, alone = nn.Parameter(stack.clone()), [nn.Parameter(each.clone()) for each in stack]
        opts = build([{"params": [weight], "layer": Stacked()}]), build(alone)
        weight.grad = grad
        for each, its in zip(alone, grad, strict=True):
            each.grad = its.clone()
        for opt in opts:
            opt.step()
        moved = [(a - b).detach() for a, b in zip(weight, stack, strict=True)]
        others = [(a - b).detach() for a, b in zip(alone, stack, strict=True)]
        ratio = moved[0].norm() / others[0].norm()  # AGD's eta and depth are the network's
        torch.testing.assert_close(moved, [ratio * other for other in others])


@pytest.mark.parametrize("kind", [Conv(), None])
def test_what_one_network_has_may_be_stated(kind):
    weight = nn.Parameter(torch.randn(3, 8, 4, 5))  # three convolutions of one dimension
    layer = Stacked(kind)
    untuned.AGD([{"params": [weight], "layer": layer}])
    blocks = layer.of_shape((3, 8, 4, 5)).blocks((3, 8, 4, 5))
    assert blocks.dims == ((1, 2) if kind else (2, 3))
    assert untuned.initialise_(nn.Linear(2, 2)) == []


def test_each_network_starts_orthogonal():
    weight = torch.zeros(3, 4, 4, dtype=torch.float64)
    assert Stacked(Dense()).initialise_(weight, None)
    torch.testing.assert_close(weight @ weight.mT, torch.eye(4).double().expand(3, 4, 4))


def tensor(*shape):
    return torch.randn(shape, requires_grad=True)  # no Parameter, which a module would have


OPEN = [
    ([tensor(8, 4), tensor(3, 8, 4)], r"params\[1\], of shape \(3, 8, 4\).*stack of 3.*Conv\(\)"),
    ([("0.weight", tensor(6, 4, 3)), ("0.bias", tensor(6))], r"'0.weight'.*stack of 6.*Conv\(\)"),
    ([tensor(3, 8, 4)], r"params\[0\]"),
    ([tensor(3, 8, 4, 3, 3), tensor(8, 4)], r"params\[0\].*a convolution.*3 stacked.*Stacked\(\)"),
]


@pytest.mark.parametrize(("params", "message"), OPEN)
@pytest.mark.parametrize("build", [untuned.Auto, untuned.AGD, untuned.Nero])
def test_a_shape_that_may_be_two_layers_is_said_once_and_the_mend_is_silent(build, params, message):
    with pytest.warns(GeometryWarning, match=message) as told:
        build(params)
    assert [each.category for each in told].count(GeometryWarning) == 1
    build([{"params": params, "layer": Stacked() if "stacked" in message else None}])


def test_shapes_that_are_clear_and_rules_that_ask_for_none_are_silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error", GeometryWarning)
        untuned.Auto([tensor(8, 4, 3, 3), tensor(8), tensor(8, 4)])
        untuned.AGD([tensor(2, 8, 4), tensor(2, 8), tensor(2, 8, 4)])
        untuned.AGD(nn.Sequential(nn.Conv1d(4, 8, 3), nn.Conv3d(4, 8, 3)))
        untuned.Optimizer([tensor(8, 4, 3)], "adam")
        opt = untuned.Optimizer([tensor(8, 4, 3)], AGD().as_published())
    assert opt.tower.floors[0].rule.by_shape((8, 4, 3)) == Conv()


def test_a_states_shapes_are_those_of_stacks():
    params = [tensor(3, 8, 4), tensor(3, 8)]
    opt = untuned.Auto(params)
    for p in params:
        p.grad = torch.randn_like(p)
    opt.step()
    reversals = [tuple(opt.state[p]["reversals"].shape) for p in params]
    assert reversals == [(3, 1, 1), (3, 1)]
    other = untuned.Auto([tensor(3, 8, 4), tensor(3, 8)])
    other.load_state_dict(copy.deepcopy(opt.state_dict()))
    assert equal(other.state_dict(), opt.state_dict())
    assert Stacked().of_shape((3, 8)) == Stacked(Vector())
