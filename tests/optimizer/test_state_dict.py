"""Saving, loading and copying."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

import untuned
from support.networks import backward, layers, perceptron, same, snapshot


def test_state_dict_is_plain_and_loads_with_weights_only():
    model = perceptron()
    opt = untuned.AGD(model, lr=0.3, gain=2.0)
    backward(model)
    opt.step()
    file = io.BytesIO()
    torch.save(opt.state_dict(), file)
    file.seek(0)
    fresh = untuned.AGD(model)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert fresh.hyperparameters() == [[{"gain": 2.0}]]
    assert fresh.param_groups[0]["lr"] == 0.3


def test_geometry_is_the_models_and_survives_loading():
    model = nn.LSTM(3, 4)
    opt = untuned.AGD(model)
    before = layers(opt)
    (saved,) = opt.state_dict()["param_groups"]
    assert saved["layer"] == ", ".join(dict.fromkeys(map(str, before[0])))
    opt.load_state_dict(copy.deepcopy(opt.state_dict()))
    assert layers(opt) == before


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("build", [untuned.AGD, untuned.Nero])
def test_torchs_distributed_checkpoints_carry_it(flat, build):
    options = StateDictOptions(flatten_optimizer_state_dict=flat)
    model, fresh = perceptron(), perceptron()
    opt = build(model)
    for _ in range(2):
        opt.zero_grad()
        backward(model)
        opt.step()
    saved = copy.deepcopy(get_optimizer_state_dict(model, opt, options=options))
    fresh.load_state_dict(model.state_dict())
    weights = snapshot(fresh)
    other = build(fresh)
    fresh.load_state_dict(model.state_dict())
    set_optimizer_state_dict(fresh, other, saved, options=options)
    assert same(fresh, weights)  # it starts by a step with lr = 0
    for net, each in ((model, opt), (fresh, other)):
        each.zero_grad()
        backward(net)
        each.step()
    assert same(fresh, snapshot(model))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_go_on_alike(duplicate):
    model = perceptron()
    pair = duplicate((model, untuned.AGD(model, gain=2.0)))
    for net, opt in ((model, untuned.AGD(model, gain=2.0)), pair):
        for _ in range(3):
            opt.zero_grad()
            backward(net)
            opt.step()
    assert same(pair[0], snapshot(model))
    assert pair[1].skipped_steps == 0
