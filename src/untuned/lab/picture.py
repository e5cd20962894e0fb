"""Pictures that the lab's parts share: their style, and every floor of a tower over time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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

SPECTRUM = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
DECAYS = ("beta", "gamma", "momentum")  # shown by what is missing to one


def draw_floors(title: str, curve: Mapping[str, Sequence[float]], path: Path) -> None:
    """The loss, and a panel for each floor that is tuned.

    `curve` has columns: step, valid_loss, and `hyper floorN.NAME` for the hyperparameters.
    """
    floors: dict[str, dict[str, Sequence[float]]] = {}
    for column, values in curve.items():
        if column.startswith("hyper ") and len(set(values)) > 1:
            floor, name = column.removeprefix("hyper ").split(".", 1)
            floors.setdefault(floor, {})[name] = values
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.2 * (1 + len(floors)), 4.4), layout="constrained")
        first, *rest = figure.subplots(1, 1 + len(floors), squeeze=False)[0]
        first.plot(curve["step"], curve["valid_loss"], color="#999999")
        first.set(title="Validation loss", yscale="log", xlabel="steps")
        for axes, (floor, tuned) in zip(rest, floors.items(), strict=True):
            ends = {}
            for (name, values), color in zip(tuned.items(), SPECTRUM, strict=False):
                decay = name.startswith(DECAYS)
                line = [1 - value if decay else value for value in values]
                axes.plot(curve["step"], line, color=color, linewidth=1.6)
                ends[f"1 - {name}" if decay else name] = (line[-1], color)
            label_ends(axes, ends)
            axes.set(title=floor.replace("floor", "Floor "), xlabel="steps")
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
