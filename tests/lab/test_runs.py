"""Runs: their curves, what ends them, and that a resumed one comes to identical numbers."""

import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from untuned.lab.baselines.table import BASELINES
from untuned.lab.config import Config
from untuned.lab.errors import ConfigError, RunFolderError
from untuned.lab.training.footprint import tensor_bytes
from untuned.lab.training.run import POINTS
from untuned.lab.workloads.registry import find
from untuned.lab.workloads.supervised import _order, chosen


class KilledError(Exception):
    pass


def dies_at(step):
    def watch(now, steps, point):
        if now == step:
            raise KilledError

    return watch


def lines(folder):
    """The points of the folder, by a reader that takes strict JSON only."""

    def never(constant):
        raise AssertionError(constant)

    text = (folder / "metrics.jsonl").read_text()
    return [json.loads(line, parse_constant=never) for line in text.splitlines()]


def kept(folder):
    return torch.load(folder / "checkpoint.pt", weights_only=True)


def same(a, b):
    """Whether two states are equal bit for bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def test_a_curve_has_its_points_evenly_and_the_last_step(go):
    result = go(steps=525)  # of a budget of 500
    steps = [point["step"] for point in result.curve]
    assert steps == [*range(0, 525, 13), 525]
    assert len(steps) == POINTS + 2
    assert result.curve[0]["train_loss"] is None
    assert result.stopped_at == result.steps == 525
    assert result.state_bytes == 2 * 4 * (64 * 128 + 128 * 10) + 2 * 4  # AdamW's, and its steps
    assert 50 < result.peak_mb < 100_000
    assert result.ms_per_step == pytest.approx(1e3 * result.seconds / 525)
    assert json.loads(json.dumps(vars(result))) == vars(result)


@pytest.mark.parametrize(("steps", "every"), [(250, 12), (60, 6), (9, 1)])
def test_a_short_run_is_evaluated_as_often_per_step_as_a_whole_one_but_ten_times(go, steps, every):
    assert find("fcn2-digits").at("small").steps == 500
    seen = [point["step"] for point in go(steps=steps).curve]
    assert seen == [*range(0, steps, every), steps]


def test_training_loss_is_the_mean_since_the_last_point(go):
    fine, coarse = go(steps=10), go(steps=10, watch=None)
    assert fine.curve == coarse.curve
    long = go(steps=20)  # a point every two steps
    pairs = zip(fine.curve[1::2], fine.curve[2::2], strict=True)
    for (a, b), point in zip(pairs, long.curve[1:], strict=False):
        mean = (a["train_loss"] + b["train_loss"]) / 2
        assert point["train_loss"] == pytest.approx(mean, rel=1e-6)


@pytest.mark.parametrize("name", ["adamw", "schedulefree", "prodigy", "dog"])
def test_a_run_is_a_plain_loop(name, go):
    """Written out with the packages' own optimizers, in the modes that they ask for."""
    task = find("fcn2-digits").at("small")
    torch.manual_seed(0)
    model = task.model()
    optimizer = BASELINES[name].load()(model.parameters())
    getattr(optimizer, "train", lambda: None)()
    for step in range(60):
        images, labels = task.train.take(chosen(len(task.train), task.batch, 0, step))
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
    getattr(optimizer, "eval", lambda: None)()
    want = F.cross_entropy(model(task.valid.inputs), task.valid.targets).item()
    assert go("fcn2-digits", name, steps=60).curve[-1]["valid_loss"] == pytest.approx(
        want, rel=1e-4
    )


def test_a_tower_shows_its_floors(go):
    curve = go("fcn2-digits", "adam / sgd(lr=1e-4)", steps=3).curve
    assert {"floor0.lr", "floor0.beta1", "floor1.lr"} <= curve[-1]["hyper"].keys()
    assert curve[-1]["hyper"]["floor0.lr"] != curve[0]["hyper"]["floor0.lr"]
    assert go("fcn2-digits", "agd", steps=2).curve[-1]["hyper"] == {}


def test_a_diverged_run_ends_early_and_says_so(go, tmp_path):
    result = go("fcn8-digits", "sgdm(lr=1e4)", steps=200, folder=tmp_path)
    assert result.status == "diverged"
    assert result.stopped_at < 200
    assert lines(tmp_path) == result.curve
    assert json.loads((tmp_path / "result.json").read_text())["status"] == "diverged"


def test_agd_does_not_care_for_a_start_that_others_cannot_take(go):
    assert go("fcn8-digits", "agd", steps=60).status == "done"


CASES = [
    *[("fcn2-digits", text, {}) for text in ("agd", "nero", "adam / sgd(lr=1e-5)", *BASELINES)],
    ("fcn2-digits", "muon", {"schedule": "linear"}),
    ("fcn2-digits", "auto", {"schedule": "horizon"}),
    ("fcn2-digits", "agd", {"schedule": "cosine"}),
    ("fcn2-digits", "adamw", {"precision": "bf16-true"}),
    ("gcn-cora", "adamw", {}),  # dropout
    ("vae-mnist", "nero", {}),  # noise in training and in evaluation
    ("resnet20-cifar10", "schedulefree", {}),  # statistics of norms, estimated anew
    ("contrastive-fashion", "schedulefree", {}),  # the same, and views drawn anew
    ("denoiser-fashion", "adamw", {}),
    ("skipgram-warandpeace", "adamw", {}),
    ("pinn-poisson", "adamw", {}),  # second derivatives
    ("lora4-gpt", "adamw", {}),
    ("probe-cnn", "schedulefree", {}),  # norms whose statistics stay
    ("ppo-cartpole", "muon", {"schedule": "cosine", "steps": 100}),
]


