"""The last step, replayed: with what it was taken with, and for those that took it."""

import copy
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import untuned
from support.networks import perceptron
from untuned.domain import POSITIVE, hyperparameter
from untuned.elementwise import Elementwise, Move
from untuned.rules import AGD, SGD, AdaGrad, Adam, FreeNero, RMSProp


def test_a_parameter_that_sits_out_forgets_its_last_step():
    """Its state is brought up to date, and later gradients say nothing of that step."""
    torch.manual_seed(0)
    model = perceptron().double()
    twin = copy.deepcopy(model)
    # a floor above that does not move: what remains is the bookkeeping
    opt = untuned.Optimizer(model, Adam(0.1) / SGD(1e-300))
    plain = torch.optim.Adam(twin.parameters(), 0.1)
    for step in range(8):
        for net, optimizer in ((model, opt), (twin, plain)):
            optimizer.zero_grad()
            output = net(torch.ones(4, 6, dtype=torch.float64))
            F.cross_entropy(output, torch.tensor([0, 1, 2, 0])).backward()
            if step in (2, 3, 6):
                net[2].bias.grad = None
            optimizer.step()
    torch.testing.assert_close(
        list(model.parameters()), list(twin.parameters()), rtol=1e-9, atol=1e-9
    )


@dataclass(frozen=True)
class SignSGD(Elementwise):
    lr: float = hyperparameter(0.01, POSITIVE)
    sharpness: float = hyperparameter(5.0, POSITIVE)

    def update(self, grad, state):
        return Move(-self.lr, torch.tanh(self.sharpness * grad))


def test_a_users_rule_has_towers_for_free():
    weight = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    opt = untuned.Optimizer([weight], SignSGD() / SGD(0.5))
    first = torch.tensor([0.3, -0.1], dtype=torch.float64)
    second = torch.tensor([0.2, 0.4], dtype=torch.float64)
    for grad in (first, second):
        weight.grad = grad
        opt.step()
    lr, sharpness = (torch.tensor(v, dtype=torch.float64).log() for v in (0.01, 5.0))

    def gain(lr, sharpness):
        return (second * -lr.exp() * torch.tanh(sharpness.exp() * first)).sum()

    d = 1e-6
    slopes = [
        (gain(lr + d, sharpness) - gain(lr - d, sharpness)) / (2 * d),
        (gain(lr, sharpness + d) - gain(lr, sharpness - d)) / (2 * d),
    ]
    floor = opt.hyperparameters()[0][0]
    assert floor["lr"] == pytest.approx(float((lr - 0.5 * slopes[0]).exp()), rel=1e-8)
    assert floor["sharpness"] == pytest.approx(float((sharpness - 0.5 * slopes[1]).exp()), rel=1e-8)


def test_a_dead_neuron_does_not_silence_the_others():
    """Its root has no derivative; the hypergradient must not become NaN, and be dropped, for it."""
    for rule in (FreeNero(0.1), Adam(0.1), RMSProp(0.1), AdaGrad(0.1), AGD()):
        weight = nn.Parameter(torch.ones(4, 3))
        opt = untuned.Optimizer([weight], rule / SGD(0.01))
        for _ in range(4):
            weight.grad = torch.ones(4, 3)
            weight.grad[1] = 0.0
            opt.step()
        rate = next(iter(opt.hyperparameters()[0][0].values()))
        assert rate > 1.0001 * next(iter(rule.hyperparameters().values())), rule


@pytest.mark.parametrize("way", ["lone", "tuned in part"])
def test_a_schedule_of_what_nobody_tunes_is_followed_step_by_step(way):
    """The last step is replayed with what it was taken with, not with what is there now."""
    rule = Adam(0.1) if way == "lone" else Adam(0.1).tuning("lr", "eps") / SGD(1e-300)
    ours, theirs = (nn.Parameter(torch.ones(5, dtype=torch.float64)) for _ in range(2))
    opt = untuned.Optimizer([ours], rule)
    m, v, n1, n2 = (torch.zeros(5, dtype=torch.float64) for _ in range(4))
    for step in range(8):
        betas = (0.95, 0.999) if step % 2 else (0.5, 0.9)
        opt.param_groups[0]["betas"] = betas
        ours.grad = torch.cos(torch.arange(5.0, dtype=torch.float64) + step)
        opt.step()
        m, v = (
            b * x + (1 - b) * g
            for b, x, g in zip(betas, (m, v), (ours.grad, ours.grad**2), strict=True)
        )
        n1, n2 = (b * n + (1 - b) for b, n in zip(betas, (n1, n2), strict=True))
        with torch.no_grad():
            theirs -= 0.1 * (m / n1) / ((v / n2).sqrt() + 1e-8)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_a_step_of_no_length_says_nothing():
    weight = nn.Parameter(torch.randn(4, 3, dtype=torch.float64))
    opt = untuned.Optimizer([weight], FreeNero(0.1, beta=0.9).tuning("beta") / SGD(1.0))
    for lr in (0.0, 0.0, 1.0):
        opt.param_groups[0]["lr"] = lr
        weight.grad = torch.randn_like(weight) + 1
        opt.step()
    assert opt.hyperparameters()[0][0]["beta"] == pytest.approx(0.9, rel=1e-12)
