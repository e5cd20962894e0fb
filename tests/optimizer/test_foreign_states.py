"""States that an optimizer cannot go on from are refused, and change nothing."""

import copy
import itertools

import pytest
import torch
from torch import nn

import untuned
from support.networks import equal, layers, perceptron, same, snapshot, train
from untuned.errors import StateError
from untuned.rules import SGD, AdaGrad, Adam, FreeNero, RMSProp


class Prodigy(torch.optim.Optimizer):
    """An optimizer that finds its rate, with states and options named as by Prodigy."""

    def __init__(self, params):
        super().__init__(params, {"lr": 1.0, "d": 1e-6, "d_max": 1e-6, "k": 0})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            group["k"] += 1
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state |= {"step": 0, "s": torch.zeros_like(p), "p0": p.clone()}
                state["step"] += 1
                state["s"].add_(p.grad, alpha=group["d"])
                p.sub_(p.grad, alpha=0.01)


OURS = {
    "agd": untuned.AGD,
    "nero": untuned.Nero,
    "auto": untuned.Auto,
    "adam": lambda model: untuned.Optimizer(model, Adam()),
    "sgd": lambda model: untuned.Optimizer(model, SGD(0.1, momentum=0.9)),
    "adagrad": lambda model: untuned.Optimizer(model, AdaGrad()),
    "rmsprop": lambda model: untuned.Optimizer(model, RMSProp()),
    "free nero": lambda model: untuned.Optimizer(model, FreeNero()),
    "tower": lambda model: untuned.Optimizer(model, Adam() / SGD(1e-5)),
}
THEIRS = {
    "AdamW": lambda model: torch.optim.AdamW(model.parameters()),
    "SGD": lambda model: torch.optim.SGD(model.parameters(), lr=0.1),
    "SGD with momentum": lambda model: torch.optim.SGD(model.parameters(), 0.1, momentum=0.9),
    "Adagrad": lambda model: torch.optim.Adagrad(model.parameters()),
    "RMSprop": lambda model: torch.optim.RMSprop(model.parameters()),
    "Adadelta": lambda model: torch.optim.Adadelta(model.parameters()),
    "NAdam, named": lambda model: torch.optim.NAdam(model.named_parameters()),
    "LBFGS": lambda model: torch.optim.LBFGS(model.parameters()),
    "Prodigy": lambda model: Prodigy(model.parameters()),
}
KINDS = {**OURS, **THEIRS}


def trained(kind, steps=2):
    """A network, and an optimizer that has worked on it; alike at each call."""
    torch.manual_seed(0)
    model = perceptron()
    opt = KINDS[kind](model)
    if kind != "LBFGS":
        train(model, opt, steps)
    return model, opt


def is_refused(kind, steps, state, match):
    """Whether a state is refused, and the optimizer goes on as if it had not been given any."""
    (model, opt), (twin, its) = trained(kind, steps), trained(kind, steps)
    groups, saved = [dict(group) for group in opt.param_groups], copy.deepcopy(opt.state_dict())
    geometry = layers(opt)
    before, given = snapshot(model), copy.deepcopy(state)
    with pytest.raises(StateError, match=match):
        opt.load_state_dict(state)
    assert equal(state, given)
    assert all(a.keys() == b.keys() for a, b in zip(opt.param_groups, groups, strict=True))
    assert layers(opt) == geometry
    assert same(model, before)
    assert equal(opt.state_dict(), saved)
    assert train(model, opt, 3) == train(twin, its, 3)
    return True


@pytest.mark.parametrize(("source", "target"), list(itertools.product(KINDS, OURS)))
@pytest.mark.parametrize("steps", [0, 2], ids=["new", "used"])
def test_the_state_of_another_optimizer_is_refused(source, target, steps):
    _, opt = trained(source)
    if source == target:
        _, mine = trained(target, steps)
        mine.load_state_dict(opt.state_dict())
        assert equal(mine.state_dict(), opt.state_dict())
        return
    mend = "build it with the rule" if source in OURS else "the weights alone"
    assert is_refused(target, steps, opt.state_dict(), mend)


@pytest.mark.parametrize("target", OURS)
def test_what_is_no_optimizers_state_is_refused(target):
    model, opt = trained(target)
    checkpoint = {"model": model.state_dict(), "opt": opt.state_dict()}
    assert is_refused(target, 2, checkpoint, r"opt\.state_dict\(\)")
    assert is_refused(target, 2, dict(model.state_dict()), r"opt\.state_dict\(\)")


@pytest.mark.parametrize("target", OURS)
def test_the_state_of_other_tensors_is_refused(target):
    longer = nn.Sequential(*perceptron(), nn.Linear(3, 3))
    other = OURS[target](longer)
    train(longer, other, 2)
    assert is_refused(target, 2, other.state_dict(), "build it from the same parameters")


@pytest.mark.parametrize("target", sorted(OURS.keys() - {"agd"}))  # which has no state
def test_the_state_of_a_network_of_another_width_is_refused(target):
    wider = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 3))
    other = OURS[target](wider)
    train(wider, other, 2)
    assert is_refused(target, 2, other.state_dict(), r"'0\.weight'.*build the network")
