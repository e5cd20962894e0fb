"""Plots: their style, and a run's curves."""

from collections.abc import Iterator, Sequence
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
    "axes.axisbelow": True, "axes.edgecolor": "#999999", "axes.grid": True,
    "axes.labelcolor": "#555555", "axes.spines.right": False, "axes.spines.top": False,
    "axes.titlelocation": "left", "axes.titlepad": 10, "axes.titleweight": "bold",
    "font.size": 12, "grid.color": "#eeeeee", "xtick.color": "#555555", "ytick.color": "#555555",
}  # fmt: skip


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
    }
    if tuned:
        panels["Hyperparameters"] = {name: name for name in list(tuned)[: len(COLORS)]}
    title = f"{result.workload}, {result.optimizer}, seed {result.seed}"
    steps = [point["step"] for point in result.curve]
    points = [{**point["hyper"], **point} for point in result.curve]
    with figure(path, title, (4.2 * len(panels), 4.4), len(panels)) as plots:
        for axes, (name, lines) in zip(plots, panels.items(), strict=True):
            positive = name != result.metric_name.capitalize()
            for (label, column), color in zip(lines.items(), COLORS, strict=False):
                values = np.array([point.get(column) for point in points], dtype=float)
                positive &= not (values < 0).any()
                axes.plot(steps, values, color=color, linewidth=2, label=label)
            scale = "log" if positive else "linear"
            axes.set(title=name, xlabel="steps", xlim=(0, None), yscale=scale)
            if len(lines) > 1 or name == "Hyperparameters":
                axes.legend(frameon=False, labelcolor="linecolor", fontsize=9)
