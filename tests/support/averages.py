"""Averages of weights, for tests: computed from the iterates that an optimizer's state holds."""

import copy

import torch
import torch.nn.functional as F
from torch import nn

from support.networks import perceptron

ITERATE, COUNT = "average.iterate", "average.steps"


class Average:
    """x <- x + 9 / (t + 8) (W - x) in float64, of every weight that moves."""

    def __init__(self, opt):
        self.opt, self.x, self.t = opt, {}, {}

    def follow(self):
        """After a step that moved all weights that have an iterate."""
        for p, state in self.opt.state.items():
            W = state[ITERATE].double()
            t = self.t[p] = self.t.get(p, 0) + 1
            x = self.x.get(p, W)
            self.x[p] = x + 9 / (t + 8) * (W - x)

    def check(self, rtol=1e-6, atol=1e-9):
        """That the module holds it, and not the iterate."""
        for p, x in self.x.items():
            torch.testing.assert_close(p.detach().double(), x, rtol=rtol, atol=atol)
        assert not all(torch.equal(p, state[ITERATE]) for p, state in self.opt.state.items())


def iterates(model, opt):
    """The iterates by name, copied, of a module at rest."""
    state = opt.state
    return {n: state[p][ITERATE].clone() for n, p in model.named_parameters() if p in state}


def averages(model):
    """The weights by name, copied."""
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def batch(step, dtype=torch.float32):
    """A batch for a `perceptron`, another at every step."""
    random = torch.Generator().manual_seed(step)
    return torch.randn(8, 6, generator=random).to(dtype), torch.arange(8) % 3


def loss_of(model, step):
    x, labels = batch(step, next(model.parameters()).dtype)
    return F.cross_entropy(model(x), labels)


def train(model, opt, steps):
    """Steps of these numbers."""
    for step in steps:
        opt.zero_grad()
        loss_of(model, step).backward()
        opt.step()


def gradients_at(model, weights, step):
    """Gradients of the loss of a batch at weights of one's own, by name."""
    leaves = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
    x, labels = batch(step, next(model.parameters()).dtype)
    loss = F.cross_entropy(torch.func.functional_call(model, leaves, (x,)), labels)
    return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))


def trained(optimizer, steps=6, network=perceptron):
    """A network and its optimizer after some steps, at rest."""
    torch.manual_seed(0)
    model = network()
    opt = optimizer(model)
    train(model, opt, range(steps))
    return model, opt


class Wrapped(nn.Module):
    """A network whose root is never called, but its parts."""

    def __init__(self):
        super().__init__()
        self.net = perceptron()

    def evaluate_actions(self, x):
        for layer in self.net:
            x = layer(x)
        return x


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def everything(model, opt):
    """All that a training goes on from."""
    return copy.deepcopy([model.state_dict(), opt.state_dict()["state"]])


def evaluated(model):
    model.eval()
    with torch.no_grad():
        model(batch(99)[0])
    model.train()
