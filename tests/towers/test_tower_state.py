"""Towers saved, loaded, copied, and what they keep."""

import copy
import gc

import pytest
import torch
from torch import nn

import untuned
from support.networks import numbers, perceptron, same, snapshot, train
from untuned import errors
from untuned.rules import AGD, SGD, Adam, Nero

MISMATCHED = [
    (Adam(), Adam() / SGD()),
    (Adam() / SGD(), Adam()),
    (Adam().tuning("lr") / SGD(), Adam() / SGD()),
    (SGD().as_published() / SGD(), SGD() / SGD()),
    (AGD() / SGD(), Nero() / SGD()),
    (SGD(), AGD()),
]


@pytest.mark.parametrize(("saved", "loaded"), MISMATCHED)
def test_the_state_of_another_tower_is_refused_and_nothing_changes(saved, loaded):
    model = perceptron()
    source, target = untuned.Optimizer(model, saved), untuned.Optimizer(perceptron(), loaded)
    train(model, source, 2)
    before = numbers(target)
    with pytest.raises(errors.StateError, match="build it with the rule"):
        target.load_state_dict(source.state_dict())
    assert numbers(target) == before
    assert not target.state


def test_hooks_see_and_change_what_is_loaded():
    model = perceptron()
    opt, other = untuned.Optimizer(model, Adam()), untuned.Optimizer(model, Adam())
    train(model, opt, 2)

    def forget(_, state_dict):
        state = state_dict["state"]
        zeros = {i: {k: torch.zeros_like(v) for k, v in s.items()} for i, s in state.items()}
        return {**state_dict, "state": zeros}

    other.register_load_state_dict_pre_hook(forget)
    other.load_state_dict(opt.state_dict())
    assert all(not other.state[p]["m"].any() for p in model.parameters())


def test_a_saved_state_does_not_move_with_the_optimizer():
    model = perceptron()
    opt = untuned.Optimizer(model, SGD(0.1) / SGD(1.0))
    train(model, opt, 3)
    groups = opt.state_dict()["param_groups"]
    then = [float(group["floor0.lr"]) for group in groups]
    train(model, opt, 3)
    assert [float(group["floor0.lr"]) for group in groups] == then


@pytest.mark.parametrize("tower", [Adam() / Adam() / SGD(), AGD() / Nero(), SGD() / SGD()])
def test_memory_is_flat_over_many_steps(tower):
    model = perceptron()
    opt = untuned.Optimizer(model, tower)

    def alive():
        gc.collect()
        tensors = [t for t in gc.get_objects() if type(t) in (torch.Tensor, nn.Parameter)]
        sizes = [t.numel() * t.element_size() for t in tensors]
        return len(sizes), sum(sizes)

    train(model, opt, 10)
    early = alive()
    train(model, opt, 200)
    late = alive()  # compiled code of other tests may be let go meanwhile
    assert late[0] <= early[0]
    assert late[1] <= early[1]


def test_the_record_is_one_tensor_of_a_weights_size():
    for tower, tensors in ((SGD() / SGD(), 1), (Adam() / SGD(), 3), (AGD() / SGD(), 1)):
        weight = nn.Parameter(torch.randn(40, 30))
        opt = untuned.Optimizer([weight], tower)
        for _ in range(3):
            weight.grad = torch.randn_like(weight)
            opt.step()
        kept = sum(v.numel() for v in opt.state[weight].values())
        assert tensors * weight.numel() <= kept < (tensors + 0.1) * weight.numel()


def test_copies_go_their_own_ways():
    model = perceptron()
    opt = untuned.Optimizer(model, Adam() / Adam() / SGD())
    train(model, opt, 5)
    other_model, other = copy.deepcopy((model, opt))
    at_copying = numbers(opt)
    train(other_model, other, 5)
    assert numbers(opt) == at_copying
    assert numbers(other) != at_copying
    train(model, opt, 5)
    assert numbers(opt) == numbers(other)
    assert same(model, snapshot(other_model))
