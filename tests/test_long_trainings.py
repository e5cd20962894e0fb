"""The page of results says of long trainings what their trials say."""

import importlib.util
import math
from pathlib import Path

import pytest

from support.pages import text_of
from untuned.lab.comparison.plan import Comparison, Problem
from untuned.lab.comparison.standings import Standing, standings
from untuned.lab.comparison.trials import Trials

ROOT = Path(__file__).parents[1]


def results():
    """Standings of AdamW and Auto by workload."""
    spec = importlib.util.spec_from_file_location("long_trainings", ROOT / "benchmarks/long.py")
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    trials = Trials(ROOT / "docs/results/long/cells.jsonl")
    steps = {key.workload: key.steps for key in trials}
    found: dict[str, dict[str, Standing]] = {}
    for workload in program.RATES:
        contestants = [program.contestant(name, workload) for name in ("auto", "adamw-tuned")]
        comparison = Comparison(contestants, [Problem(workload, "small", steps[workload])], 3)
        found[workload] = {s.contestant.name: s for s in standings(comparison, trials, {})}
    return found


def rows_of(text):
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return {line[0]: line[1:] for line in lines[2:]}


def test_the_table_is_that_of_the_trials():
    section = text_of("results").split("## Ten times the budget")[1].split("\n## ")[0]
    rows, found = rows_of(section), results()
    assert rows.keys() == found.keys()
    for workload, (steps, rate, theirs, ours, saved) in rows.items():
        auto, adamw = found[workload]["auto"], found[workload]["adamw-tuned"]
        assert auto.count("done") == adamw.count("done") == 3
        assert int(steps.replace(",", "")) == auto.problem.steps
        assert adamw.chosen.optimizer == f"adamw(lr={rate})"
        assert float(theirs) == pytest.approx(adamw.loss, rel=2e-3)
        assert float(ours) == pytest.approx(auto.loss, rel=2e-3)
        reached = auto.reduction if saved != "never" else 0.0
        assert auto.reduction == pytest.approx(reached)
        assert saved == "never" or float(saved) == pytest.approx(reached, abs=5e-3 * (1 + reached))
    logs = [math.log(max(each["auto"].reduction, 0.05)) for each in found.values()]
    assert f"**{math.exp(sum(logs) / len(logs)):.2f}**" in section
    below = sum(each["auto"].gap < 0 for each in found.values())
    assert f"on {below} of {len(found)}" in section.replace("\n", " ")
