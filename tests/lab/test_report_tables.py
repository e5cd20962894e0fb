"""Tables of a comparison, and how their numbers are written."""

import math
import re

import pytest
from rich.console import Console

from untuned.lab.comparison.contestants import contestant_of
from untuned.lab.comparison.plan import Comparison, Problem
from untuned.lab.comparison.standings import standings
from untuned.lab.comparison.trials import Trial, Trials
from untuned.lab.report.cells import bytes_cell, duration_cell, factor_text
from untuned.lab.report.page import write_report
from untuned.lab.report.table import Table
from untuned.lab.report.tables import overviews


def test_the_two_halves_of_the_workloads_are_reported_apart(tmp_path):
    """On the one AdamW is the best of its grid, on the other AGD is twice as fast."""
    names = ["adamw-tuned", "agd"]
    problems = [Problem(name, "small", 10) for name in ("fcn2-digits", "fcn16-fashion")]
    comparison = Comparison([contestant_of(name) for name in names], problems, 1)
    trials = Trials(tmp_path / "cells.jsonl")
    while keys := comparison.wanted(trials):
        for key in keys:
            slow = key.workload == "fcn2-digits" or key.optimizer != "agd"
            optimum = key.optimizer in ("agd", "adamw(lr=0.001)")
            losses = [2.0, 1.5, 1.0] if slow else [2.0, 1.0, 1.0]
            curve = {"step": [0, 5, 10], "valid_loss": [loss + 1 - optimum for loss in losses]}
            trials[key] = Trial(key, "done", seconds=1.0, curve=curve)
    totals = overviews(standings(comparison, trials, {}))
    assert [table.title for table in totals] == ["All workloads", "Development", "Held out"]
    reached = [{row[0].text: (row[1].text, row[5].text) for row in t.rows} for t in totals]
    saved = [each["agd"] for each in reached]
    assert saved == [("1.41", "2 of 2"), ("1.00", "1 of 1"), ("2.00", "1 of 1")]
    write_report(comparison, trials, {}, tmp_path)
    summary = (tmp_path / "summary.md").read_text(encoding="utf-8")
    halves = summary.split("Steps saved by workload")[1].split("Held out:")
    assert [("fcn2-digits" in half, "fcn16-fashion" in half) for half in halves] == [
        (True, False), (False, True),
    ]  # fmt: skip
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert re.findall(r"<h3>(.*?)</h3>", html) == [
        "All workloads", "Development", "Held out", "Development", "Held out",
        "fcn2-digits", "fcn16-fashion",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "text"), [(0.054, "0.05"), (1, "1.00"), (12.34, "12.3"), (math.nan, "\u2013")]
)
def test_factors_are_short(value, text):
    assert factor_text(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.5, "0.5 s"),
        (59, "59 s"),
        (90, "1.5 min"),
        (9000, "2.5 h"),
        (math.nan, "\u2013"),
    ],
)
def test_durations_have_units(seconds, text):
    assert duration_cell(seconds).text == text


def test_a_terminal_shows_the_columns_that_fit():
    table = Table.of(["name", "two words", "last"], [["optimizer", "1.00", "12"]])
    for width, shown in ((None, 3), (80, 3), (26, 3), (25, 2), (19, 1)):
        assert len(table.rich(width).columns) == shown
    console = Console(width=26)
    with console.capture() as capture:
        console.print(table.rich(26))
    assert "\u2026" not in capture.get()  # nothing is cut


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (4e6, "4 MB"), (123456, "123 kB")]
)
def test_sizes_have_units(count, text):
    assert bytes_cell(count).text == text
