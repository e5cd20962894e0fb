"""States saved by other versions of this code: older ones go on, newer ones are refused."""

import copy
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import untuned
from support.networks import equal, perceptron, same, snapshot, train
from untuned import rules
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


class Net(nn.Module):
    """Tensors of several geometries, the head declared first."""

    def __init__(self):
        super().__init__()
        self.head, self.table = nn.Linear(5, 3), nn.Embedding(7, 4)
        self.conv, self.lstm = nn.Conv1d(4, 6, 3, padding=1), nn.LSTM(6, 5, batch_first=True)
        self.norm = nn.LayerNorm(5)

    def forward(self, x):
        return self.head(self.norm(self.lstm(self.conv(self.table(x).mT).mT)[0][:, -1]))


def _former_radius(layer, shape):
    return layer.radius(shape) / math.sqrt(layer.offsets(shape))


def test_a_state_of_when_modules_were_a_group_for_each_geometry_goes_on_as_it_would_have(
    monkeypatch,
):
    """Saved as the others, with batches from the steps' numbers, when kernels' steps were less."""
    monkeypatch.setattr(rules.auto, "_radius", _former_radius)
    saved = torch.load(FOLDER / "groups_by_layer.pt", weights_only=True)
    assert len(saved["opt"]["param_groups"]) == 6
    model = Net()
    opt = untuned.Auto([{"params": model}])
    model.load_state_dict(saved["model"])
    opt.load_state_dict(saved["opt"])
    assert len(opt.param_groups) == 1
    assert opt.param_groups[0]["lr"] == 0.5
    for step in range(5, 10):
        torch.manual_seed(step)
        tokens, labels = torch.randint(7, (8, 6)), torch.randint(3, (8,))
        opt.zero_grad()
        F.cross_entropy(model(tokens), labels).backward()
        opt.step()
    torch.testing.assert_close(dict(model.state_dict()), saved["after"], rtol=0, atol=1e-5)


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
