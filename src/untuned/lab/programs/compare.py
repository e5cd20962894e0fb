"""`untuned compare`: optimizers on workloads, over seeds, each tuned as its users would tune it.

The same command resumes a comparison: trials in the folder's cells.jsonl are not trained again,
except those that failed. When all are trained it times the steps of all optimizers, into
times.jsonl. At the end it writes report.html, and tables beside it.
"""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console

from untuned.lab.comparison.contestants import CONTESTANTS, contestant_of, select
from untuned.lab.comparison.executors import Executor, LocalExecutor, RayExecutor
from untuned.lab.comparison.plan import Comparison, Problem
from untuned.lab.comparison.progress import time_untimed, train_missing
from untuned.lab.comparison.standings import standings, untimed
from untuned.lab.comparison.step_times import StepTimes
from untuned.lab.comparison.trials import Trials
from untuned.lab.config import Size
from untuned.lab.programs.exits import KEPT, WRONG_INPUT, stop
from untuned.lab.report.page import write_report
from untuned.lab.report.tables import at_a_glance
from untuned.lab.workloads.registry import WORKLOADS, find


@dataclass(frozen=True)
class CompareOptions:
    """What to compare, and where to train."""

    # Names or globs, such as 'fcn*' (`untuned train --list` shows all), or mymodule:workload
    workloads: tuple[str, ...] = ("*",)
    # Contestants by name or glob (agd, adamw-tuned, '*-tuned'), or as text: 'adamw(lr=3e-4)',
    # 'torch.optim.RAdam(lr={lr})' with {lr} to be tuned, mymodule:factory
    optimizers: tuple[str, ...] = ("*",)
    seeds: int = 3  # Number of seeds on which all are compared; grids are searched on another seed
    # small: at most half a minute a trial on one core; full: the published setting, for a GPU
    size: Size = "small"
    steps: int | None = None  # Optimizer steps of a trial; None: each workload's budget
    folder: Path = Path("runs/compare")  # Folder of the trials, the report and the tables
    # Processes of this machine, each pinned to a core, or a Ray cluster
    engine: Literal["local", "ray"] = "local"
    jobs: int | None = None  # Trials at a time; None: one per core
    times: bool = True  # Time the steps of all optimizers, apart, on one core of this machine
    address: str | None = None  # Of the Ray cluster; None: start one on this machine

    def comparison(self, command: str) -> Comparison:
        """Raises `UntunedError` for unknown names and missing data sets."""
        contestants = select(self.optimizers, [c.name for c in CONTESTANTS], contestant_of)
        names = select(self.workloads, list(WORKLOADS), find)
        problems = [Problem(n, self.size, self.steps or find(n).at(self.size).steps) for n in names]
        return Comparison(list(map(contestant_of, contestants)), problems, self.seeds, command)

    def executor(self) -> Executor:
        local = self.engine == "local"
        return LocalExecutor(self.jobs) if local else RayExecutor(self.jobs, self.address)


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare. Exit codes: 2 for wrong input, 130 if interrupted, 1 if a trial has failed."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = tyro.cli(CompareOptions, args=given, prog="untuned compare", description=__doc__)
    console = Console(highlight=False)
    try:
        comparison = options.comparison(shlex.join(["untuned", "compare", *given]))
        trials = Trials(options.folder / "cells.jsonl")
        times = StepTimes(options.folder / "times.jsonl")
        with trials.locked():
            comparison.save(options.folder)
            wanted, left = partial(comparison.wanted, trials), partial(comparison.remaining, trials)
            train_missing(trials, wanted, options.executor, console, left)
            missing = untimed(comparison, trials, times) if options.times else []
            time_untimed(times, missing, partial(LocalExecutor, 1), console)
    except WRONG_INPUT as error:
        stop(f"error: {error}", 2)
    except OSError as error:
        stop(f"error: {error}\n{KEPT}", 1)
    except KeyboardInterrupt:
        stop(f"Stopped. {KEPT}", 130)
    page = write_report(comparison, trials, times, options.folder)
    found = standings(comparison, trials, times)
    console.print(*(table.rich(console.width) for table in at_a_glance(found)))
    console.print(f"Page: {page}; beside it summary.md, cells.csv and cells.parquet")
    sys.exit(any(trial.status == "failed" for trial in trials.values()))
