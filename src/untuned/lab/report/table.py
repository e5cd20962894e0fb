"""Tables of text and numbers, for HTML, Markdown and terminals."""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # benchmarks/gpu.py has torch alone
    from rich.table import Table as RichTable

NEVER = "never"
NOTHING = "\u2013"


@dataclass(frozen=True)
class TableCell:
    """A cell of a table."""

    text: str  # to show
    value: float | str  # to sort by
    note: str = ""  # small, beneath the text
    tone: str = ""  # "good", "bad" or none


@dataclass(frozen=True)
class Table:
    """Headings, each with an explanation, and rows that begin with a name."""

    headings: list[tuple[str, str]]
    rows: list[list[TableCell]] = field(default_factory=list)
    title: str = ""

    @classmethod
    def of(cls, headings: Iterable[str], rows: Iterable[Iterable[str]], title: str = "") -> Table:
        """A table of texts.

        Args:
            headings: of the columns.
            rows: texts of the cells.
            title: above the table.
        """
        cells = [[TableCell(text, text) for text in row] for row in rows]
        return cls([(heading, "") for heading in headings], cells, title)

    def words(self, column: int) -> bool:
        """Whether a column holds words, not numbers."""
        return any(isinstance(row[column].value, str) for row in self.rows)

    def markdown(self, say: Callable[[TableCell], str] = lambda cell: cell.text) -> str:
        """As Markdown: the first column to the left, all others to the right."""
        heads = [heading for heading, _ in self.headings]
        lines = [heads, ["---", *["---:"] * (len(heads) - 1)]]
        lines += [[say(cell).replace("|", "\\|") for cell in row] for row in self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"

    def _widths(self) -> list[int]:
        """Of the columns, no text of theirs broken, and of headings no word."""
        columns = [[row[i].text for row in self.rows] for i in range(len(self.headings))]
        return [
            max(1, *map(len, [*heading.split(), *texts]))
            for (heading, _), texts in zip(self.headings, columns, strict=True)
        ]

    def rich(self, width: int | None = None) -> RichTable:
        """For a terminal.

        Args:
            width: in characters; the last columns are left out if they do not fit. None: any.
        """
        from rich import box
        from rich.markup import escape
        from rich.table import Table as RichTable

        out = RichTable(title=escape(self.title) or None, box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1))
        widths = self._widths()
        ends = itertools.accumulate(
            each + 2 for each in widths
        )  # between columns, and at the edges
        shown = sum(width is None or end + 2 <= width for end in ends)
        for i, (heading, _) in enumerate(self.headings[:shown]):
            lines = heading if width is None else textwrap.fill(heading, widths[i])
            out.add_column(lines, justify="right" if i else "left", no_wrap=not i)
        for row in self.rows:
            out.add_row(*(escape(cell.text) for cell in row[:shown]))
        return out


def number_cell(value: float, digits: int = 3) -> TableCell:
    """A number with few digits; NaN as a dash.

    Args:
        value: the number.
        digits: significant ones.
    """
    if math.isnan(value):
        return TableCell(NOTHING, value)
    if math.isinf(value):
        return TableCell("\u221e", value)
    short = f"{value:.{digits}g}"
    if "e" in short and 1e-4 <= abs(value) < 1e7:
        short = f"{value:.0f}"
    return TableCell(short, value)


def signed(gap: float, digits: int = 2) -> str:
    """A difference with its sign.

    Args:
        gap: the difference.
        digits: significant ones.
    """
    return f"{gap:+.{digits}g}".replace("-", "\u2212")
