"""`untuned compare`: optimizers on workloads, over seeds, each tuned as its users would tune it.

Goes on where it stopped: what is in the folder's cells.jsonl is not trained again, but for cells
that failed. Ends with a page, report.html, and tables beside it.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

import tyro
from rich.console import Console

from untuned.errors import UntunedError
from untuned.lab.cells import Cells, InUseError
from untuned.lab.comparison import Comparison
from untuned.lab.config import Size
from untuned.lab.contestants import CONTESTANTS, contestant_of, select
from untuned.lab.engines import Engine, Local, Ray, StartError
from untuned.lab.plan import Task, remaining
from untuned.lab.progress import Display, carry_out
from untuned.lab.report import exports, terminal
from untuned.lab.work import train_cell
from untuned.lab.workloads import WORKLOADS, find

KEPT = "What has ended is kept; the same command goes on."


@dataclass(frozen=True)
class Options:
    """What is compared, and where it runs."""

    workloads: tuple[str, ...] = ("*",)
    """Names or globs, such as 'fcn*'; `untuned train --list` shows all."""
    optimizers: tuple[str, ...] = ("*",)
    """Contestants by name or glob (agd, adamw-tuned, '*-tuned'), or as text: 'adamw(lr=3e-4)'."""
    seeds: int = 3
    """Fresh ones, on which all are compared; grids are searched on another."""
    size: Size = "small"
    """small: half a minute a cell on one core at most; full: the published setting, for a GPU."""
    steps: int | None = None
    """How many a cell takes; None: each workload's budget."""
    folder: Path = Path("runs/compare")
    """Where cells, page and tables are kept."""
    engine: Literal["local", "ray"] = "local"
    """Processes of this machine, each on a core of its own, or a Ray cluster."""
    jobs: int | None = None
    """How many cells at a time; None: one to a core."""
    address: str | None = None
    """Of the Ray cluster; None: one is started on this machine."""

    def comparison(self, command: str) -> Comparison:
        """Raises `UntunedError` for unknown names and missing data sets."""
        contestants = select(self.optimizers, [c.name for c in CONTESTANTS], contestant_of)
        names = select(self.workloads, list(WORKLOADS), find)
        tasks = [Task(n, self.size, self.steps or find(n).at(self.size).steps) for n in names]
        return Comparison(list(map(contestant_of, contestants)), tasks, self.seeds, command)

    def open_engine(self) -> Engine:
        """To be closed."""
        return Ray(self.jobs, self.address) if self.engine == "ray" else Local(self.jobs)


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare; exit with 2 for what there is not, 130 if interrupted, 1 if a cell has failed."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = tyro.cli(Options, args=given, prog="untuned compare", description=__doc__)
    console = Console(highlight=False)
    try:
        comparison = options.comparison(shlex.join(["untuned", "compare", *given]))
        cells = Cells(options.folder / "cells.jsonl")
        with cells.locked():
            comparison.save(options.folder)
            train(comparison, cells, options, console)
    except (UntunedError, InUseError, StartError, ValueError) as error:
        stop(f"error: {error}", 2)
    except OSError as error:
        stop(f"error: {error}\n{KEPT}", 1)
    except KeyboardInterrupt:
        stop(f"Stopped. {KEPT}", 130)
    page = exports.write(comparison, cells, options.folder)
    console.print(terminal.overview(comparison, cells))
    console.print(f"Page: {page}; beside it summary.md, cells.csv and cells.parquet")
    sys.exit(any(cell.status == "failed" for cell in cells.values()))


def stop(message: str, status: int) -> NoReturn:
    """Exit, and say why."""
    Console(stderr=True, highlight=False).print(message, markup=False, soft_wrap=True)
    sys.exit(status)


def train(comparison: Comparison, cells: Cells, options: Options, console: Console) -> None:
    """All cells that are not there yet."""
    cells.forget_failed()
    asked = comparison.contestants, comparison.tasks, comparison.seeds
    left = remaining(*asked, cells)
    if not left:
        return
    display = Display(console, len(cells), left)
    engine = options.open_engine()
    try:
        with display.shown():
            carry_out(comparison, cells, engine, train_cell, display)
    finally:
        engine.close()
