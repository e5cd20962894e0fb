"""Towers as published walk the reference implementation's trajectories, every floor of them."""

import math

import pytest
import torch
import torch.nn.functional as F

import untuned
from support.recorded import close, load_golden, loss_of
from untuned.rules import SGD, AdaGrad, Adam, RMSProp

# How the recorded names of floor 0 and above read here, and their values on the reference's charts
NAMES = {"alpha": "lr", "mu": "momentum"}

ADAM = Adam(lr=0.003)
TOWERS = {
    "sgd": SGD(0.1),
    "sgd__sgd": SGD(0.1) / SGD(0.01),
    "sgd_mu__sgd": SGD(0.05, momentum=0.9) / SGD(0.001),
    "sgd_x5": SGD(0.1) / SGD(1e-2) / SGD(1e-3) / SGD(1e-4) / SGD(1e-5),
    "sgd_per_param__sgd": SGD(0.1).per_tensor("lr") / SGD(0.01),
    "adagrad__sgd": AdaGrad(0.05) / SGD(0.001),
    "rmsprop__sgd": RMSProp(0.003, gamma=0.99) / SGD(1e-4),
    "rmsprop_alpha__sgd": RMSProp(0.003, gamma=0.99).tuning("lr") / SGD(1e-4),
    "adam__sgd": ADAM / SGD(1e-4),
    "adam_alpha__sgd": ADAM.tuning("lr") / SGD(1e-5),
    "adam__adam": ADAM / Adam(0.001),
    "adam__adam__sgd": ADAM / Adam(0.001) / SGD(1e-4),
}


def raw(opt, key: str) -> float:
    """What the reference records under a name such as `level0.alpha`."""
    level, name = key.split(".", 1)
    floor = int(level.removeprefix("level"))
    group = opt.param_groups[0]
    if name.endswith("_alpha"):  # one a tensor
        weight = group["params"][group["param_names"].index(name.removesuffix("_alpha"))]
        return float(opt.state[weight]["floor0.lr"])
    name = NAMES.get(name, name)
    if f"floor{floor}.{name}" in group:
        return float(group[f"floor{floor}.{name}"])
    value = opt.hyperparameters()[0][floor][name]
    if name in ("beta1", "beta2"):
        return math.atanh(2 * value - 1)
    return value


@pytest.mark.parametrize("name", TOWERS)
def test_a_tower_as_published_walks_the_golden_trajectory(name, digits):
    golden = load_golden(f"tower_{name}")
    p = {key: value.clone().requires_grad_() for key, value in golden.initial.items()}
    opt = untuned.Optimizer(p.items(), TOWERS[name].as_published())
    losses, traces = [], {key: [] for key in golden.trace}
    for step in range(golden.meta["steps"]):
        batch = (torch.arange(64) + 64 * step) % len(digits.labels)
        x = F.linear(
            digits.images[batch].double().flatten(1), p["layers.0.weight"], p["layers.0.bias"]
        )
        output = F.linear(torch.tanh(x), p["layers.1.weight"], p["layers.1.bias"])
        loss = loss_of("ce", output, digits.labels[batch])
        opt.zero_grad()
        loss.backward()
        opt.step()
        losses.append(loss.item())
        for key, series in traces.items():
            series.append(raw(opt, key))
    close(losses, golden.losses)
    for key, series in traces.items():
        close(series, golden.trace[key])
    for key, weight in p.items():
        torch.testing.assert_close(weight.detach(), golden.final[key], rtol=1e-9, atol=1e-12)
