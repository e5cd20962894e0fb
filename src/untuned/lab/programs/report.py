"""`untuned report`: the report of a comparison, drawn again from its folder."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from untuned.errors import UntunedError
from untuned.lab.comparison.plan import Comparison
from untuned.lab.comparison.standings import standings
from untuned.lab.comparison.step_times import StepTimes
from untuned.lab.comparison.trials import Trials
from untuned.lab.programs.exits import stop
from untuned.lab.report.page import write_report
from untuned.lab.report.tables import at_a_glance


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the report; the comparison may still be running."""
    parser = argparse.ArgumentParser(prog="untuned report", description=__doc__)
    parser.add_argument("folder", type=Path, help="what `untuned compare --folder` was given")
    folder = parser.parse_args(arguments).folder
    try:
        comparison = Comparison.load(folder)
        trials = Trials(folder / "cells.jsonl")
        times = StepTimes(folder / "times.jsonl")
        found = standings(comparison, trials, times)
    except UntunedError as error:
        stop(f"error: {error}", 2)
    except FileNotFoundError:
        sys.exit(f"error: {folder} holds no comparison; make one with untuned compare")
    page = write_report(comparison, trials, times, folder)
    console = Console(highlight=False)
    console.print(*(table.rich(console.width) for table in at_a_glance(found)))
    console.print(f"Page: {page}")
