"""States saved by other versions of this code: older ones go on, newer ones are refused."""

import copy
from pathlib import Path

import pytest
import torch

import untuned
from support.networks import equal, perceptron, same, snapshot, train
from untuned.errors import StateError
from untuned.optimizer import state_dict as saving

# Saved after 5 steps of `train`, with the weights 5 steps later, when states had no version yet
FOLDER = Path(__file__).parents[1] / "checkpoints"


@pytest.mark.parametrize("name", ["agd", "nero", "adam", "tower", "block_tower", "per_tensor"])
def test_a_state_of_before_there_were_versions_goes_on_as_it_would_have(name):
    """To rounding: processors add in different orders, and so does today's balancing of neurons."""
    saved = torch.load(FOLDER / f"{name}.pt", weights_only=True)
    assert all("version" not in group for group in saved["opt"]["param_groups"])
    model = perceptron()
    opt = untuned.Optimizer(model, saved["rule"])
    model.load_state_dict(saved["model"])
    opt.load_state_dict(saved["opt"])
    train(model, opt, 5)
    torch.testing.assert_close(dict(model.state_dict()), saved["after"], rtol=0, atol=2e-7)


@pytest.mark.parametrize("version", [saving.VERSION + 1, torch.tensor([saving.VERSION + 1])])
@pytest.mark.parametrize("rule", ["agd", "nero", "adam / sgd"])
def test_a_state_of_a_newer_version_is_refused_and_nothing_changes(rule, version):
    def build():
        model = perceptron()
        return model, untuned.Optimizer([{"params": m.parameters()} for m in model[::2]], rule)

    model, opt = build()
    train(model, opt, 3)
    newer = copy.deepcopy(opt.state_dict())
    fresh, other = build()
    train(fresh, other, 1)
    before, state = snapshot(fresh), copy.deepcopy(other.state_dict())
    newer["param_groups"][1]["version"] = version
    with pytest.raises(StateError, match="update untuned"):
        other.load_state_dict(newer)
    assert same(fresh, before)
    assert equal(other.state_dict(), state)
    newer["param_groups"][1]["version"] = saving.VERSION
    other.load_state_dict(newer)
    assert equal(other.state_dict(), opt.state_dict())
