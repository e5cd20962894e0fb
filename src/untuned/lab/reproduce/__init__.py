"""`untuned reproduce`: figures and tables of the papers, run again through the lab.

untuned reproduce --list
untuned reproduce agd-fcn8 --small

Goes on where it stopped: what is in the folder's cells.jsonl is not trained again, but for cells
that failed. Ends with a table, which stands in table.md as well, and picture.png. What wants
several devices runs as `torchrun --nproc-per-node 8 -m untuned.lab reproduce NAME`.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, get_args

import torch
import tyro
from rich.console import Console

from untuned.errors import UntunedError
from untuned.lab.cells import Cells, InUseError, Key
from untuned.lab.compare import KEPT, stop
from untuned.lab.config import Size
from untuned.lab.engines import Engine, Local, Result, StartError, Work
from untuned.lab.errors import unknown
from untuned.lab.progress import Display, train_all
from untuned.lab.reproduce import agd, nero, outcome, picture, tables, towers
from untuned.lab.reproduce.entry import Entry
from untuned.lab.work import train_cell
from untuned.lab.workloads import find

ENTRIES = {entry.name: entry for entry in (*agd.ENTRIES, *nero.ENTRIES, *towers.ENTRIES)}


@dataclass(frozen=True)
class Options:
    """Which figure or table, and how much of it."""

    name: Annotated[str, tyro.conf.Positional] = ""
    """By name; `--list` shows all."""
    list: bool = False
    """Show what there is, and what it needs."""
    small: bool = False
    """Smaller and shorter, for two cores."""
    steps: int | None = None
    """In the place of all budgets."""
    jobs: int | None = None
    """How many trainings at a time; None: one to a core."""
    folder: Path = Path("runs/reproduce")
    """Each entry has a folder in it."""

    @property
    def size(self) -> Size:
        """Of the lab's."""
        return "small" if self.small else "full"

    def entry(self) -> Entry:
        """Raises `UnknownNameError` with the nearest names."""
        if self.name not in ENTRIES:
            raise unknown("entry", self.name, ENTRIES)
        return ENTRIES[self.name]

    def path(self) -> Path:
        """Where the entry is kept."""
        return self.folder / f"{self.name}-{self.size}"


class Here:
    """This process, as one of several that train every cell together."""

    slots = 1

    def submit(self, work: Work, key: Key) -> Future[Result]:
        """Run the cell."""
        future: Future[Result] = Future()
        future.set_result(work(key))
        return future

    def close(self) -> None:
        """Nothing was started."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run an entry; exit with 2 for what there is not, 130 if interrupted, 1 if a cell failed."""
    given = sys.argv[1:] if arguments is None else [*arguments]
    options = tyro.cli(Options, args=given, prog="untuned reproduce", description=__doc__)
    first = os.environ.get("RANK", "0") == "0"
    console = Console(highlight=False, quiet=not first)
    if options.list or not options.name:
        return listing(console)
    try:
        entry = options.entry()
        check(entry, options)
        cells = Cells(options.path() / "cells.jsonl", writes=first)
        with cells.locked():
            train(entry, cells, options, console)
    except (UntunedError, InUseError, StartError, ValueError) as error:
        stop(f"error: {error}", 2)
    except KeyboardInterrupt:
        stop(f"Stopped. {KEPT}", 130)
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    if first:
        show(entry, cells, options, console, shlex.join(["untuned", "reproduce", *given]))
    wanted = {key for keys in entry.keys(options.size, options.steps).values() for key in keys}
    sys.exit(int(any(cells[key].status == "failed" for key in wanted if key in cells)))


def listing(console: Console) -> None:
    """Each entry, with what it needs at either size."""
    for entry in ENTRIES.values():
        console.print(f"{entry.name}  {entry.paper}, {entry.figure}: {entry.about}", markup=False)
        for size in get_args(Size):
            console.print(f"  {size}: {entry.at(size).needs}", markup=False)


def check(entry: Entry, options: Options) -> None:
    """Raise `MissingDataError` before anything is trained."""
    for name in {line.workload for line in entry.at(options.size).lines}:
        find(name).at(options.size)


def train(entry: Entry, cells: Cells, options: Options, console: Console) -> None:
    """All cells that are not there yet."""
    cells.forget_failed()
    keys = entry.keys(options.size, options.steps)
    wanted = list(dict.fromkeys(key for each in keys.values() for key in each))

    def missing() -> list[Key]:
        return [key for key in wanted if key not in cells]

    if not missing():
        return
    display = Display(console, len(wanted) - len(missing()), len(missing()))
    # torchrun has started the processes: each trains its share of every cell
    engine: Engine = Here() if "RANK" in os.environ else Local(options.jobs)
    try:
        with display.shown():
            train_all(missing, lambda: len(missing()), cells, engine, train_cell, display)
    finally:
        engine.close()


def show(entry: Entry, cells: Cells, options: Options, console: Console, command: str) -> None:
    """The table, here and as Markdown, and the picture."""
    found = outcome.rows(entry, options.size, cells, options.steps)
    console.print(tables.shown(entry, tables.table_of(entry, found)))
    if options.small or options.steps:
        console.print(tables.SMALLER)
    console.print(tables.sources(entry), markup=False)
    told = tables.fragment(entry, options.size, found, command, options.steps)
    (options.path() / "table.md").write_text(told, encoding="utf-8")
    picture.draw(entry, options.size, cells, options.path() / "picture.png", options.steps)
    console.print(f"Kept in {options.path()}: table.md, picture.png, cells.jsonl")
