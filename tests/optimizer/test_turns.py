"""One optimizer for each tensor of a network: said once, where the rule looks at all of it."""

import warnings

import pytest
import torch
from torch import nn

import untuned
from support.networks import backward, perceptron, same, snapshot
from untuned.errors import TurnsWarning
from untuned.optimizer import turns


@pytest.fixture(autouse=True)
def _anew(monkeypatch):
    monkeypatch.setattr(turns, "turns", turns.Turns())


# which Auto gives of any parameter alone
pytestmark = pytest.mark.filterwarnings("ignore::untuned.errors.BareTensorsWarning")


def in_turn(model, build, steps=4):
    """Steps of an optimizer for each tensor, after the backward pass."""
    opts = [build([p]) for p in model.parameters()]
    for _ in range(steps):
        model.zero_grad()
        backward(model)
        for opt in opts:
            opt.step()


def in_backward(model, build, steps=4):
    """Steps of an optimizer for each tensor, as soon as its gradient is there."""
    opts = {p: build([p]) for p in model.parameters()}

    def move(param):
        opts[param].step()
        opts[param].zero_grad()

    for param in model.parameters():
        param.register_post_accumulate_grad_hook(move)
    for _ in range(steps):
        backward(model)


def rule(text):
    return lambda params: untuned.Optimizer(params, text)


@pytest.mark.parametrize("train", [in_turn, in_backward])
@pytest.mark.parametrize("build", [untuned.AGD, untuned.Auto, rule("agd / sgd(lr=1)")])
def test_a_rule_that_looks_at_the_network_says_once_that_it_sees_a_tensor(build, train):
    with pytest.warns(TurnsWarning, match=r"one optimizer all of it.*untuned\.Nero") as told:
        train(perceptron(), build)
    assert [each.category for each in told].count(TurnsWarning) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error", TurnsWarning)
        train(perceptron(), build)


@pytest.mark.parametrize("train", [in_turn, in_backward])
@pytest.mark.parametrize("build", [untuned.Nero, rule("adam"), rule("adam / sgd(lr=1e-3)")])
def test_other_rules_are_silent_and_nero_and_adam_train_as_one_optimizer_does(build, train):
    one, other = perceptron(), perceptron()
    other.load_state_dict(one.state_dict())
    train(one, build)
    opt = build(other)
    for _ in range(4):
        opt.zero_grad()
        backward(other)
        opt.step()
    if len(opt.tower.floors) == 1:
        for mine, its in zip(one.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(mine, its, rtol=1e-5, atol=1e-7)


def test_what_does_not_take_turns_is_silent():
    two = [nn.Parameter(torch.randn(3, 2)) for _ in range(2)]
    opts = [untuned.AGD([p]) for p in two]
    for _ in range(3):  # two problems, side by side
        for p, opt in zip(two, opts, strict=True):
            p.grad = torch.randn_like(p)
            opt.step()
    for _ in range(6):  # one after the other
        p = nn.Parameter(torch.randn(3, 2))
        opt = untuned.AGD([p])
        for _ in range(3):
            p.grad = torch.randn_like(p)
            opt.step()
    models = [perceptron() for _ in range(3)]  # networks, not tensors
    opts = list(map(untuned.AGD, models))
    before = [snapshot(model) for model in models]
    for _ in range(3):
        for model, opt in zip(models, opts, strict=True):
            model.zero_grad()
            backward(model)
            opt.step()
    assert not any(map(same, models, before))
