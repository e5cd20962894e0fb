"""Pictures of towers: test error by first step size, and every floor over time."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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


Series = dict[float, list[float]]  # by step size, each seed's test error in per cent

# From one floor to five: darker with height
FLOORS = ("#bbbbbb", "#9ecae1", "#4292c6", "#2171b5", "#08306b")
ERRORS = (2, 5, 10, 20, 50, 90)
TRIO = ("#999999", "#D55E00", "#0072B2")


def draw_errors(panels: dict[str, dict[str, Series]], path: Path) -> None:
    """A panel for each group of lines: test error by first step size, each seed and the median."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.6 + 3.6 * len(panels), 4.8), layout="constrained")
        grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, (title, lines) in zip(grid, panels.items(), strict=True):
            colors = TRIO if len(lines) == len(TRIO) else FLOORS
            for (name, series), color in zip(lines.items(), colors, strict=True):
                steps = list(series)
                label = name if axes is grid[0] else None
                medians = [np.median(seeds) for seeds in series.values()]
                axes.plot(steps, medians, color=color, linewidth=2.4, label=label)
                axes.plot(steps, list(series.values()), ".", color=color, alpha=0.5, markersize=4)
            axes.set(title=title, xscale="log", yscale="log", xlabel="first step size")
            axes.set_yticks(
                [2, 5, 10, 20, 50, 90], labels=[f"{y}%" for y in (2, 5, 10, 20, 50, 90)]
            )
            axes.minorticks_off()
        grid[0].set_ylabel("test error")
        figure.legend(loc="outside upper left", ncols=5, frameon=False, labelcolor="linecolor")
        figure.savefig(path, dpi=130)


SPECTRUM = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")


def draw_floors(
    title: str, losses: list[float], floors: list[list[dict[str, float]]], path: Path
) -> None:
    """The loss, and a panel for each floor that is tuned: rates as they are, decays from one.

    `floors` has, step by step and floor by floor, the hyperparameters by name.
    """
    tuned = [
        level
        for level in range(len(floors[0]))
        if any(floors[0][level][name] != floors[-1][level][name] for name in floors[0][level])
    ]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.2 * (1 + len(tuned)), 4.4), layout="constrained")
        first, *rest = figure.subplots(1, 1 + len(tuned), squeeze=False)[0]
        first.plot(losses, color="#999999", linewidth=0.8)
        first.set(title="Training loss", yscale="log", xlabel="steps")
        for axes, level in zip(rest, tuned, strict=True):
            ends = {}
            for name, color in zip(floors[0][level], SPECTRUM, strict=False):
                decay = name.startswith(("beta", "gamma", "momentum"))
                values = [1 - step[level][name] if decay else step[level][name] for step in floors]
                axes.plot(values, color=color, linewidth=1.6)
                ends[f"1 - {name}" if decay else name] = (values[-1], color)
            label_ends(axes, ends)
            axes.set(title=f"Floor {level}", yscale="log", xlabel="steps")
        figure.suptitle(title, x=0.01, ha="left")
        figure.savefig(path, dpi=130)


def label_ends(axes: Axes, ends: dict[str, tuple[float, str]]) -> None:
    """A name at the end of each line, on a logarithmic axis, none over another."""
    axes.set_yscale("log")
    low, high = np.log10(axes.get_ylim())
    last = -math.inf
    for name, (value, color) in sorted(ends.items(), key=lambda end: end[1][0]):
        height = max((np.log10(value) - low) / (high - low), last + 0.055)
        axes.text(1.01, height, name, color=color, va="center", transform=axes.transAxes)
        last = height
