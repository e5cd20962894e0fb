"""What a comparison trains, and that it goes on where it was stopped."""

import json
import math
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from untuned.lab import methods
from untuned.lab.cells import Cell, Cells, Key
from untuned.lab.comparison import Comparison, standings
from untuned.lab.contestants import CONTESTANTS, REFERENCE, Contestant, contestant_of, half_decade
from untuned.lab.errors import UnknownNameError
from untuned.lab.plan import EXTENSIONS, Task, fresh, remaining, tuning, wanted

TASK = Task("fcn2-digits", "small", 20)
TUNED = contestant_of(REFERENCE)


def ended(key, loss, seconds=1.0):
    """A cell that ended with this loss."""
    status = "done" if math.isfinite(loss) else "diverged"
    curve = {"step": [0, key.steps], "valid_loss": [2.0, loss]}
    return Cell(key, status, seconds=seconds, curve=curve)


def play(contestants, loss_of, seeds=3):
    """Train all that is ever wanted, by a loss for each key; in which order."""
    cells = {}
    while keys := wanted(contestants, [TASK], seeds, cells):
        cells[keys[0]] = ended(keys[0], loss_of(keys[0]))
    return cells


def exponent(key):
    """Of the square root of 10, of the learning rate that a key's optimizer is written with."""
    return round(2 * math.log10(float(key.optimizer.split("lr=")[1].strip("()"))))


@given(st.integers(-20, 14))
def test_the_grid_is_extended_until_its_best_has_neighbours_on_both_sides(optimum):
    cells = play([TUNED], lambda key: 1 + abs(exponent(key) - optimum))
    tried = {exponent(key) for key in cells if key.seed == 0}
    nearest = min(max(optimum, TUNED.low - EXTENSIONS), TUNED.high + EXTENSIONS)
    assert tuning(TUNED, TASK, cells).chosen.optimizer == f"adamw(lr={half_decade(nearest)})"
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
    cells = play([TUNED], lambda key: 5.0 if key.optimizer == "adamw(lr=0.01)" else math.inf)
    assert tuning(TUNED, TASK, cells).chosen.optimizer == "adamw(lr=0.01)"


def test_the_winner_is_compared_on_fresh_seeds_alone():
    cells = play([TUNED], lambda key: 1.0 if key.seed == 0 else 3.0)
    compared = fresh(TUNED, TASK, 3, cells)
    assert [key.seed for key in compared] == [1, 2, 3]
    (standing,) = standings(Comparison([TUNED], [TASK], 3), cells)
    assert standing.loss == 3.0
    assert standing.trainings == sum(key.seed == 0 for key in cells) + 1


def test_trainings_that_two_contestants_share_are_done_once():
    both = play([contestant_of("adamw"), TUNED], lambda key: abs(exponent(key) + 6))
    alone = play([TUNED], lambda key: abs(exponent(key) + 6))
    assert tuning(TUNED, TASK, alone).chosen.optimizer == contestant_of("adamw").text
    assert both.keys() == alone.keys()


def test_the_longest_cells_come_first_and_unknown_ones_before_them():
    tasks = [Task(name, "small", steps) for name, steps in (("a", 10), ("b", 20), ("c", 1))]
    only = contestant_of("agd")
    seen = {}
    for task, seconds in zip(tasks[:2], (6.0, 10.0), strict=True):
        key = fresh(only, task, 1, {})[0]
        seen[key] = ended(key, 1.0, seconds)
    order = [key.workload for key in wanted([only], tasks, 2, seen)]
    assert order == ["c", "c", "b", "a"]  # 10 s and 6 s for the two that are known


def test_what_remains_is_counted_down_to_nothing():
    cells = {}
    contestants = [TUNED, contestant_of("agd")]
    assert remaining(contestants, [TASK], 3, cells) == 7 * 2 + 3 + 3
    cells = play(
        contestants, lambda key: 1 + abs(exponent(key) + 5) if "lr" in key.optimizer else 1
    )
    assert remaining(contestants, [TASK], 3, cells) == 0


@pytest.mark.parametrize("contestant", CONTESTANTS, ids=lambda contestant: contestant.name)
def test_every_contestant_can_be_built(contestant):
    for candidate in contestant.candidates(contestant.low, contestant.low):
        methods.parse(candidate.optimizer)


