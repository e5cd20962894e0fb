"""The picture of a run: loss, metric, learning rate, and what a tower has tuned, over the steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from untuned.lab.picture import STYLE
from untuned.lab.runs import Result

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def draw(result: Result, path: Path) -> None:
    """A panel for each."""
    tuned = dict.fromkeys(name for point in result.curve for name in point["hyper"])
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.2 * (4 if tuned else 3), 4.4), layout="constrained")
        panels = figure.subplots(1, 4 if tuned else 3)
        _plot(panels[0], result, {"training": "train_loss", "validation": "valid_loss"})
        panels[0].set(title="Loss")
        _plot(panels[1], result, {"": "metric"}, log=False)
        panels[1].set(title=result.metric_name.capitalize())
        _plot(panels[2], result, {"": "lr"})
        panels[2].set(title="Learning rate")
        if tuned:
            for name, color in zip(tuned, COLORS, strict=False):
                values = [point["hyper"].get(name) for point in result.curve]
                _line(panels[3], _steps(result), values, name, color)
            panels[3].set(title="Hyperparameters", yscale="log")
            panels[3].legend(frameon=False, fontsize=9)
        figure.suptitle(
            f"{result.workload}, {result.optimizer}, seed {result.seed}", x=0.01, ha="left"
        )
        figure.savefig(path, dpi=130)


def _steps(result: Result) -> list[int]:
    return [point["step"] for point in result.curve]


def _plot(axes: Axes, result: Result, lines: dict[str, str], log: bool = True) -> None:
    """Some columns of the curve."""
    positive = True
    for (label, column), color in zip(lines.items(), COLORS, strict=False):
        values = [point[column] for point in result.curve]
        positive &= all(value is None or value >= 0 for value in values)
        _line(axes, _steps(result), values, label, color)
    axes.set(xlabel="steps", xlim=(0, None), yscale="log" if log and positive else "linear")
    if len(lines) > 1:
        axes.legend(frameon=False, labelcolor="linecolor")


def _line(axes: Axes, steps: list[int], values: list[Any], label: str, color: str) -> None:
    axes.plot(steps, np.array(values, dtype=float), color=color, linewidth=2, label=label)
