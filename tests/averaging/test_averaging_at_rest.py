"""Weights that rest, thaw, or are moved by others, and their averages."""

import contextlib
import copy

import pytest
import torch
from torch import nn

import untuned
from support.averages import (
    COUNT,
    ITERATE,
    averages,
    batch,
    evaluated,
    everything,
    gradients_at,
    iterates,
    loss_of,
    train,
    trained,
)
from support.networks import equal, perceptron
from untuned.errors import AverageWarning, NonFiniteGradientWarning


def test_a_frozen_layer_stays_exactly_and_may_thaw():
    model, opt = trained(untuned.Auto)
    before, W = averages(model), iterates(model, opt)
    seen = []
    model[0].register_forward_hook(lambda layer, *_: seen.append(layer.weight.detach().clone()))
    model[0].requires_grad_(False)
    train(model, opt, range(6, 10))  # the first of them finds gradients of before
    model.eval()(batch(0)[0]), model.train()
    assert all(torch.equal(each, before["0.weight"]) for each in seen)
    assert torch.equal(model[0].weight, before["0.weight"])
    assert not torch.equal(model[2].weight, before["2.weight"])
    model[0].requires_grad_(True)
    seen.clear()
    train(model, opt, [10])
    assert torch.equal(seen[0], W["0.weight"])  # it goes on from where it was
    assert opt.state[model[0].weight][COUNT] == 7
    assert opt.state[model[2].weight][COUNT] == 11


def test_a_layer_that_is_thawed_begins_its_average_then():
    torch.manual_seed(0)
    model = perceptron()
    model[0].requires_grad_(False)
    opt = untuned.Auto(model)
    train(model, opt, range(5))
    model[0].requires_grad_(True)
    train(model, opt, [5])
    state = opt.state[model[0].weight]
    assert torch.equal(state[ITERATE], model[0].weight)
    assert state[COUNT] == 1


def test_a_layer_frozen_with_gradients_moves_as_torch_would_move_it():
    """Gradients of before the freezing are there: what the module holds is what moves."""
    model, opt = trained(untuned.Auto)
    loss_of(model, 6).backward()
    model.state_dict()
    model[0].requires_grad_(False)
    before = averages(model)
    opt.step()
    weight = model[0].weight
    assert 0 < (weight - before["0.weight"]).abs().max() < 0.1
    assert torch.equal(opt.state[weight][ITERATE], weight)


@pytest.mark.usefixtures("_eyes")
@pytest.mark.filterwarnings("ignore::untuned.errors.NonFiniteGradientWarning")
def test_gradients_that_are_not_finite_change_neither():
    model, opt = trained(untuned.Auto)
    x, W = averages(model), iterates(model, opt)
    counts = [float(state[COUNT]) for state in opt.state.values()]
    opt.zero_grad()
    (loss_of(model, 6) * float("nan")).backward()
    opt.step()
    assert opt.skipped_steps == 1
    assert equal(averages(model), x)
    assert equal(iterates(model, opt), W)
    assert [float(state[COUNT]) for state in opt.state.values()] == counts
    train(model, opt, [7])
    assert not equal(averages(model), x)


@pytest.mark.usefixtures("_eyes")
def test_a_first_step_that_is_not_finite_begins_nothing():
    torch.manual_seed(0)
    model = perceptron()
    before = averages(model)
    opt = untuned.Auto(model)
    (loss_of(model, 6) * float("inf")).backward()
    with pytest.warns(NonFiniteGradientWarning):
        opt.step()
    assert equal(averages(model), before)
    train(model, opt, [0])
    assert equal(averages(model), iterates(model, opt))
    assert {float(state[COUNT]) for state in opt.state.values()} == {1.0}


def by_hand(model, step):
    for name, grad in gradients_at(model, averages(model), step).items():
        model.get_parameter(name).grad = grad


def by_functional_call(model, step):
    """A loss of weights that are handed in, whose gradient a transform finds."""

    def loss(weights):
        x, labels = batch(step)
        found = torch.func.functional_call(model, weights, (x,))
        return nn.functional.cross_entropy(found, labels)

    grads = torch.func.grad(loss)({name: p.detach() for name, p in model.named_parameters()})
    for name, p in model.named_parameters():
        p.grad = grads[name]


@pytest.mark.parametrize("make", [by_hand, by_functional_call])
def test_weights_whose_passes_cannot_be_seen_move_as_without_an_average(make):
    def moved(average, told):
        torch.manual_seed(0)
        model = perceptron()
        opt = untuned.Auto(model, average=average)
        with told:
            for step in range(20):
                make(model, step)
                opt.step()
        assert {group["power"] for group in opt.param_groups} == {1.0}
        return everything(model, opt)

    with pytest.warns(AverageWarning) as caught:
        found = moved(None, contextlib.nullcontext())
    assert len(caught) == 1
    # data cannot be seen either, so both take them to be of size one
    assert equal(found, moved(False, contextlib.nullcontext()))


def test_a_step_that_moves_nothing_leaves_averages_as_they_are():
    """As torch takes it to allocate a state (lr=0, zero gradients)."""
    model, opt = trained(untuned.Auto)
    before = everything(model, opt)
    for group in opt.param_groups:
        group["lr"] = 0.0
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    opt.step()
    found = everything(model, opt)
    assert equal(found[0], before[0])
    for state, its in zip(found[1].values(), before[1].values(), strict=True):
        assert equal(state[ITERATE], its[ITERATE])
        assert equal(state[COUNT], its[COUNT])


def test_weights_that_are_not_the_optimizers_may_stand_before_its_own():
    """As a base of 8 bits does, below what is trained."""
    torch.manual_seed(0)
    model = perceptron()
    base = nn.Parameter(torch.ones(2, dtype=torch.int8), requires_grad=False)
    model.register_parameter("base", base)
    assert next(model.parameters()) is base
    opt = untuned.Auto(model)
    train_first = [p for p in model.parameters() if p is not base]
    for step in range(3):
        opt.zero_grad()
        x, labels = batch(step)
        nn.functional.cross_entropy(model(x), labels).backward()
        opt.step()
    assert all(opt.state[p][COUNT] == 3 for p in train_first)


def test_what_another_optimizer_does_stays():
    """Auto's hooks are still there when a network goes on to train with SGD."""
    model, _ = trained(untuned.Auto)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    train(model, sgd, [6])  # from the iterate, which Auto had there
    twin = copy.deepcopy(model)
    other = torch.optim.SGD(twin.parameters(), lr=0.1)
    for step in range(7, 10):
        train(model, sgd, [step])
        train(twin, other, [step])
        evaluated(model)
        assert equal(dict(model.state_dict()), dict(twin.state_dict()))
