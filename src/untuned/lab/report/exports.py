"""What stands in a folder beside the cells: the page, and tables for other programs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from untuned.lab.cells import LOSS, Cell, Key
from untuned.lab.comparison import Comparison, standings
from untuned.lab.report.page import render
from untuned.lab.report.tables import Entry, markdown, matrix, overview


def write(comparison: Comparison, cells: Mapping[Key, Cell], folder: Path) -> Path:
    """Page, summary, CSV and Parquet; the path of the page."""
    page = folder / "report.html"
    page.write_text(render(comparison, cells), encoding="utf-8")
    (folder / "summary.md").write_text(summary(comparison, cells), encoding="utf-8")
    rows = frame(cells)
    rows.to_csv(folder / "cells.csv", index=False)
    rows.to_parquet(folder / "cells.parquet", index=False)
    return page


def summary(comparison: Comparison, cells: Mapping[Key, Cell]) -> str:
    """The page's first two tables."""
    found = standings(comparison, cells)
    total = overview(found)
    names = [row[0].text for row in total.rows]

    def with_gap(entry: Entry) -> str:
        return f"{entry.text} ({entry.note})" if entry.note else entry.text

    return (
        f"{markdown(total)}\nSteps saved by workload; in brackets, how far the final validation "
        f"loss is from tuned AdamW's:\n\n{markdown(matrix(found, names), with_gap)}"
    )


def frame(cells: Mapping[Key, Cell]) -> pd.DataFrame:
    """A row for each cell, without its curve."""
    return pd.DataFrame([
        {
            **key._asdict(),
            "status": cell.status,
            "stopped_at": cell.stopped_at,
            "valid_loss": cell.last(LOSS),
            "best_valid_loss": min(cell.loss.losses, default=float("nan")),
            "metric": cell.last("metric"),
            "metric_name": cell.metric_name,
            "seconds": cell.seconds,
            "ms_per_step": cell.ms_per_step,
            "state_bytes": cell.state_bytes,
            "peak_mb": cell.peak_mb,
            "error": cell.error,
            "command": cell.command,
        }
        for key, cell in cells.items()
    ])  # fmt: skip
