"""What a comparison trains, and that it goes on where it was stopped."""

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from untuned.lab.baselines import methods
from untuned.lab.comparison.contestants import (
    CONTESTANTS,
    REFERENCE,
    Candidate,
    Contestant,
    contestant_of,
    half_decade,
)
from untuned.lab.comparison.executors import InProcess
from untuned.lab.comparison.plan import EXTENSIONS, Comparison, Problem, tuning
from untuned.lab.comparison.standings import standings
from untuned.lab.comparison.trials import Trial, Trials, train_trial
from untuned.lab.errors import UnknownNameError
from untuned.lab.programs import compare as program
from untuned.lab.programs.compare import main
from untuned.lab.workloads import data

PROBLEM = Problem("fcn2-digits", "small", 20)
TUNED = contestant_of(REFERENCE)


def ended(key, loss, seconds=1.0):
    """A trial that ended with this loss."""
    status = "done" if math.isfinite(loss) else "diverged"
    curve = {"step": [0, key.steps], "valid_loss": [2.0, loss]}
    return Trial(key, status, seconds=seconds, curve=curve)


def play(contestants, loss_of, seeds=3):
    """Train all that is ever wanted, by a loss for each key; in which order."""
    trials = {}
    while keys := Comparison(contestants, [PROBLEM], seeds).wanted(trials):
        trials[keys[0]] = ended(keys[0], loss_of(keys[0]))
    return trials


def exponent(key):
    """Of the square root of 10, of the learning rate that a key's optimizer is written with."""
    return round(2 * math.log10(float(key.optimizer.split("lr=")[1].strip("()"))))


@given(st.integers(-20, 14))
def test_the_grid_is_extended_until_its_best_has_neighbours_on_both_sides(optimum):
    trials = play([TUNED], lambda key: 1 + abs(exponent(key) - optimum))
    tried = {exponent(key) for key in trials if key.seed == 0}
    nearest = min(max(optimum, TUNED.low - EXTENSIONS), TUNED.high + EXTENSIONS)
    assert tuning(TUNED, PROBLEM, trials).chosen.optimizer == f"adamw(lr={half_decade(nearest)})"
    assert tried >= set(range(TUNED.low, TUNED.high + 1))
    assert len(tried) <= TUNED.high - TUNED.low + 1 + EXTENSIONS
    if TUNED.low - EXTENSIONS < optimum < TUNED.high + EXTENSIONS:
        assert {optimum - 1, optimum + 1} <= tried


def test_a_tuned_contestant_spans_three_decades_with_a_decay_and_without():
    for contestant in filter(lambda contestant: contestant.tuned, CONTESTANTS):
        grid = contestant.candidates(contestant.low, contestant.high)
        assert contestant.high - contestant.low >= 6
        assert {candidate.schedule for candidate in grid} in (
            {"constant", "cosine"},
            {"constant", "linear"},
        )


def test_candidates_that_diverge_are_never_chosen():
    trials = play([TUNED], lambda key: 5.0 if key.optimizer == "adamw(lr=0.01)" else math.inf)
    assert tuning(TUNED, PROBLEM, trials).chosen.optimizer == "adamw(lr=0.01)"


def test_the_winner_is_compared_on_fresh_seeds_alone():
    trials = play([TUNED], lambda key: 1.0 if key.seed == 0 else 3.0)
    compared = tuning(TUNED, PROBLEM, trials).fresh(3)
    assert [key.seed for key in compared] == [1, 2, 3]
    (standing,) = standings(Comparison([TUNED], [PROBLEM], 3), trials, {})
    assert standing.loss == 3.0
    assert standing.trainings == sum(key.seed == 0 for key in trials) + 1


def test_a_reference_with_a_grid_of_its_own_is_what_others_stand_beside():
    """As where the rates of a shorter training are known (benchmarks/long.py)."""
    narrow = dataclasses.replace(TUNED, low=-5, high=-3, schedules=("cosine",))
    auto = contestant_of("auto")
    trials = play([auto, narrow], lambda key: 1.0 if key.optimizer == "auto" else 1.5)
    ours, theirs = standings(Comparison([auto, narrow], [PROBLEM], 3), trials, {})
    assert ours.gap == -0.5
    assert ours.reduction == pytest.approx(2.0)  # straight from 2.0 to 1.0, past 1.5 half-way
    assert theirs.reduction == 1.0


def test_trainings_that_two_contestants_share_are_done_once():
    both = play([contestant_of("adamw"), TUNED], lambda key: abs(exponent(key) + 6))
    alone = play([TUNED], lambda key: abs(exponent(key) + 6))
    assert tuning(TUNED, PROBLEM, alone).chosen.optimizer == contestant_of("adamw").text
    assert both.keys() == alone.keys()


def test_the_longest_cells_come_first_and_unknown_ones_before_them():
    problems = [Problem(name, "small", steps) for name, steps in (("a", 10), ("b", 20), ("c", 1))]
    only = contestant_of("agd")
    seen = {}
    for problem, seconds in zip(problems[:2], (6.0, 10.0), strict=True):
        key = tuning(only, problem, {}).fresh(1)[0]
        seen[key] = ended(key, 1.0, seconds)
    order = [key.workload for key in Comparison([only], problems, 2).wanted(seen)]
    assert order == ["c", "c", "b", "a"]  # 10 s and 6 s for the two that are known


def test_what_remains_is_counted_down_to_nothing():
    trials = {}
    contestants = [TUNED, contestant_of("agd")]
    assert Comparison(contestants, [PROBLEM], 3).remaining(trials) == 7 * 2 + 3 + 3
    trials = play(
        contestants, lambda key: 1 + abs(exponent(key) + 5) if "lr" in key.optimizer else 1
    )
    assert Comparison(contestants, [PROBLEM], 3).remaining(trials) == 0


@pytest.mark.parametrize("contestant", CONTESTANTS, ids=lambda contestant: contestant.name)
def test_every_contestant_can_be_built(contestant):
    for candidate in contestant.candidates(contestant.low, contestant.low):
        methods.method_of(candidate.optimizer)


def test_an_optimizer_as_written_is_a_contestant_of_its_own():
    assert contestant_of("adamw(lr=3e-4)") == Contestant("adamw(lr=3e-4)", "adamw(lr=3e-4)")
    with pytest.raises(
        UnknownNameError, match=r"'adamw-tund' is unknown; the nearest: adamw-tuned"
    ):
        contestant_of("adamw-tund")
    with pytest.raises(UnknownNameError, match="argument 'momentum'"):
        contestant_of("adamw(momentum=0.9)")


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
