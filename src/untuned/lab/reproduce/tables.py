"""The table of an entry, for the terminal and as Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich import box
from rich.markup import escape
from rich.table import Table as Shown

from untuned.lab.config import Size
from untuned.lab.report.tables import NOTHING, Table, markdown
from untuned.lab.report.tables import Entry as Said
from untuned.lab.reproduce.entry import Entry, Published
from untuned.lab.reproduce.outcome import NOT_PUBLISHED, Row, baseline, verdict

SMALLER = "A run smaller than the paper's: it can neither confirm nor refute a published number."


def number(value: float) -> str:
    """With four digits."""
    return f"{value:.4g}" if math.isfinite(value) else NOTHING


def said(published: Published | None) -> str:
    """The published number or numbers."""
    return ", ".join(f"{v:g}" for v in published.values) if published else NOT_PUBLISHED


def ours(row: Row) -> str:
    """Mean and range over the seeds; how many, where that is not all of them."""
    if not row.values:
        return "not run"
    text = number(row.mean)
    if len(row.values) > 1:
        text += f" ({number(min(row.values))} to {number(max(row.values))})"
    notes = [f"{len(row.values)} of {row.wanted} seeds"] if len(row.values) < row.wanted else []
    notes += [f"{row.diverged} diverged"] if row.diverged else []
    return f"{text}; {', '.join(notes)}" if notes else text


def table_of(entry: Entry, rows: Sequence[Row]) -> Table:
    """A row for each label."""
    grid = any(row.others for row in rows)
    headings = ["", "published", "ours, mean and range", "verdict"]
    table = Table([(heading, "") for heading in headings])
    if grid:
        table.headings.append((f"best {entry.x}", ""))
        table.headings.append(("means over the grid", ""))
    for row in rows:
        published = entry.published.get(row.name)
        texts = [row.name, said(published), ours(row)]
        texts.append(verdict(published, row.mean, baseline(entry, row, rows)))
        if grid:
            x = row.line.x if row.others else None
            texts.append(NOTHING if x is None else f"{x:g}")
            texts.append(" to ".join(map(number, row.others)) if row.others else NOTHING)
        table.rows.append([Said(text, text) for text in texts])
    return table


def shown(entry: Entry, table: Table) -> Shown:
    """For the terminal."""
    out = Shown(title=escape(f"{entry.figure}: {entry.measure.name}"), box=box.SIMPLE_HEAD)
    for heading, _ in table.headings:
        out.add_column(heading, justify="right" if heading else "left")
    for row in table.rows:
        out.add_row(*(escape(cell.text) for cell in row))
    return out


def sources(entry: Entry) -> str:
    """Where each published number stands."""
    if not entry.published:
        return f"Published numbers: {NOT_PUBLISHED}."
    by_source: dict[str, list[str]] = {}
    for row, published in entry.published.items():
        by_source.setdefault(published.source, []).append(row)
    told = "; ".join(f"{source} ({', '.join(rows)})" for source, rows in by_source.items())
    return f"Published numbers: {told}."


def fragment(
    entry: Entry, size: Size, rows: Sequence[Row], command: str, steps: int | None = None
) -> str:
    """A section of docs/reproductions.md."""
    scale, name = entry.at(size), entry.measure.name
    budget = f", cut to {steps} steps" if steps else ""
    parts = [
        f"### {entry.name}",
        f"{entry.figure} of {entry.paper}: {entry.about}.",
        *([entry.told] if entry.told else []),
        f"`{command}` ({scale.extent}{budget}; on {scale.data}). {name[0].upper() + name[1:]}:",
        markdown(table_of(entry, rows)).rstrip(),
        *([SMALLER] if size == "small" or steps else []),
        sources(entry),
    ]
    return "\n\n".join(parts) + "\n"
