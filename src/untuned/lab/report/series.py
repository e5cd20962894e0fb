"""The numbers behind the page's figures, as lean as JSON allows."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from untuned.lab.cells import LOSS, Cell, rounded
from untuned.lab.comparison import Standing
from untuned.lab.contestants import REFERENCE
from untuned.lab.measure import mean, performance_profile

FIGURES = {LOSS: "valid", "train_loss": "train", "metric": "metric", "lr": "lr"}
LR = re.compile(r"\blr=([0-9.e+-]+)")
Numbers = list[float | None]


def profile(standings: Sequence[Standing]) -> dict[str, dict[str, Numbers]]:
    """The performance profile over the workloads on which all have been compared."""
    steps: dict[str, dict[str, float]] = {}
    for standing in standings:
        if not math.isnan(standing.reduction):
            steps.setdefault(standing.contestant.name, {})[standing.task.workload] = standing.steps
    shared = set.intersection(*(set(row) for row in steps.values())) if steps else set()
    if not shared:
        return {}
    rows = {name: [row[w] for w in sorted(shared)] for name, row in steps.items()}
    return {
        name: {"x": plain(curve.steps), "y": plain(curve.losses)}
        for name, curve in performance_profile(rows).items()
    }


def workload(standings: Sequence[Standing]) -> dict[str, Any]:
    """Everything that is drawn of one workload."""
    metric = next((c.metric_name for s in standings for c in s.cells if c.metric_name), "metric")
    target = next((s.loss for s in standings if s.contestant.name == REFERENCE), math.nan)
    return {
        "metric": metric,
        "steps": standings[0].task.steps,
        "target": rounded(target),
        "lines": {s.contestant.name: line(s.cells) for s in standings if s.cells},
        "grids": {s.contestant.name: grid(s) for s in standings if s.tried},
        "ends": {
            s.contestant.name: rounded(s.loss)
            for s in standings
            if not s.contestant.tuned and s.cells
        },
    }


def line(cells: Sequence[Cell]) -> dict[str, Any]:
    """Means over the seeds that are still there, and their range."""
    out: dict[str, Any] = {"step": max((cell.curve.get("step", []) for cell in cells), key=len)}
    for column, name in FIGURES.items():
        out[name] = band([cell.curve.get(column, []) for cell in cells])
    floors = sorted({name for cell in cells for name in cell.curve if name.startswith("hyper ")})
    out["floors"] = {
        name.removeprefix("hyper "): band([cell.curve.get(name, []) for cell in cells])["mean"]
        for name in floors
    }
    return out


def band(seeds: Sequence[Sequence[float]]) -> dict[str, Numbers]:
    """Mean, least and most at each evaluation; no range of a single seed."""
    length = max(map(len, seeds), default=0)
    table = np.full((len(seeds), length), math.nan)
    for row, values in zip(table, seeds, strict=True):
        row[: len(values)] = values
    columns = [column[np.isfinite(column)] for column in table.T]
    means = [float(c.mean()) if len(c) else math.nan for c in columns]
    out = {"mean": plain(means)}
    if len(seeds) > 1:
        out["low"] = plain([float(c.min()) if len(c) else math.nan for c in columns])
        out["high"] = plain([float(c.max()) if len(c) else math.nan for c in columns])
    return out


def grid(standing: Standing) -> dict[str, dict[str, Numbers]]:
    """Final validation loss over the initial learning rate, by schedule."""
    found: dict[str, dict[float, float]] = {}
    for cell in standing.tried:
        (lr,) = map(float, LR.findall(cell.key.optimizer))
        found.setdefault(cell.key.schedule, {})[lr] = mean([cell.last(LOSS)])
    return {
        schedule: {"x": plain(sorted(row)), "y": plain([row[lr] for lr in sorted(row)])}
        for schedule, row in found.items()
    }


def plain(values: Sequence[float]) -> Numbers:
    """As JSON takes them: five digits, null for what is not finite."""
    return [rounded(value) for value in values]
