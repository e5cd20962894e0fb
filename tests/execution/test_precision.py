"""Weights of 16 bits learn what weights of 32 bits learn, as far as they can hold it.

The task: least squares, where every weight starts 10 to 20 of its units in the last place (ulp)
from where it belongs, and no step of it is half of one. Rounded to the nearest, such steps vanish.

Rounded by chance, a weight comes to jump between the two numbers next to where it belongs, right
on average: for an optimum at a share t of the way between them its mean square error is t (1 - t)
ulp^2, at most a quarter. The loss that this makes is the floor below.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import untuned
from untuned.rules import SGD, Adam, FreeNero, Nero

START = 0.0801  # the loss before the first step
SHAPE = (16, 24)
STEPS = 600
MANTISSA = {torch.bfloat16: 7, torch.float16: 10}


def ulp(weight, dtype):
    """How far apart the numbers of a type are, near each of a weight's entries."""
    return torch.exp2(weight.abs().log2().floor() - MANTISSA[dtype])


class Regression:
    """Least squares; `short` says in units of which type of 16 bits its weights are off."""

    def __init__(self, dtype, short, balanced=False):
        def uniform(low, high):
            sign = torch.randint(2, SHAPE) * 2 - 1
            return torch.empty(SHAPE).uniform_(low, high) * sign

        torch.manual_seed(0)
        size = torch.finfo(short).eps / 2**-7  # makes one ulp of either type 2**-7
        start = unit_rows(torch.randn(SHAPE)) if balanced else uniform(1.2, 1.8) / size
        self.weight = nn.Parameter(start.to(short).to(dtype))
        start = self.weight.detach().float()
        self.target = start + uniform(10, 20) * ulp(start, short).mean()
        if balanced:
            self.target = unit_rows(self.target)
        self.x = torch.linalg.qr(torch.randn(48, SHAPE[1])).Q
        self.x *= (START / self.loss().item()) ** 0.5
        off = self.x.square().sum(0) * ulp(self.target, short).square() / 4
        self.floor = off.sum().item() / (len(self.x) * SHAPE[0])

    def loss(self):
        return F.mse_loss(self.x @ self.weight.float().T, self.x @ self.target.T)

    def train(self, opt):
        """The losses of `STEPS` steps."""
        losses = []
        for _ in range(STEPS):
            opt.zero_grad()
            loss = self.loss()
            loss.backward()
            losses.append(loss.item())
            opt.step()
        assert losses[0] == pytest.approx(START, rel=1e-3)
        return losses


def unit_rows(weight):
    """Rows of zero mean and unit norm."""
    weight = weight - weight.mean(1, keepdim=True)
    return weight / weight.norm(dim=1, keepdim=True)


class PlainAGD(torch.optim.SGD):
    """AGD of one matrix as published, written to its weight as torch's optimizers write."""

    @torch.no_grad()
    def step(self):
        (weight,) = self.param_groups[0]["params"]
        grad, radius = weight.grad.float(), math.sqrt(SHAPE[0] / SHAPE[1])
        eta = torch.log((1 + torch.sqrt(1 + 4 * radius * grad.norm())) / 2)
        weight -= (eta * radius * grad / grad.norm()).to(weight.dtype)


def muon(params):
    return torch.optim.Muon(params, lr=2e-3, weight_decay=0.0)


PEERS = {
    "SGD": lambda params: torch.optim.SGD(params, lr=0.4),
    "Adam": lambda params: torch.optim.Adam(params, lr=1e-3),
    "AGD": PlainAGD,
    "Muon": pytest.param(
        muon, marks=pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="an older torch")
    ),
}
both_types = pytest.mark.parametrize("short", MANTISSA, ids=str)


@both_types
@pytest.mark.parametrize("peer", PEERS.values(), ids=PEERS)
def test_rounded_to_the_nearest_weights_of_16_bits_stay_where_they_are(peer, short):
    halves, full = Regression(short, short), Regression(torch.float32, short)
    assert min(halves.train(peer([halves.weight]))) > 0.079
    assert min(full.train(peer([full.weight]))) < START / 100


def optimizer(rule):
    """What builds an optimizer with a rule."""
    return lambda params: untuned.Optimizer(params, rule)


def losses_of(build, short, balanced=False):
    """The mean of the last losses, and their floor, once weights of 32 bits are seen to learn."""
    full = Regression(torch.float32, short, balanced)
    assert full.train(build([full.weight]))[-1] < 1e-6
    halves = Regression(short, short, balanced)
    last = halves.train(build([halves.weight]))[-100:]
    assert halves.weight.dtype == short
    assert halves.floor < 0.002 * START
    return sum(last) / len(last), halves.floor


OURS = {
    "SGD": optimizer(SGD(0.4)),
    "Adam": optimizer(Adam(1e-3)),
    "Adam / SGD": optimizer(Adam(1e-3) / SGD(1.0)),
    "AGD": untuned.AGD,
}


@both_types
@pytest.mark.parametrize("build", OURS.values(), ids=OURS)
def test_ours_come_as_far_as_16_bits_can(build, short):
    loss, floor = losses_of(build, short)
    assert loss < floor


def test_so_does_nero_whose_steps_are_relative():
    loss, floor = losses_of(optimizer(FreeNero(1e-3)), torch.bfloat16)
    assert loss < floor


def test_so_does_balanced_nero_nearly():
    """Each step brings rows back to unit norm, and so rounds where no gradient pulls."""
    loss, floor = losses_of(optimizer(Nero(1e-3)), torch.bfloat16, balanced=True)
    assert loss < 2 * floor
