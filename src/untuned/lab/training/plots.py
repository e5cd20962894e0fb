"""Plots: the style, a run's curves, and all floors of a tower over the steps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from untuned.lab.training.run import RunResult

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#999999",
    "axes.grid": True,
    "axes.labelcolor": "#555555",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.titleweight": "bold",
    "font.size": 12,
    "grid.color": "#eeeeee",
    "xtick.color": "#555555",
    "ytick.color": "#555555",
}
_DECAYS = ("beta", "gamma", "momentum")  # plotted as 1 - value


@contextmanager
def figure(
    path: Path, title: str, size: tuple[float, float], panels: int
) -> Iterator[Sequence[Axes]]:
    """A figure of panels side by side, saved at the end.

    Args:
        path: of the PNG.
        title: above all panels.
        size: width and height in inches.
        panels: how many.
    """
    with mpl.rc_context(STYLE):
        drawn = Figure(figsize=size, layout="constrained")
        yield drawn.subplots(1, panels, squeeze=False)[0]
        drawn.suptitle(title, x=0.01, ha="left")
        drawn.savefig(path, dpi=130)


def draw_run(result: RunResult, path: Path) -> None:
    """Loss, metric, learning rate, and hyperparameters if they are tuned, over the steps.

    Args:
        result: of the run.
        path: of the PNG.
    """
    tuned = dict.fromkeys(name for point in result.curve for name in point["hyper"])
    panels = {
        "Loss": {"training": "train_loss", "validation": "valid_loss"},
        result.metric_name.capitalize(): {"": "metric"},
        "Learning rate": {"": "lr"},
        **(
            {"Hyperparameters": {name: name for name in list(tuned)[: len(COLORS)]}}
            if tuned
            else {}
        ),
    }
    title = f"{result.workload}, {result.optimizer}, seed {result.seed}"
    points = [{**point["hyper"], **point} for point in result.curve]
    with figure(path, title, (4.2 * len(panels), 4.4), len(panels)) as plots:
        for axes, (name, lines) in zip(plots, panels.items(), strict=True):
            positive = name != result.metric_name.capitalize()
            for (label, column), color in zip(lines.items(), COLORS, strict=False):
                values = np.array([point.get(column) for point in points], dtype=float)
                positive &= not (values < 0).any()
                axes.plot([point["step"] for point in points], values, color=color, linewidth=2,
                          label=label)  # fmt: skip
            axes.set(title=name, xlabel="steps", xlim=(0, None))
            axes.set_yscale("log" if positive else "linear")
            if len(lines) > 1 or name == "Hyperparameters":
                axes.legend(frameon=False, labelcolor="linecolor", fontsize=9)


def draw_floors(title: str, curve: Mapping[str, Sequence[float]], path: Path) -> None:
    """The loss, and a panel for each floor that is tuned.

    Args:
        title: above all panels.
        curve: columns: step, valid_loss, and `hyper floorN.NAME` for hyperparameters.
        path: of the PNG.
    """
    floors: dict[str, dict[str, Sequence[float]]] = {}
    for column, values in curve.items():
        if column.startswith("hyper ") and len(set(values)) > 1:
            floor, name = column.removeprefix("hyper ").split(".", 1)
            floors.setdefault(floor, {})[name] = values
    with figure(path, title, (4.2 * (1 + len(floors)), 4.4), 1 + len(floors)) as (first, *rest):
        first.plot(curve["step"], curve["valid_loss"], color="#999999")
        first.set(title="Validation loss", yscale="log", xlabel="steps")
        for axes, (floor, tuned) in zip(rest, floors.items(), strict=True):
            ends = {}
            for (name, values), color in zip(tuned.items(), COLORS, strict=False):
                decay = name.startswith(_DECAYS)
                line = [1 - value if decay else value for value in values]
                axes.plot(curve["step"], line, color=color, linewidth=1.6)
                ends[f"1 - {name}" if decay else name] = (line[-1], color)
            _label_ends(axes, ends)
            axes.set(title=floor.replace("floor", "Floor "), xlabel="steps")


def _label_ends(axes: Axes, ends: dict[str, tuple[float, str]]) -> None:
    """A name at the end of each line, on a logarithmic axis, without overlap."""
    axes.set_yscale("log")
    low, high = np.log10(axes.get_ylim())
    last = -math.inf
    for name, (value, color) in sorted(ends.items(), key=lambda end: end[1][0]):
        height = max((np.log10(value) - low) / (high - low), last + 0.055)
        axes.text(1.01, height, name, color=color, va="center", transform=axes.transAxes)
        last = height
