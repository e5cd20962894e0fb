"""`untuned report`: the report of a comparison, drawn again from its folder."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from untuned.lab.comparison.plan import Comparison
from untuned.lab.comparison.standings import standings
from untuned.lab.comparison.step_times import StepTimes
from untuned.lab.comparison.trials import Trials
from untuned.lab.report.page import write_report
from untuned.lab.report.tables import overviews


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the report; the comparison may still be running."""
    parser = argparse.ArgumentParser(prog="untuned report", description=__doc__)
    parser.add_argument("folder", type=Path, help="what `untuned compare --folder` was given")
    folder = parser.parse_args(arguments).folder
    try:
        comparison = Comparison.load(folder)
    except FileNotFoundError:
        sys.exit(f"error: {folder} holds no comparison; make one with untuned compare")
    trials = Trials(folder / "cells.jsonl")
    times = StepTimes(folder / "times.jsonl")
    page = write_report(comparison, trials, times, folder)
    console = Console(highlight=False)
    found = standings(comparison, trials, times)
    console.print(*(table.rich(console.width) for table in overviews(found)))
    console.print(f"Page: {page}")
