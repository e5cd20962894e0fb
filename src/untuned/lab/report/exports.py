"""The files of a report: HTML page, Markdown summary, and tables for other programs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from untuned.lab.comparison.plan import Comparison
from untuned.lab.comparison.standings import standings
from untuned.lab.comparison.trials import LOSS, Trial, TrialKey
from untuned.lab.report.page import render
from untuned.lab.report.table import TableCell
from untuned.lab.report.tables import matrix, overview


def write_report(comparison: Comparison, trials: Mapping[TrialKey, Trial], folder: Path) -> Path:
    """Write report.html, summary.md, cells.csv and cells.parquet.

    Args:
        comparison: contestants and problems.
        trials: all that have ended.
        folder: to write to.

    Returns:
        The path of the page.
    """
    page = folder / "report.html"
    page.write_text(render(comparison, trials), encoding="utf-8")
    (folder / "summary.md").write_text(_summary(comparison, trials), encoding="utf-8")
    rows = _frame(trials)
    rows.to_csv(folder / "cells.csv", index=False)
    rows.to_parquet(folder / "cells.parquet", index=False)
    return page


def _summary(comparison: Comparison, trials: Mapping[TrialKey, Trial]) -> str:
    found = standings(comparison, trials)
    total = overview(found)
    names = [row[0].text for row in total.rows]

    def with_gap(cell: TableCell) -> str:
        return f"{cell.text} ({cell.note})" if cell.note else cell.text

    return (
        f"{total.markdown()}\nSteps saved by workload; in brackets, how far the final validation "
        f"loss is from tuned AdamW's:\n\n{matrix(found, names).markdown(with_gap)}"
    )


def _frame(trials: Mapping[TrialKey, Trial]) -> pd.DataFrame:
    """A row for each trial, without its curve."""
    fields = ("metric_name", "seconds", "ms_per_step", "state_bytes", "peak_mb", "error", "command")
    return pd.DataFrame([
        {
            **key._asdict(),
            "status": trial.status,
            "stopped_at": trial.stopped_at,
            "valid_loss": trial.last(LOSS),
            "best_valid_loss": min(trial.loss.losses, default=float("nan")),
            "metric": trial.last("metric"),
            **{name: getattr(trial, name) for name in fields},
        }
        for key, trial in trials.items()
    ])  # fmt: skip
