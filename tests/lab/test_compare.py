"""What a comparison trains, and that it goes on where it was stopped."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from untuned.lab.comparison.contestants import (
    REFERENCE,
    Candidate,
)
from untuned.lab.comparison.executors import InProcess
from untuned.lab.comparison.plan import Problem
from untuned.lab.comparison.trials import Trial, Trials, train_trial
from untuned.lab.programs import compare as program
from untuned.lab.programs.compare import main
from untuned.lab.workloads import data

PROBLEM = Problem("fcn2-digits", "small", 20)
BASE = ["--seeds", "1", "--workloads", "fcn2-digits", "--steps", "20", "--jobs", "1"]
DIVERGES, FAILS = "sgdm(lr=1000000.0)", "sgdm(nesterov=True, dampening=0.5)"


def compare(folder, *optimizers):
    """All in this process; its exit status."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "LocalExecutor", lambda *_: InProcess())
        with pytest.raises(SystemExit) as ended:
            main([*BASE, "--folder", str(folder), "--optimizers", *optimizers])
    return ended.value.code


def command(folder, *more):
    return [sys.executable, "-m", "untuned.lab", "compare", *BASE, "--folder", str(folder), *more]


def numbers(trials):
    """What does not depend on the machine."""
    return {trial.key: (trial.status, trial.curve) for trial in trials}


def trained_here(*optimizers):
    """The same trials, trained in this process without a comparison."""
    keys = [PROBLEM.key(Candidate(optimizer, "constant"), 1) for optimizer in optimizers]
    return numbers(Trial.of(json.loads(train_trial(key).line())) for key in keys)


def test_it_goes_on_where_it_was_and_says_what_went_wrong(tmp_path, capsys):
    path = tmp_path / "cells.jsonl"
    assert compare(tmp_path, "agd", DIVERGES, FAILS) == 1
    trials = {key.optimizer: trial for key, trial in Trials(path).items()}
    assert (trials["agd"].status, trials["agd"].stopped_at) == ("done", 20)
    assert (trials[DIVERGES].status, trials[DIVERGES].stopped_at < 20) == ("diverged", True)
    assert trials[FAILS].status == "failed"
    assert "ValueError: Nesterov momentum requires" in trials[FAILS].error
    assert f"failed: fcn2-digits  {FAILS}" in capsys.readouterr().out
    assert "Nesterov momentum requires" in (tmp_path / "report.html").read_text(encoding="utf-8")
    written = path.read_bytes()
    assert compare(tmp_path, "agd", DIVERGES) == 0
    assert path.read_bytes() == written  # what is there is not trained again
    assert compare(tmp_path, "agd", "nero", FAILS) == 1
    assert path.read_bytes().startswith(written)
    added = [json.loads(line)["optimizer"] for line in path.read_text().splitlines()[3:]]
    assert sorted(added) == ["nero", FAILS]  # a failed trial is tried again


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (
            ["--workloads", "fcn8-digit"],
            "workload 'fcn8-digit' is unknown; the nearest: fcn8-digits",
        ),
        (
            ["--optimizers", "muon-tund"],
            "optimizer 'muon-tund' is unknown; the nearest: muon-tuned",
        ),
    ],
)
def test_unknown_names_list_the_nearest(tmp_path, capsys, asked, told):
    with pytest.raises(SystemExit, match="2"):
        main(["--folder", str(tmp_path), *asked])
    assert told in capsys.readouterr().err


def test_a_missing_data_set_is_told_of_before_anything_is_trained(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("UNTUNED_DATA", str(tmp_path / "nowhere"))
    data.images.cache_clear()
    with pytest.raises(SystemExit, match="2"):
        main(["--folder", str(tmp_path / "out"), "--workloads", "fcn8-mnist"])
    assert str(tmp_path / "nowhere") in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.integration
def test_steps_are_timed_once_all_have_trained(tmp_path):
    path = tmp_path / "times.jsonl"
    assert compare(tmp_path, "agd", REFERENCE, "--no-times") == 0
    assert not path.exists()
    assert compare(tmp_path, "agd", REFERENCE) == 0
    reference, agd = map(json.loads, path.read_text().splitlines())
    assert (agd["optimizer"], reference["optimizer"][:6]) == ("agd", "adamw(")
    assert reference["ratio"] == 1
    assert agd["ratio"] == pytest.approx(agd["ms"] / reference["ms"], rel=1e-3)
    assert agd["versions"]["torch"] == torch.__version__
    written = path.read_bytes()
    assert compare(tmp_path, "agd", "nero", REFERENCE) == 0
    assert path.read_bytes().startswith(written)  # what is there is not measured again
    added = [json.loads(line)["optimizer"] for line in path.read_text().splitlines()[2:]]
    assert added == [reference["optimizer"], "nero"]  # beside the reference


@pytest.mark.integration
def test_killed_at_any_moment_it_goes_on_to_the_same_numbers(tmp_path, pause):
    path = tmp_path / "cells.jsonl"
    optimizers = ["agd", "adam / sgd(lr=1e-05)", "nero", "adamw(lr=0.001)"]
    victim = subprocess.Popen(command(tmp_path, "--optimizers", *optimizers))
    while not path.exists():
        time.sleep(0.01)
    pause(0.5)
    victim.kill()
    victim.wait()
    assert compare(tmp_path, *optimizers) == 0
    assert numbers(Trials(path).values()) == trained_here(*optimizers)


@pytest.mark.integration
def test_ctrl_c_ends_it_with_its_processes_and_a_word(tmp_path, pause):
    asked = command(tmp_path, "--optimizers", "agd", "--steps", "1000000")
    # Tests that were started in the background ignore it, and what they start inherits that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    running = subprocess.Popen(asked, stderr=subprocess.PIPE, text=True, start_new_session=True)
    signal.signal(signal.SIGINT, before)
    while not (tmp_path / "compare.json").exists():
        time.sleep(0.01)
    pause(6)  # its process starts, or trains
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does: to all of them
    _, told = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "the same command goes on" in told
    assert "Traceback" not in told
    for _ in range(100):  # the last of its processes may still be ending
        try:
            os.killpg(running.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("some of its processes are still there")


@pytest.mark.integration
def test_a_ray_cluster_trains_the_same_numbers(tmp_path):
    subprocess.run(command(tmp_path, "--optimizers", "agd", "nero", "--engine", "ray"), check=True)
    assert numbers(Trials(tmp_path / "cells.jsonl").values()) == trained_here("agd", "nero")
