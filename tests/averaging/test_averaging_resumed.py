"""Weights and averages that are loaded, written to or moved: a training goes on as it was."""

import io

import pytest
import torch

import untuned
from support.averages import (
    COUNT,
    ITERATE,
    averages,
    everything,
    gradients,
    gradients_at,
    iterates,
    loss_of,
    train,
    trained,
)
from support.networks import equal, perceptron
from untuned.errors import AverageWarning


def saved(model, opt):
    file = io.BytesIO()
    torch.save([model.state_dict(), opt.state_dict()], file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("weights_first", [True, False])
@pytest.mark.parametrize("amid", [False, True])
def test_what_is_loaded_goes_on_bit_for_bit(weights_first, amid):
    model, opt = trained(untuned.Auto)
    train(model, opt, range(6, 9))  # so that no pass is looked at: the look is not saved
    if amid:
        loss_of(model, 50).backward()
    weights, state = saved(model, opt)
    torch.manual_seed(1)
    other = perceptron()
    if weights_first:
        other.load_state_dict(weights)
    its = untuned.Auto(other)
    its.load_state_dict(state)
    if not weights_first:
        other.load_state_dict(weights)
    train(model, opt, range(9, 15))
    train(other, its, range(9, 15))
    assert equal(everything(model, opt), everything(other, its))


@pytest.mark.parametrize("weights_first", [True, False])
@pytest.mark.parametrize("amid", [False, True])
def test_a_rewind_goes_the_same_way_again(weights_first, amid):
    model, opt = trained(untuned.Auto)
    weights, state = saved(model, opt)
    train(model, opt, range(6, 12))
    expected = everything(model, opt)
    if amid:
        loss_of(model, 50).backward()
    if weights_first:
        model.load_state_dict(weights)
    opt.load_state_dict(state)
    if not weights_first:
        model.load_state_dict(weights)
    train(model, opt, range(6, 12))
    assert equal(everything(model, opt), expected)


def by_loading(model, weights):
    model.load_state_dict(weights)


def by_loading_a_part(model, weights):
    model[0].load_state_dict({name[2:]: w for name, w in weights.items() if name[0] == "0"})


@torch.no_grad()
def by_copying(model, weights):
    for name, p in model.named_parameters():
        p.copy_(weights[name])


@pytest.mark.parametrize("amid", [False, True])
@pytest.mark.parametrize("write", [by_loading, by_loading_a_part, by_copying])
def test_the_iterate_begins_anew_where_weights_are_written_to(write, amid):
    model, opt = trained(untuned.Auto)
    if amid and write is not by_copying:
        loss_of(model, 50).backward()
    torch.manual_seed(1)
    new = averages(perceptron())
    write(model, new)
    opt.zero_grad()
    loss_of(model, 6).backward()
    now = averages(model)
    names = [name for name in new if name[0] == "0" or write is not by_loading_a_part]
    assert all(torch.equal(now[name], new[name]) for name in names)
    opt.step()
    for name in names:
        p = model.get_parameter(name)
        assert opt.state[p][COUNT] == 1
        assert torch.equal(opt.state[p][ITERATE], p)
    assert {float(state[COUNT]) for state in opt.state.values()} <= {1.0, 7.0}


def test_weights_move_to_another_type_with_their_iterates():
    model, opt = trained(untuned.Auto)
    W = {name: w.double() for name, w in iterates(model, opt).items()}
    model.double()
    opt.zero_grad()
    loss_of(model, 7).backward()
    assert equal(gradients(model), gradients_at(model, W, 7))
    opt.step()
    assert all(state[ITERATE].dtype == torch.float64 for state in opt.state.values())


def test_a_state_may_be_loaded_by_an_optimizer_that_does_not_average():
    """It goes on from the average, and says so."""
    model, opt = trained(untuned.Auto)
    weights, state = saved(model, opt)
    other = perceptron()
    other.load_state_dict(weights)
    its = untuned.Auto(other, average=False)
    its.load_state_dict(state)
    with pytest.warns(AverageWarning):
        train(other, its, [6])
    assert not any(ITERATE in each for each in its.state.values())
    moved = (other[0].weight - weights["0.weight"]).norm() / weights["0.weight"].norm()
    assert 0 < moved < 0.1
