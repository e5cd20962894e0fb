"""The first table of a comparison, for a terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.table import Table

from untuned.lab.cells import Cell, Key
from untuned.lab.comparison import Comparison, standings
from untuned.lab.report import tables


def overview(comparison: Comparison, cells: Mapping[Key, Cell]) -> Table:
    """A row for each contestant, best first."""
    found = tables.overview(standings(comparison, cells))
    out = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1))
    for i, (heading, _) in enumerate(found.headings):
        out.add_column(heading, justify="right" if i else "left", no_wrap=not i)
    for row in found.rows:
        out.add_row(*(entry.text for entry in row))
    return out
