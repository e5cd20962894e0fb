"""Carrying a comparison out, and showing how far it has come."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from untuned.lab.cells import LOSS, Cell, Cells, Key
from untuned.lab.comparison import Comparison
from untuned.lab.engines import Engine, Result, StartError, Work
from untuned.lab.plan import remaining, wanted


class Watch(Protocol):
    """Sees a comparison go on."""

    def began(self, key: Key) -> None:
        """A cell is under way."""

    def ended(self, cell: Cell, left: int) -> None:
        """It is written down; so many are left."""


def carry_out(
    comparison: Comparison, cells: Cells, engine: Engine, work: Work, watch: Watch
) -> None:
    """Train what a comparison wants until that is nothing."""
    asked = comparison.contestants, comparison.tasks, comparison.seeds
    train_all(
        lambda: wanted(*asked, cells), lambda: remaining(*asked, cells), cells, engine, work, watch
    )


def train_all(
    missing: Callable[[], list[Key]],
    left: Callable[[], int],
    cells: Cells,
    engine: Engine,
    work: Work,
    watch: Watch,
) -> None:
    """Train what is missing, asked again as each cell ends, and write each down."""
    running: dict[Future[Result], Key] = {}
    while True:
        waiting = (key for key in missing() if key not in running.values())
        for key, _ in zip(waiting, range(engine.slots - len(running)), strict=False):
            running[engine.submit(work, key)] = key
            watch.began(key)
        if not running:
            return
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            cell = outcome(running.pop(future), future)
            cells.append(cell)
            watch.ended(cell, left())


def outcome(key: Key, future: Future[Result]) -> Cell:
    """The cell of a training, or one that tells why there is none.

    Raises `StartError`, which no cell is to blame for.
    """
    error = future.exception()
    if isinstance(error, StartError):
        raise error
    if error is None:
        return Cell.of(future.result())
    return Cell(key, "failed", error=f"{type(error).__name__}: {error}")


class Display:
    """A bar over all cells, and a line for each that is under way."""

    def __init__(self, console: Console, ended: int, left: int) -> None:
        self._console = console
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=18),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._ended = ended
        self._all = self._progress.add_task("cells", total=ended + left, completed=ended)
        self._lines: dict[Key, TaskID] = {}

    @contextmanager
    def shown(self) -> Iterator[None]:
        """While the comparison goes on."""
        with self._progress:
            yield

    def began(self, key: Key) -> None:
        """A line for the cell."""
        self._lines[key] = self._progress.add_task(label(key), total=None)

    def ended(self, cell: Cell, left: int) -> None:
        """Its line goes; what went wrong, and all where nobody sees the bar, is printed."""
        self._progress.remove_task(self._lines.pop(cell.key))
        self._ended += 1
        self._progress.update(self._all, completed=self._ended, total=self._ended + left)
        if cell.status != "done" or not self._console.is_terminal:
            told = cell.error or f"loss {cell.last(LOSS):.4g}, {cell.seconds:.1f} s, {left} left"
            self._console.print(
                f"{cell.status}: {label(cell.key)}: {told}", markup=False, soft_wrap=True
            )


def label(key: Key) -> str:
    """A cell in a line."""
    return f"{key.workload}  {key.optimizer}  {key.schedule}  seed {key.seed}"
