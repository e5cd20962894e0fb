"""The page: one HTML file with everything in it, which asks nothing of any network."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from untuned.lab.cells import Cell, Key
from untuned.lab.comparison import Comparison, Standing, standings
from untuned.lab.contestants import CONTESTANTS, REFERENCE
from untuned.lab.report import series
from untuned.lab.report.tables import Entry, Table, details, matrix, overview

# Told apart on white and on black; the reference is drawn in the colour of the text.
PALETTE = [
    "#e5484d", "#0091d5", "#2f9e5b", "#a35ce0", "#d9822b", "#12a594",
    "#d6409f", "#6e7de0", "#a18072", "#84a51d", "#c2557a", "#5f8fa3",
]  # fmt: skip


def render(comparison: Comparison, cells: Mapping[Key, Cell]) -> str:
    """The whole page."""
    found = standings(comparison, cells)
    summary = overview(found)
    ranked = [row[0].text for row in summary.rows]
    names = [contestant.name for contestant in comparison.contestants]
    by_workload: dict[str, list[Standing]] = {}
    for standing in found:
        by_workload.setdefault(standing.task.workload, []).append(standing)
    drawn = {name: series.workload(own) for name, own in by_workload.items()}
    profile = series.profile(found)
    ends = [x for line in profile.values() for x in line["x"] if x is not None]
    data = {
        "reference": REFERENCE,
        "palette": PALETTE,
        "colours": colours(names),
        "profile": profile,
        "furthest": 1.05 * max(ends, default=1),
        "workloads": drawn,
    }
    every = list({c.key: c for standing in found for c in standing.trained}.values())
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(_read("page.html")).render(
        overview=summary,
        matrix=matrix(found, ranked),
        names=names,
        colours={name: colours(names)[name] for name in names},
        seeds=comparison.seeds,
        cell_count=len(every),
        profile=profile,
        workloads={name: _section(own, drawn[name]) for name, own in by_workload.items()},
        failures=failures(every),
        versions=versions(every),
        command=comparison.command,
        data=Markup(json.dumps(data, separators=(",", ":")).replace("</", "<\\/")),
        plotly=Markup(get_plotlyjs()),
        css=Markup(_read("page.css")),
        js=Markup(_read("page.js")),
    )


def colours(names: Sequence[str]) -> dict[str, str]:
    """The same on every page for those of the table of contestants."""
    known = [contestant.name for contestant in CONTESTANTS if contestant.name != REFERENCE]
    order = known + [name for name in names if name not in known and name != REFERENCE]
    hues = {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(order)}
    return {name: hues.get(name, "var(--ink)") for name in names}


def _section(own: Sequence[Standing], drawn: Mapping[str, Any]) -> dict[str, Any]:
    cells = {cell.key: cell for standing in own for cell in standing.trained}
    return {
        "table": details(own),
        "steps": own[0].task.steps,
        "metric": drawn["metric"],
        "grids": drawn["grids"],
        "towers": [name for name, line in drawn["lines"].items() if line["floors"]],
        "commands": [cell.command for cell in cells.values() if cell.command],
    }


def failures(cells: Iterable[Cell]) -> Table:
    """Every training that did not end with a finite loss."""
    table = Table(
        [("workload", ""), ("optimizer", ""), ("schedule", ""), ("seed", ""), ("what", "")]
    )
    for cell in (cell for cell in cells if cell.status != "done"):
        key = cell.key
        what = cell.error or f"{cell.status} at step {cell.stopped_at} of {key.steps}"
        words = [Entry(word, word) for word in (key.workload, key.optimizer, key.schedule)]
        table.rows.append([*words, Entry(str(key.seed), key.seed), Entry(what, what, tone="bad")])
    return table


def versions(cells: Iterable[Cell]) -> str:
    """Every version of everything that the cells were trained with."""
    found: dict[str, dict[str, None]] = {}
    for cell in cells:
        for name, version in cell.versions.items():
            found.setdefault(name, {})[version] = None
    return "; ".join(f"{name} {', '.join(seen)}" for name, seen in sorted(found.items()))


def _read(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
