"""A step that asks for nothing, at a rate of 0 with gradients of 0, might never have been.

torch's distributed checkpoints take one to have states made, and put the rate back afterwards.
"""

import copy

import pytest
import torch
from torch import nn

import untuned
from support.networks import equal, numbers, same, snapshot
from support.resumed import RULES

every_rule = pytest.mark.parametrize("rule", RULES)
TYPES = [torch.float64, torch.float32, torch.bfloat16]
every_type = pytest.mark.parametrize("dtype", TYPES, ids=str)
every_lr = pytest.mark.parametrize("kind", [float, torch.tensor], ids=["float", "tensor"])


class Training:
    """A network and its optimizer, whose rate is a number or a tensor."""

    def __init__(self, rule, dtype, kind):
        torch.manual_seed(0)
        layers = nn.Linear(6, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 3)
        self.model = nn.Sequential(*layers).to(dtype)
        self.kind = kind
        self.opt = untuned.Optimizer(self.model, rule, lr=kind(0.1))

    def steps(self, count):
        """Steps along a loss's gradients."""
        for i in range(count):
            self.opt.zero_grad()
            x = torch.cos(torch.arange(12.0) + i).view(2, 6).to(self.model[0].weight)
            self.model(x).square().mean().backward()
            self.opt.step()
        return self

    def idle(self):
        """A step that asks for nothing."""
        rates = [group["lr"] for group in self.opt.param_groups]
        for group in self.opt.param_groups:
            group["lr"] = self.kind(0.0)
        for weight in self.model.parameters():
            weight.grad = torch.zeros_like(weight)
        self.opt.step()
        for group, rate in zip(self.opt.param_groups, rates, strict=True):
            group["lr"] = rate
        return self

    def names(self):
        """What is remembered of each weight."""
        return [sorted(self.opt.state.get(weight, {})) for weight in self.model.parameters()]

    def kept(self):
        """All that is saved, but the rate of the last step; numbers in the weights' precision."""
        state = copy.deepcopy(self.opt.state_dict())
        precise = torch.promote_types(self.model[0].weight.dtype, torch.float32)
        for group in state["param_groups"]:
            del group["effective_lr"]
            last = [name for name in group if "/last." in name]
            group |= {name: torch.as_tensor(group[name], dtype=precise) for name in last}
        return state


@pytest.mark.usefixtures("_eyes")
@every_lr
@every_type
@every_rule
def test_at_the_very_start_it_has_states_made_and_changes_nothing_else(rule, dtype, kind):
    plain, other = Training(rule, dtype, kind), Training(rule, dtype, kind)
    before, values = snapshot(other.model), numbers(other.opt)
    other.idle()
    assert same(other.model, before)
    assert other.opt.skipped_steps == 0
    assert numbers(other.opt) == pytest.approx(values, rel=1e-6)  # they come to be of 32 bits
    assert other.names() == Training(rule, dtype, kind).steps(1).names()
    plain.steps(5)
    other.steps(5)
    assert same(other.model, snapshot(plain.model))
    assert equal(other.opt.state_dict(), plain.opt.state_dict())


@pytest.mark.usefixtures("_eyes")
@every_lr
@every_type
@every_rule
def test_in_mid_run_it_changes_nothing(rule, dtype, kind):
    plain, other = Training(rule, dtype, kind).steps(3), Training(rule, dtype, kind).steps(3)
    before, kept = snapshot(other.model), other.kept()
    other.idle().idle()
    assert same(other.model, before)
    assert equal(other.kept(), kept)
    plain.steps(3)
    other.steps(3)
    assert not same(other.model, before)
    assert same(other.model, snapshot(plain.model))
    assert equal(other.opt.state_dict(), plain.opt.state_dict())