def test_an_optimizer_as_written_is_a_contestant_of_its_own():
    assert contestant_of("adamw(lr=3e-4)") == Contestant("adamw(lr=3e-4)", "adamw(lr=3e-4)")
    with pytest.raises(
        UnknownNameError, match=r"'adamw-tund' is unknown; the nearest: adamw-tuned"
    ):
        contestant_of("adamw-tund")
    with pytest.raises(UnknownNameError, match="setting 'momentum'"):
        contestant_of("adamw(momentum=0.9)")


def command(folder, *more):
    return [
        *(sys.executable, "-m", "untuned.lab", "compare", "--folder", str(folder), "--seeds", "1"),
        *("--workloads", "fcn2-digits", "--steps", "20", *more),
    ]


def compare(folder, *more, status=0):
    done = subprocess.run(command(folder, *more), capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done


def numbers(folder):
    """What does not depend on the machine."""
    cells = Cells(folder / "cells.jsonl")
    return {key: (cell.status, cell.curve) for key, cell in cells.items()}


def test_what_is_there_is_not_trained_again(tmp_path):
    asked = ("--jobs", "1", "--optimizers", "agd")
    compare(tmp_path, *asked)
    written = (tmp_path / "cells.jsonl").read_bytes()
    compare(tmp_path, *asked)
    assert (tmp_path / "cells.jsonl").read_bytes() == written
    compare(tmp_path, *asked, "nero")
    grown = (tmp_path / "cells.jsonl").read_bytes()
    assert grown.startswith(written)
    assert grown.count(b"\n") == 2


def test_divergence_is_recorded_and_failure_is_told_and_tried_again(tmp_path):
    diverges, fails = "sgdm(lr=1000000.0)", "sgdm(nesterov=True, dampening=0.5)"
    asked = ("--jobs", "1", "--optimizers", diverges, fails)
    done = compare(tmp_path, *asked, status=1)
    assert f"failed: fcn2-digits  {fails}" in done.stdout
    cells = {key.optimizer: cell for key, cell in Cells(tmp_path / "cells.jsonl").items()}
    assert cells[diverges].status == "diverged"
    assert cells[diverges].stopped_at < 20
    assert cells[fails].status == "failed"
    assert "Nesterov momentum requires" in cells[fails].error
    compare(tmp_path, *asked, status=1)
    lines = (tmp_path / "cells.jsonl").read_text().splitlines()
    assert [json.loads(line)["status"] for line in lines].count("failed") == 2
    assert "Nesterov momentum requires" in (tmp_path / "report.html").read_text()


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
def test_unknown_names_list_the_nearest(tmp_path, asked, told):
    assert told in compare(tmp_path, *asked, status=2).stderr


@pytest.mark.integration
def test_killed_at_any_moment_it_goes_on_to_the_same_numbers(tmp_path):
    asked = ("--jobs", "2", "--optimizers", "agd", "adam / sgd", "nero")
    whole = tmp_path / "whole"
    began = time.monotonic()
    compare(whole, *asked)
    took = time.monotonic() - began
    killed = tmp_path / "killed"
    for _ in range(3):
        victim = subprocess.Popen(command(killed, *asked), stdout=subprocess.DEVNULL)
        time.sleep(took * random.uniform(0.4, 0.9))
        victim.kill()
        victim.wait()
    compare(killed, *asked)
    assert numbers(killed) == numbers(whole)


@pytest.mark.integration
def test_ctrl_c_ends_it_with_its_processes_and_a_word(tmp_path):
    asked = command(tmp_path, "--jobs", "2", "--optimizers", "agd", "nero", "--steps", "100000")
    running = subprocess.Popen(asked, stderr=subprocess.PIPE, text=True, start_new_session=True)
    time.sleep(8)
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does: to all of them
    _, told = running.communicate(timeout=30)
    assert running.returncode == 130
    assert "the same command goes on" in told
    with pytest.raises(ProcessLookupError):
        os.killpg(running.pid, 0)


@pytest.mark.integration
def test_a_ray_cluster_trains_the_same_numbers(tmp_path):
    asked = ("--optimizers", "agd", "nero")
    compare(tmp_path / "local", *asked, "--jobs", "1")
    compare(tmp_path / "ray", *asked, "--jobs", "2", "--engine", "ray")
    assert numbers(tmp_path / "ray") == numbers(tmp_path / "local")


def test_a_key_is_one_training():
    key = Key("fcn2-digits", "small", "agd", "constant", 1, 20)
    assert TASK.key(contestant_of("agd").candidates(0, -1)[0], 1) == key
