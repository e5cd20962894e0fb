"""The numbers of the page's figures, as compact JSON values."""

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from untuned.lab.comparison.contestants import REFERENCE
from untuned.lab.comparison.measure import mean, performance_profile
from untuned.lab.comparison.standings import Standing
from untuned.lab.comparison.trials import LOSS, rounded

_FIGURES = {LOSS: "valid", "train_loss": "train", "metric": "metric", "lr": "lr"}
_LR = re.compile(r"\blr=([0-9.e+-]+)")
Numbers = list[float | None]


def profile_series(standings: Sequence[Standing]) -> dict[str, dict[str, Numbers]]:
    """The performance profile over the workloads on which all contestants were compared."""
    steps: dict[str, dict[str, float]] = {}
    for standing in standings:
        if not math.isnan(standing.reduction):
            steps.setdefault(standing.contestant.name, {})[standing.problem.workload] = (
                standing.steps
            )
    shared = set.intersection(*(set(row) for row in steps.values())) if steps else set()
    if not shared:
        return {}
    rows = {name: [row[w] for w in sorted(shared)] for name, row in steps.items()}
    return {
        name: {"x": _plain(curve.steps), "y": _plain(curve.losses)}
        for name, curve in performance_profile(rows).items()
    }


def workload_series(standings: Sequence[Standing]) -> dict[str, Any]:
    """All figures of one workload."""
    metric = next((c.metric_name for s in standings for c in s.trials if c.metric_name), "metric")
    target = next((s.loss for s in standings if s.contestant.name == REFERENCE), math.nan)
    untuned = [s for s in standings if not s.contestant.tuned]
    return {
        "metric": metric,
        "steps": standings[0].problem.steps,
        "target": rounded(target),
        "lines": {s.contestant.name: _line(s) for s in standings if s.trials},
        "grids": {s.contestant.name: _grid(s) for s in standings if s.tried},
        "ends": {s.contestant.name: rounded(s.loss) for s in untuned if s.trials},
    }


def _line(standing: Standing) -> dict[str, Any]:
    """Means and ranges over the seeds that have not stopped, and the time of a step."""
    trials = standing.trials
    out: dict[str, Any] = {
        "step": max((trial.curve.get("step", []) for trial in trials), key=len),
        "ms": rounded(standing.ms),
    }
    for column, name in _FIGURES.items():
        out[name] = _band([trial.curve.get(column, []) for trial in trials])
    floors = sorted({name for trial in trials for name in trial.curve if name.startswith("hyper ")})
    out["floors"] = {
        name.removeprefix("hyper "): _band([trial.curve.get(name, []) for trial in trials])["mean"]
        for name in floors
    }
    return out


def _band(seeds: Sequence[Sequence[float]]) -> dict[str, Numbers]:
    """Mean, least and most at each evaluation; a single seed has no range."""
    length = max(map(len, seeds), default=0)
    table = np.full((len(seeds), length), math.nan)
    for row, values in zip(table, seeds, strict=True):
        row[: len(values)] = values
    columns = [column[np.isfinite(column)] for column in table.T]
    means = [float(c.mean()) if len(c) else math.nan for c in columns]
    out = {"mean": _plain(means)}
    if len(seeds) > 1:
        out["low"] = _plain([float(c.min()) if len(c) else math.nan for c in columns])
        out["high"] = _plain([float(c.max()) if len(c) else math.nan for c in columns])
    return out


def _grid(standing: Standing) -> dict[str, dict[str, Numbers]]:
    """Final validation loss over the initial learning rate, by schedule."""
    found: dict[str, dict[float, float]] = {}
    for trial in standing.tried:
        (lr,) = map(float, _LR.findall(trial.key.optimizer))
        found.setdefault(trial.key.schedule, {})[lr] = mean([trial.last(LOSS)])
    return {
        schedule: {"x": _plain(sorted(row)), "y": _plain([row[lr] for lr in sorted(row)])}
        for schedule, row in found.items()
    }


def _plain(values: Sequence[float]) -> Numbers:
    """Five digits; null for numbers that are not finite."""
    return [rounded(value) for value in values]
