"""`untuned train` as a user runs it: in processes that are killed, and in several."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import untuned
from untuned.lab.programs.train import main

PYTHON = (sys.executable, "-m", "untuned.lab", "train")


def weights(folder):
    return torch.load(folder / "checkpoint.pt", weights_only=True)["learner"]["model"]


def numbers(point):
    return {name: value for name, value in point.items() if name != "hyper"}


@pytest.mark.integration
def test_a_killed_run_goes_on_to_identical_numbers(tmp_path, pause):
    asked = ["fcn8-digits", "--optimizer", "adam / sgd(lr=1e-5)", "--steps", "160"]
    main([*asked, "--folder", str(tmp_path / "whole"), "--accelerator", "cpu"])
    broken = tmp_path / "broken"
    process = subprocess.Popen(
        [*PYTHON, *asked, "--folder", "broken", "--accelerator", "cpu"],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    seen = random.SystemRandom().randrange(1, 12)  # of 15
    print(f"killed after {seen} points")  # noqa: T201
    while not (broken / "metrics.jsonl").exists() or (
        (broken / "metrics.jsonl").read_text().count("\n") < seen
    ):
        assert process.poll() is None
        time.sleep(0.01)
    pause(0.1)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    main([*asked, "--folder", str(broken), "--resume", "--accelerator", "cpu"])
    assert (broken / "metrics.jsonl").read_text() == (tmp_path / "whole/metrics.jsonl").read_text()
    ours, theirs = weights(broken), weights(tmp_path / "whole")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert (broken / "picture.png").stat().st_size > 10_000


@pytest.mark.integration
def test_two_processes_are_as_one(tmp_path):
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone")
    launcher = [*torchrun, "--nproc-per-node", "2", "-m", "untuned.lab", "train"]
    # in float64: in float32 a step may amplify the rounding of two half batches to 1e-3
    asked = ["fcn8-digits", "--optimizer", "agd", "--steps", "15", "--precision", "64-true"]
    asked += ["--accelerator", "cpu", "--folder"]
    main([*asked, str(tmp_path / "one")])
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launcher, *asked, "two"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    one, two = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    )
    assert len(one) == len(two) == 9  # losses are means of two steps, the last is one
    for a, b in zip(one[1:], two[1:], strict=True):
        assert numbers(a) == pytest.approx(numbers(b), rel=1e-6)  # losses are logged in float32


def test_divergence_is_told_and_no_failure(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(["fcn8-digits", "--optimizer", "sgdm(lr=1e5)", "--steps", "40", "--accelerator", "cpu"])
    assert re.search(r"diverged by step \d+ of 40", capsys.readouterr().out)
    assert (tmp_path / "runs/fcn8-digits/sgdm-lr=1e5-seed0/picture.png").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["fcn8-digit"], "fcn8-digits"),
        (["fcn8-digits", "--optimizer", "adam [red] /"], "adam [red] /"),
        (["fcn8-digits", "--steps", "0"], "at least one step"),
        (["fcn8-digits", "--resume"], "no run to go on with"),
    ],
)
def test_mistakes_are_told_in_a_line(words, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert says in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_without_a_word_on_the_optimizer_it_is_auto(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(["fcn2-digits", "--steps", "3", "--accelerator", "cpu"])
    assert "after 3 steps" in capsys.readouterr().out.replace("\n", " ")
    (folder,) = (tmp_path / "runs" / "fcn2-digits").iterdir()
    assert folder.name == "auto-seed0"
    command = json.loads((folder / "result.json").read_text())["command"]
    assert "--optimizer auto" in command


def test_the_command_tells_its_version():
    command = [sys.executable, "-m", "untuned.lab", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (version,) = re.findall(r'^__version__ = "(.+)"', Path(untuned.__file__).read_text(), re.M)
    assert done.stdout == f"untuned {version}\n"


def test_a_list_shows_workloads_and_optimizers(capsys):
    main(["--list"])
    out = capsys.readouterr().out
    apart = out.index("Held-out workloads")
    assert out.index("ppo-cartpole") < apart < out.index("vit-fashion")
    assert "dadaptadam" in out


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, as it imports its compiler
def test_a_compiled_network_learns_the_same(go):
    plain, compiled = (go(optimizer="agd", steps=20, compile=each).curve for each in (False, True))
    assert plain[-1]["valid_loss"] == pytest.approx(compiled[-1]["valid_loss"], rel=1e-3)
