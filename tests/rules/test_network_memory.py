"""What a rule remembers of the whole network, from step to step."""

import math

import pytest
import torch
from torch import nn

import untuned


def step(nets, opt, device="cpu"):
    x = torch.ones(4, 3, device=device)
    opt.zero_grad()
    nets(x).square().sum().backward()
    opt.step()


def rate(opt, weight):
    """How far the last step of a weight went."""
    groups = (group for group in opt.param_groups if any(weight is p for p in group["params"]))
    return float(next(groups)["effective_lr"])


@pytest.mark.parametrize("frozen", [0, 1])
def test_time_goes_on_where_a_group_is_frozen_for_some_steps(frozen):
    """As in fine-tuning: to the end of the horizon, whichever group is there first."""
    nets = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    opt = untuned.Auto([{"params": net} for net in nets], horizon=10)
    found = []
    for t in range(10):
        nets[frozen].requires_grad_(3 <= t < 6)
        step(nets, opt)
        believed = opt.param_groups[0]["floor0/network.believed"]  # first steps are shorter
        found.append(rate(opt, nets[1 - frozen].weight) / float(believed))
    # the degree is two at most; a layer that moves alone takes the whole trust region
    longest = [0.06 if 3 <= t < 6 else math.log((1 + 5**0.5) / 2) for t in range(10)]
    expected = [s * (1 - t / 10) for t, s in enumerate(longest)]
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("rule", ["auto", "sgd(lr=0.1) / auto"])
def test_memory_stays_in_place(rule):
    """A step captured in a graph of CUDA's reads and writes the same places each time."""
    nets = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    opt = untuned.Optimizer(nets, rule)
    step(nets, opt)
    group = opt.param_groups[0]
    before = {name: value for name, value in group.items() if "/network." in name}
    numbers = {name: float(value) for name, value in before.items()}
    step(nets, opt)
    assert len(before) == 4
    for name, value in before.items():
        assert group[name] is value
        assert float(value) == numbers[name] + 1 or not name.endswith("steps")


def test_memory_follows_the_weights_to_their_device():
    """A state that was saved on another device is loaded as it is."""
    nets = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2)).to("meta")
    opt = untuned.Optimizer(nets, "auto")
    step(nets, opt, "meta")
    names = [name for name in opt.param_groups[0] if "/network." in name]
    opt.param_groups[0].update(dict.fromkeys(names, torch.tensor(1.0)))
    step(nets, opt, "meta")
    assert names
    assert {opt.param_groups[0][name].device.type for name in names} == {"meta"}
