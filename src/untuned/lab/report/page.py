"""The files of a report: a self-contained HTML page, a Markdown summary, and CSV and Parquet."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from untuned.lab.comparison.contestants import CONTESTANTS, REFERENCE
from untuned.lab.comparison.plan import Comparison
from untuned.lab.comparison.standings import Standing, standings
from untuned.lab.comparison.step_times import StepTime, TimeKey
from untuned.lab.comparison.trials import LOSS, Trial, TrialKey
from untuned.lab.report import series
from untuned.lab.report.cells import seconds_saved
from untuned.lab.report.table import Table, TableCell
from untuned.lab.report.tables import by_workload, details, matrices, overviews

# Distinct on white and on black; the reference has the colour of the text.
PALETTE = [
    "#e5484d", "#0091d5", "#2f9e5b", "#a35ce0", "#d9822b", "#12a594",
    "#d6409f", "#6e7de0", "#a18072", "#84a51d", "#c2557a", "#5f8fa3",
]  # fmt: skip


def write_report(
    comparison: Comparison,
    trials: Mapping[TrialKey, Trial],
    times: Mapping[TimeKey, StepTime],
    folder: Path,
) -> Path:
    """Write report.html, summary.md, cells.csv and cells.parquet.

    Args:
        comparison: contestants and problems.
        trials: all that have ended.
        times: of a step, as far as they are measured.
        folder: to write to.

    Returns:
        The path of the page.
    """
    found = standings(comparison, trials, times)
    page = folder / "report.html"
    page.write_text(_page(comparison, found), encoding="utf-8")
    (folder / "summary.md").write_text(_summary(found), encoding="utf-8")
    rows = _frame(trials, times)
    rows.to_csv(folder / "cells.csv", index=False)
    rows.to_parquet(folder / "cells.parquet", index=False)
    return page


def _summary(found: Sequence[Standing]) -> str:
    totals = overviews(found)
    names = [row[0].text for row in totals[0].rows]

    def with_note(cell: TableCell) -> str:
        return f"{cell.text} ({cell.note})" if cell.note else cell.text

    parts = [f"{table.title}:\n\n{table.markdown()}" for table in totals]
    parts.append(
        "Steps saved by workload; in brackets, how far the final validation loss is from tuned "
        "AdamW's:\n"
    )
    parts += [f"{t.title}:\n\n{t.markdown(with_note)}" for t in matrices(found, names)]
    if _timed(found):
        parts.append(
            "Seconds saved by workload; in brackets, the time of a step beside tuned AdamW's:\n"
        )
        seconds = matrices(found, names, seconds_saved)
        parts += [f"{t.title}:\n\n{t.markdown(with_note)}" for t in seconds]
    return "\n".join(parts)


def _timed(found: Sequence[Standing]) -> bool:
    return any(math.isfinite(standing.ratio) for standing in found)


def _frame(trials: Mapping[TrialKey, Trial], times: Mapping[TimeKey, StepTime]) -> pd.DataFrame:
    """A row for each trial, without its curve; with the time of its step, if that is measured."""
    untimed = StepTime(TimeKey("", "", ""), math.nan, math.nan)
    found = {key: times.get(TimeKey(*key[:3]), untimed) for key in trials}
    fields = ("metric_name", "seconds", "ms_per_step", "state_bytes", "peak_mb", "error", "command")
    return pd.DataFrame([
        {
            **key._asdict(), "status": trial.status, "stopped_at": trial.stopped_at,
            "valid_loss": trial.last(LOSS),
            "best_valid_loss": min(trial.loss.losses, default=float("nan")),
            "metric": trial.last("metric"),
            **{name: getattr(trial, name) for name in fields},
            "timed_ms": found[key].ms, "timed_ratio": found[key].ratio,
        }
        for key, trial in trials.items()
    ])  # fmt: skip


def _page(comparison: Comparison, found: Sequence[Standing]) -> str:
    totals = overviews(found)
    ranked = [row[0].text for row in totals[0].rows]
    names = [contestant.name for contestant in comparison.contestants]
    hues = _colours(names)
    dashed = [name for i, name in enumerate(_in_order(names)) if i >= len(PALETTE)]
    parts = by_workload(found)
    drawn = {name: series.workload_series(own) for name, own in parts.items()}
    profile = series.profile_series(found)
    ends = [x for line in profile.values() for x in line["x"] if x is not None]
    data = {
        "reference": REFERENCE, "palette": PALETTE, "colours": hues, "dashed": dashed,
        "profile": profile,
        "furthest": 1.05 * max(ends, default=1), "workloads": drawn,
    }  # fmt: skip
    every = list({c.key: c for standing in found for c in standing.trained}.values())
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(_read("page.html")).render(
        overviews=totals, matrices=matrices(found, ranked), names=names,
        in_seconds=matrices(found, ranked, seconds_saved) if _timed(found) else [], colours=hues,
        dashed=dashed,
        seeds=comparison.seeds, cell_count=len(every), profile=profile,
        workloads={name: _section(own, drawn[name]) for name, own in parts.items()},
        failures=_failures(every), versions=_versions(every), command=comparison.command,
        data=Markup(json.dumps(data, separators=(",", ":")).replace("</", "<\\/")),
        plotly=Markup(get_plotlyjs()), css=Markup(_read("page.css")), js=Markup(_read("page.js")),
    )  # fmt: skip


def _colours(names: Sequence[str]) -> dict[str, str]:
    """Contestants of the table have the same colour on every page."""
    hues = {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(_in_order(names))}
    return {name: hues.get(name, "var(--ink)") for name in names}


def _in_order(names: Sequence[str]) -> list[str]:
    """Those of the table, then others, without the reference."""
    known = [contestant.name for contestant in CONTESTANTS if contestant.name != REFERENCE]
    return known + [name for name in names if name not in known and name != REFERENCE]


def _section(own: Sequence[Standing], drawn: Mapping[str, Any]) -> dict[str, Any]:
    trials = {trial.key: trial for standing in own for trial in standing.trained}
    return {
        "table": details(own),
        "steps": own[0].problem.steps,
        "metric": drawn["metric"],
        "grids": drawn["grids"],
        "towers": [name for name, line in drawn["lines"].items() if line["floors"]],
        "commands": [trial.command for trial in trials.values() if trial.command],
    }


def _failures(trials: Iterable[Trial]) -> Table:
    """All trials that diverged or failed."""
    headings = ("workload", "optimizer", "schedule", "seed", "what")
    table = Table([(heading, "") for heading in headings])
    for trial in (trial for trial in trials if trial.status != "done"):
        key = trial.key
        what = trial.error or f"{trial.status} at step {trial.stopped_at} of {key.steps}"
        words = [TableCell(word, word) for word in (key.workload, key.optimizer, key.schedule)]
        table.rows.append(
            [*words, TableCell(str(key.seed), key.seed), TableCell(what, what, tone="bad")]
        )
    return table


def _versions(trials: Iterable[Trial]) -> str:
    """All versions of libraries that the trials were trained with."""
    found = sorted({pair for trial in trials for pair in trial.versions.items()})
    names = dict.fromkeys(name for name, _ in found)
    return "; ".join(f"{n} {', '.join(v for name, v in found if name == n)}" for n in names)


def _read(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
