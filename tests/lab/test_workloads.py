"""Every workload at its small size: it trains, the same for the same seed, and honestly."""

import json
import math
import re

import pytest
import torch

from support.pages import DOCS
from untuned.lab.config import Config
from untuned.lab.errors import MissingDataError, UnknownNameError
from untuned.lab.workloads.registry import HELD_OUT, WORKLOADS, find
from untuned.lab.workloads.supervised import Supervised, chosen, share
from untuned.lab.workloads.task import Pairs, Windows
from untuned.lab.workloads.vision import crop_and_flip

SUPERVISED = [name for name in WORKLOADS if name != "ppo-cartpole"]


def test_the_committed_comparison_has_trained_every_one():
    lines = (DOCS / "results" / "cells.jsonl").read_text(encoding="utf-8").splitlines()
    assert {json.loads(line)["workload"] for line in lines} == set(WORKLOADS)


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize("name", WORKLOADS)
def test_a_workload_trains_the_same_twice_and_alike_for_every_optimizer(name, go):
    first, again = (go(name, "adamw", steps=2) for _ in "ab")
    other = go(name, "sgdm(lr=1e-9)", steps=1)
    assert first.status == "done"
    assert first.curve == again.curve
    assert all(math.isfinite(point["valid_loss"]) for point in first.curve)
    assert first.curve[0]["step"] == 0
    # the same weights, examples and noise; then the optimizers differ
    assert first.curve[0] | {"lr": 0} == other.curve[0] | {"lr": 0}
    if name in SUPERVISED:
        assert first.curve[1]["train_loss"] == other.curve[1]["train_loss"]
    assert go(name, "adamw", steps=1, seed=1).curve != first.curve[:2]


