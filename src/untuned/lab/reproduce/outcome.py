"""What came of an entry: the rows of its table, and what is to be said of each number."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from untuned.lab.cells import Cell, Key
from untuned.lab.config import Size
from untuned.lab.report.tables import NOTHING
from untuned.lab.reproduce.entry import Entry, Line, Measure, Published

NOT_PUBLISHED = "not published here"


@dataclass(frozen=True)
class Row:
    """A row of the table."""

    name: str
    line: Line  # of its grid the best
    values: list[float]  # of the seeds that have ended
    diverged: int
    wanted: int  # how many seeds there are to be
    others: tuple[float, float] | None = None  # worst and best mean over the grid, where it is one

    @property
    def mean(self) -> float:
        """Over the seeds; NaN before any has ended."""
        return math.fsum(self.values) / len(self.values) if self.values else math.nan


def value(measure: Measure, cell: Cell) -> float:
    """What a cell counts."""
    return measure.diverged if cell.status == "diverged" else measure.of(cell)


def rows(
    entry: Entry, size: Size, cells: Mapping[Key, Cell], steps: int | None = None
) -> list[Row]:
    """In the order of the lines; a grid is one row, its best mean's, unless `each` is wanted."""
    found: dict[str, list[Row]] = {}
    for line, keys in entry.keys(size, steps).items():
        ended = [cells[key] for key in keys if key in cells and cells[key].status != "failed"]
        values = [value(entry.measure, cell) for cell in ended]
        gone = sum(cell.status == "diverged" for cell in ended)
        name = f"{line.row} at {line.x:g}" if entry.each else line.row
        row = Row(name, line, values, gone, len(keys))
        found.setdefault(name, []).append(row)
    return [best(entry.measure, grid) for grid in found.values()]


def best(measure: Measure, grid: Sequence[Row]) -> Row:
    """Of a grid the row with the best mean, with the grid's ends noted."""
    ended = [row for row in grid if row.values]
    if len(grid) == 1 or not ended:
        return grid[0]
    order = sorted(ended, key=lambda row: row.mean, reverse=measure.more)
    first, last = order[0], order[-1]
    return replace(first, others=(last.mean, first.mean))


def verdict(published: Published | None, ours: float, baseline: float = math.nan) -> str:
    """Of our mean: inside the published spread or not; the difference where there is no spread.

    What was not published is set beside the entry's own baseline, if it has one.
    """
    if not math.isfinite(ours):
        return NOTHING
    if published is None:
        return f"{signed(ours - baseline)} from baseline" if math.isfinite(baseline) else NOTHING
    low, high = min(published.values), max(published.values)
    if len(published.values) == 1:
        return f"{signed(ours - low)} from published"
    if low <= ours <= high:
        return "inside"
    return f"below by {low - ours:.4g}" if ours < low else f"above by {ours - high:.4g}"


def signed(gap: float) -> str:
    """A difference with its sign."""
    return f"{gap:+.3g}".replace("-", "\u2212")


def baseline(entry: Entry, row: Row, all_rows: Sequence[Row]) -> float:
    """The mean that a row is set beside; NaN for the baseline itself."""
    for other in all_rows:
        at = not entry.each or other.line.x == row.line.x
        same = (other.line.label, other.line.panel) == (entry.baseline, row.line.panel)
        if same and at and other is not row:
            return other.mean
    return math.nan