@pytest.mark.parametrize(("workload", "optimizer", "options"), CASES)
def test_a_resumed_run_comes_to_identical_numbers(
    workload, optimizer, options, go, tmp_path, request
):
    if "digits" not in workload and "ppo" not in workload:
        request.getfixturevalue("data")
    options = {"steps": 6} | options
    whole = go(workload, optimizer, folder=tmp_path / "whole", **options)
    broken = tmp_path / "broken"
    with pytest.raises(KilledError):
        go(workload, optimizer, dies_at(options["steps"] * 3 // 5), folder=broken, **options)
    with (broken / "metrics.jsonl").open("a") as file:
        file.write(
            json.dumps(whole.curve[-1]) + "\n" + '{"step": 3, "tr'
        )  # never checkpointed; torn
    _order.cache_clear()  # as a new process has it
    resumed = go(workload, optimizer, folder=broken, resume=True, **options)
    assert resumed.curve == whole.curve == lines(broken) == lines(tmp_path / "whole")
    ends = kept(tmp_path / "whole"), kept(broken)
    assert same(*(end["learner"]["model"] for end in ends))
    assert same(*(end["optimizer"] for end in ends))


def test_a_finished_run_resumed_is_as_it_was(go, tmp_path):
    whole = go(steps=4, folder=tmp_path)
    again = go(steps=4, folder=tmp_path, resume=True)
    assert again.curve == whole.curve
    assert again.seconds == whole.seconds


def test_a_run_killed_before_its_first_checkpoint_starts_anew(go, tmp_path):
    whole = go(steps=4)
    with pytest.raises(KilledError):
        go(steps=4, folder=tmp_path, watch=dies_at(0))
    assert go(steps=4, folder=tmp_path, resume=True).curve == whole.curve


def test_a_folder_is_never_written_over_nor_resumed_as_another(go, tmp_path):
    go(steps=2, folder=tmp_path)
    with pytest.raises(RunFolderError, match="--resume"):
        go(steps=2, folder=tmp_path)
    with pytest.raises(RunFolderError, match="seed=0"):
        go(steps=2, folder=tmp_path, resume=True, seed=1)
    with pytest.raises(RunFolderError, match="no run"):
        go(steps=2, folder=tmp_path / "nothing", resume=True)


@pytest.mark.parametrize("options", [{"steps": 0}, {"devices": 0}, {"resume": True}])
def test_senseless_configurations_are_refused(options, go):
    with pytest.raises(ConfigError):
        go(**options)


def test_the_command_of_a_run_gives_the_run_again():
    import shlex

    import tyro

    config = Config("fcn2-digits", "adam / sgd(lr=1e-5)", seed=3, steps=7, schedule="linear")
    words = shlex.split(config.command())
    assert words[:2] == ["untuned", "train"]
    assert tyro.cli(Config, args=words[2:]) == config


def test_tensorboard_sees_what_the_folder_has(go, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    curve = go(steps=3, folder=tmp_path, tensorboard=True).curve
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    seen = [(event.step, event.value) for event in events.Scalars("valid_loss")]
    assert seen == [(p["step"], pytest.approx(p["valid_loss"])) for p in curve]


def test_mixed_precision_trains(go):
    plain, mixed = go(steps=40), go(steps=40, precision="bf16-mixed")
    assert mixed.curve[-1]["valid_loss"] != plain.curve[-1]["valid_loss"]
    assert mixed.curve[-1]["valid_loss"] == pytest.approx(plain.curve[-1]["valid_loss"], rel=0.05)


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize("name", ["resnet20-cifar10", "contrastive-fashion"])
def test_norms_are_estimated_anew_for_the_average_that_is_evaluated(name):
    """By hand: means over ten batches, of the averaged weights. In training all is as before."""
    from untuned.lab.training.run import TrainingRun

    run = TrainingRun(Config(name, "schedulefree", steps=9), lambda *_: None)
    model, task, learner = run.learner.model, run.task, run.learner
    run.optimizer.train()
    for step in range(9):
        learner.advance(step)
    run.optimizer.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    loss, _ = learner.evaluate()
    assert same(before, dict(model.state_dict()))
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    with torch.no_grad():
        torch.manual_seed(0)
        for step in range(10):
            model(task.train.take(chosen(len(task.train), task.batch, 0, step)).inputs)
        model.eval()
        torch.manual_seed(0)  # the views of an evaluation do not depend on the optimizer
        valid = task.valid.take(torch.arange(len(task.valid)))
        want = task.loss(model(valid.inputs), valid.targets).item()
    assert loss == pytest.approx(want, rel=1e-5)


def test_bytes_are_counted_through_dicts_and_lists():
    tensor = torch.zeros(3, dtype=torch.float64)
    assert tensor_bytes([{"a": tensor, "b": [tensor, 1.0]}, None]) == 48