def keys(rows):
    """Each row as bytes."""
    return [row.tobytes() for row in (rows + 0).flatten(1 - (rows.ndim == 1)).numpy()]


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize("name", SUPERVISED)
def test_validation_is_apart_from_training(name):
    task = find(name).at("small")
    assert isinstance(task, Supervised)
    assert 64 <= len(task.valid) <= 1000
    assert 200 <= task.steps <= 600
    if isinstance(task.train, Windows):
        train = task.train.tokens.unfold(0, task.train.length + 1, 1)
        rows = set(keys(train[:: max(1, len(train) // 50_000)]))
        window = torch.cat([task.valid.inputs, task.valid.targets[:, -1:]], dim=1)
    else:
        rows = set(keys(task.train.inputs))
        window = task.valid.inputs
    shared = sum(row in rows for row in keys(window))
    assert shared <= 0.01 * len(window)  # some pictures and lines are there twice


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize("name", [name for name in SUPERVISED if not name.startswith("fcn32")])
def test_a_workload_can_be_learned(name):
    """All but chains of 32 layers, which AdamW does not move in so few steps."""
    from untuned.lab.training.run import TrainingRun

    config = Config(name, "adamw(lr=0.003)", steps=60, accelerator="cpu")
    learner = TrainingRun(config, lambda *_: None).learner
    before, _ = learner.evaluate()
    after = []
    for step in range(60):  # statistics of batch norms, and rare words, are late or early
        learner.advance(step)
        if step in (39, 59):
            after.append(learner.evaluate()[0])
    assert min(after) < before


def test_half_of_the_workloads_are_held_out():
    assert set(WORKLOADS) > HELD_OUT
    assert abs(len(WORKLOADS) - 2 * len(HELD_OUT)) <= 4
    page = (DOCS / "lab.md").read_text(encoding="utf-8")
    listed = page.partition("Held out are")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(.*?)`", listed)) == HELD_OUT
    for name in WORKLOADS:
        assert find(name).held_out == (name in HELD_OUT)


def test_chains_of_any_depth_have_names():
    assert find("fcn5-digits").at("small").model().layers[4].out_features == 10
    assert len(find("fcn5-digits").at("small").model().layers) == 5


@pytest.mark.parametrize(
    ("name", "near"),
    [("fcn8-mnis", "fcn8-mnist"), ("resnet18", "resnet18-cifar10"), ("fcn1-digits", "fcn2-digits")],
)
def test_an_unknown_workload_is_told_what_is_near(name, near):
    with pytest.raises(UnknownNameError, match=near):
        find(name)


@pytest.mark.parametrize("name", ["gcn-cora", "lstm-shakespeare", "fcn8-mnist"])
def test_missing_data_say_how_to_be_had(name, tmp_path, monkeypatch, go):
    from untuned.lab.workloads import data, graph, text

    for cache in (graph.citations, text.characters, data.text, data.images):
        cache.cache_clear()
    monkeypatch.setenv("UNTUNED_DATA", str(tmp_path))
    with pytest.raises(MissingDataError, match=r"docs/lab\.md"):
        go(name)
    if name == "gcn-cora":
        monkeypatch.delenv("UNTUNED_DATA")
        with pytest.raises(MissingDataError, match="not on the hub"):
            go(name)


def test_an_epoch_shows_every_example_once_in_an_order_of_its_own():
    epochs = [torch.cat([chosen(100, 10, 3, 10 * e + i) for i in range(10)]) for e in range(2)]
    for epoch in epochs:
        assert epoch.sort().values.tolist() == list(range(100))
    assert not torch.equal(*epochs)
    assert not torch.equal(epochs[0][:10], chosen(100, 10, 4, 0))
    assert len(chosen(7, 10, 0, 5)) == 7  # fewer than a batch: all


def test_processes_share_a_batch_evenly_and_leave_nothing_out():
    batch = chosen(100, 12, 0, 0)
    shares = [share(batch, rank, 3) for rank in range(3)]
    assert [len(part) for part in shares] == [4, 4, 4]
    assert sorted(torch.cat(shares).tolist()) == sorted(batch.tolist())


def test_windows_ask_for_the_token_after_each():
    batch = Windows(torch.arange(10), 4).take(torch.tensor([0, 5]))
    assert batch.inputs.tolist() == [[0, 1, 2, 3], [5, 6, 7, 8]]
    assert batch.targets.tolist() == [[1, 2, 3, 4], [6, 7, 8, 9]]
    assert len(Windows(torch.arange(10), 4)) == 6


def test_crops_are_parts_of_the_image_some_of_them_mirrored():
    image = torch.arange(1.0, 3 * 36 + 1).reshape(1, 3, 6, 6)
    padded = torch.nn.functional.pad(image, (4, 4, 4, 4))[0]
    parts = [padded[:, i : i + 6, j : j + 6] for i in range(9) for j in range(9)]
    crops = crop_and_flip(image.expand(40, -1, -1, -1))
    mirrored = [any(torch.equal(crop.flip(2), part) for part in parts) for crop in crops]
    straight = [any(torch.equal(crop, part) for part in parts) for crop in crops]
    assert all(a or b for a, b in zip(mirrored, straight, strict=True))
    assert any(mirrored)
    assert any(straight)


def test_evaluation_is_a_mean_over_all_examples(go, monkeypatch):
    """Whatever the chunks: against one pass over everything, in float64."""
    from untuned.lab.training.run import TrainingRun
    from untuned.lab.workloads import supervised

    monkeypatch.setattr(supervised, "EVALUATED", 37)
    under_way = TrainingRun(Config("fcn2-digits", "adamw", accelerator="cpu"), lambda *_: None)
    valid = find("fcn2-digits").at("small").valid
    assert isinstance(valid, Pairs)
    logits = under_way.learner.model(valid.inputs).double()
    want = -logits.log_softmax(1)[torch.arange(len(valid)), valid.targets].mean().item()
    right = (logits.argmax(1) == valid.targets).double().mean().item()
    assert under_way.learner.evaluate() == pytest.approx((want, right), rel=1e-5)
