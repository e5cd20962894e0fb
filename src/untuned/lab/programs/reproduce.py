"""`untuned reproduce`: figures and tables of the papers, trained again.

untuned reproduce --list
untuned reproduce agd-fcn8 --small
untuned reproduce agd-breadth --rows 'FCN*' --steps 19500
untuned reproduce towers-rules --known docs/results/reproductions

The same command resumes: trials in the folder's cells.jsonl are not trained again, except those
that failed, and one that was under way goes on from its last checkpoint. At the end it writes
table.md and picture.png. With several devices it runs as
`torchrun --nproc-per-node 8 -m untuned.lab reproduce NAME`.
"""

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import tyro
from rich.console import Console

from untuned.lab.comparison.executors import Executor, InProcess, LocalExecutor
from untuned.lab.comparison.progress import train_missing
from untuned.lab.comparison.trials import Trial, TrialKey, Trials, train_trial
from untuned.lab.config import Size
from untuned.lab.errors import ConfigError, unknown
from untuned.lab.programs.exits import KEPT, WRONG_INPUT, stop
from untuned.lab.reproduce import agd, nero, towers
from untuned.lab.reproduce.evidence import committed
from untuned.lab.reproduce.experiment import Experiment, Line
from untuned.lab.reproduce.plots import draw_results
from untuned.lab.reproduce.results import Results
from untuned.lab.workloads.registry import find

EXPERIMENTS: dict[str, Experiment] = {e.name: e for m in (agd, nero, towers) for e in m.EXPERIMENTS}


@dataclass(frozen=True)
class ReproduceOptions:
    """Which figure or table to reproduce, and at what size."""

    name: Annotated[str, tyro.conf.Positional] = ""  # Name of the experiment; `--list` shows all
    list: bool = False  # Show all experiments, and what they need
    small: bool = False  # Smaller and shorter, for two cores
    steps: int | None = None  # Overrides all budgets; the table says which rows are shorter
    rows: tuple[str, ...] = ("*",)  # Rows of the table to train; names may be globs
    # Folder of trials that need not be trained again, such as docs/results/reproductions
    known: Path | None = None
    jobs: int | None = None  # Trials at a time; None: one per core
    folder: Path = Path("runs/reproduce")  # Each experiment has a folder in it

    @property
    def size(self) -> Size:
        return "small" if self.small else "full"

    def experiment(self) -> Experiment:
        """Raises `UnknownNameError` with the nearest names."""
        if self.name not in EXPERIMENTS:
            raise unknown("experiment", self.name, EXPERIMENTS)
        return EXPERIMENTS[self.name]

    def path(self) -> Path:
        return self.folder / f"{self.name}-{self.size}"

    def lines(self) -> Sequence[Line]:
        """Those of the rows to train. Raises `ConfigError`: there is no such row."""
        experiment = self.experiment()
        by_row = [(experiment.row_of(line), line) for line in experiment.at(self.size).lines]
        found = [line for row, line in by_row if any(fnmatchcase(row, each) for each in self.rows)]
        if not found:
            known = ", ".join(dict.fromkeys(row for row, _ in by_row))
            raise ConfigError(f"no row of {self.name} is called {self.rows}; there are: {known}")
        return found

    def known_trials(self) -> Trials | dict[TrialKey, Trial]:
        """Those from elsewhere. Raises `ConfigError`."""
        if self.known is None:
            return {}
        path = self.known / f"{self.name}.jsonl"
        if not path.exists():
            raise ConfigError(f"{path} is not there: no trial of {self.name} is known")
        return Trials(path)

    def executor(self) -> Executor:
        """An open executor. Under torchrun all ranks train each trial together."""
        return InProcess() if "RANK" in os.environ else LocalExecutor(self.jobs)


def main(arguments: Sequence[str] | None = None) -> None:
    """Reproduce. Exit codes: 2 for wrong input, 130 if interrupted, 1 if a trial has failed."""
    given = sys.argv[1:] if arguments is None else [*arguments]
    options = tyro.cli(ReproduceOptions, args=given, prog="untuned reproduce", description=__doc__)
    first = os.environ.get("RANK", "0") == "0"
    console = Console(highlight=False, quiet=not first)
    if options.list or not options.name:
        return _list(console)
    try:
        experiment = options.experiment()
        chosen = options.lines()
        for name in {line.workload for line in chosen}:
            find(name).at(options.size)  # raises if data are missing, before any training
        trials = Trials(options.path() / "cells.jsonl", writes=first)
        results = Results(experiment, options.size, trials, options.steps)
        wanted = list(dict.fromkeys(key for line in chosen for key in results.keys()[line]))
        with trials.locked():
            trials.adopt(options.known_trials())
            missing = lambda: [key for key in wanted if key not in trials]  # noqa: E731
            train = partial(train_trial, checkpoints=options.path() / "checkpoints")
            train_missing(trials, missing, options.executor, console, train=train)
    except WRONG_INPUT as error:
        stop(f"error: {error}", 2)
    except KeyboardInterrupt:
        stop(f"Stopped. {KEPT}", 130)
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    if first:
        _show(results, options.path(), console, shlex.join(["untuned", "reproduce", *given]))
    sys.exit(int(any(trials[key].status == "failed" for key in wanted if key in trials)))


def _list(console: Console) -> None:
    """All experiments, with what they need at either size."""
    for e in EXPERIMENTS.values():
        console.print(f"{e.name}  {e.paper}, {e.figure}: {e.about}", markup=False)
        console.print(f"  full size: {committed()[e.name].told}", markup=False)
        console.print(f"    needs {e.full.needs}", markup=False)
        console.print(f"  small: {e.small.needs}", markup=False)


def _show(results: Results, folder: Path, console: Console, command: str) -> None:
    """The table, printed and as Markdown, and the picture."""
    console.print(results.table().rich())
    for note in results.notes():
        console.print(note, markup=False)
    (folder / "table.md").write_text(results.fragment(command), encoding="utf-8")
    draw_results(results, folder / "picture.png")
    console.print(f"Kept in {folder}: table.md, picture.png, cells.jsonl")
