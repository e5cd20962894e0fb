"""Weights that come trained: how they are made and kept, and what of them goes on training."""

import math
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from untuned.lab.config import Config
from untuned.lab.workloads import pretrained
from untuned.lab.workloads.pretrained import weights_after
from untuned.lab.workloads.registry import find
from untuned.lab.workloads.supervised import chosen


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The folder of the weights, empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path / "hub" / "untuned"


def task(steps=10):
    return replace(find("fcn2-digits").at("small"), steps=steps)


def in_a_process(steps, home):
    os.environ["TORCH_HOME"] = home  # a fork has the environment of the process before it
    torch.set_num_threads(1)
    return {name: weight.tolist() for name, weight in weights_after(task(steps)).items()}


def test_they_are_what_adamw_makes_with_warm_up_and_decay(home):
    torch.manual_seed(0)
    model = task().model()
    optimizer = torch.optim.AdamW(model.parameters())
    for step in range(10):  # the first of which is the warm-up, 5%
        elapsed = max(step - 1, 0) / 9
        optimizer.param_groups[0]["lr"] = 0.003 * (1 + math.cos(math.pi * elapsed)) / 2
        images, labels = task().train.take(chosen(1347, 64, 0, step))
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
    found = weights_after(task())
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(found[name], weight)


def test_they_are_made_once(home, monkeypatch):
    first = weights_after(task())
    monkeypatch.setattr(pretrained, "_train", None)  # nothing to call
    again = weights_after(task())
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert len(list(home.glob("*.pt"))) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 11},
        {"batch": 32},
        {"train": find("fcn2-digits").at("small").valid},
        {"model": find("fcn3-digits").at("small").model},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_else_makes_them_makes_others(home, change):
    weights_after(task(1))
    weights_after(replace(task(1), **change))
    assert len(list(home.glob("*.pt"))) == 2


def test_random_numbers_go_on_as_if_they_had_been_there(home):
    for _ in "ab":  # made, then found
        torch.manual_seed(5)
        weights_after(task())
        assert torch.rand(()) == torch.rand((), generator=torch.Generator().manual_seed(5))


def test_a_file_cut_short_is_never_found(home, monkeypatch):
    def full(state, path):
        path.write_bytes(b"PK")
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(OSError, match="no space"):
            weights_after(task())
    assert not list(home.glob("*.pt"))
    assert weights_after(task()).keys() == task().model().state_dict().keys()


@pytest.mark.integration
def test_processes_that_race_find_one_file(home, forks):
    with ProcessPoolExecutor(2, forks) as pool:
        one, other = pool.map(in_a_process, [300, 300], [str(home.parents[1])] * 2)
    assert one == other
    assert len(list(home.glob("*.pt"))) == 1
    assert not list(home.glob("*.part"))


def run_of(name, optimizer="adamw(lr=0.01)"):
    from untuned.lab.training.run import TrainingRun

    return TrainingRun(Config(name, optimizer, steps=3, accelerator="cpu"), lambda *_: None)


def state(run):
    return {name: tensor.clone() for name, tensor in run.learner.model.state_dict().items()}


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize(
    ("name", "part", "optimizer"),
    [
        ("lora4-gpt", "lora_", "adamw(lr=0.01)"),
        ("probe-cnn", "head.", "adamw(lr=0.01)"),
        ("probe-cnn", "head.", "schedulefree"),  # estimates the statistics of norms that train
    ],
)
def test_all_but_a_part_stays_as_it_was(name, part, optimizer):
    run = run_of(name, optimizer)
    before = state(run)
    run.train()
    after = state(run)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if part in name}


@pytest.mark.usefixtures("data")
def test_statistics_of_frozen_norms_are_not_estimated_anew(go):
    ours, theirs = (go("probe-cnn", name, steps=1).curve[0] for name in ("schedulefree", "adamw"))
    assert ours["valid_loss"] == theirs["valid_loss"]


@pytest.mark.usefixtures("data")
def test_adapters_begin_as_what_they_adapt_and_count_by_their_rank():
    whole, four = run_of("finetune-gpt"), run_of("lora4-gpt")
    assert four.learner.evaluate() == pytest.approx(whole.learner.evaluate(), rel=1e-6)
    dense = [(64, 192), (64, 64), (64, 256), (256, 64)]  # of each of two blocks
    trained = [p for p in four.learner.model.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trained) == 2 * 4 * sum(map(sum, dense))


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize("name", ["finetune-gpt", "finetune-cnn"])
def test_a_method_that_initialises_leaves_trained_weights(name):
    ours, theirs = (state(run_of(name, optimizer)) for optimizer in ("agd", "adamw"))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.usefixtures("data")
def test_a_network_has_learned_what_it_comes_from(go):
    """Below four bits a byte in another text; chance is eight."""
    first, second = (go("finetune-gpt", steps=1, seed=seed).curve[0] for seed in (0, 1))
    assert first["metric"] == second["metric"] < 4


@pytest.mark.usefixtures("data")
def test_other_classes_have_a_head_by_the_seed_of_the_run(go):
    first, second = (go("probe-cnn", steps=1, seed=seed).curve[0] for seed in (0, 1))
    assert first["valid_loss"] != second["valid_loss"]
    assert min(first["valid_loss"], second["valid_loss"]) > 2  # as chance has it
