"""The picture of an entry: curves over the steps, a grid over `x`, or every floor over time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from untuned.lab.cells import Cell, Key
from untuned.lab.config import Size
from untuned.lab.curves import COLORS
from untuned.lab.picture import STYLE, draw_floors
from untuned.lab.reproduce.entry import Entry, Line
from untuned.lab.reproduce.outcome import rows, value

Trained = Mapping[Line, Sequence[Cell]]  # those seeds that have ended


def draw(
    entry: Entry, size: Size, cells: Mapping[Key, Cell], path: Path, steps: int | None = None
) -> None:
    """The entry's view of what has ended; nothing, if that is nothing."""
    keys = entry.keys(size, steps)
    trained = {line: [cells[key] for key in each if key in cells] for line, each in keys.items()}
    if not any(trained.values()):
        return
    if entry.view == "floors":
        cell = next(cell for each in trained.values() for cell in each)
        return draw_floors(entry.about, cell.curve, path)
    if entry.view == "curves":
        chosen = {row.line for row in rows(entry, size, cells, steps)}
        trained = {line: each for line, each in trained.items() if line in chosen}
    panels = list(dict.fromkeys(line.panel for line in trained))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.6 + 3.6 * len(panels), 4.8), layout="constrained")
        plots = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, panel in zip(plots, panels, strict=True):
            inside = {line: each for line, each in trained.items() if line.panel == panel}
            (_grid if entry.view == "grid" else _curves)(axes, entry, inside)
            axes.set(title=panel)
        plots[0].set_ylabel(entry.measure.name)
        plots[0].legend(frameon=False, labelcolor="linecolor", fontsize=9)
        figure.suptitle(f"{entry.name} ({size})", x=0.01, ha="left")
        figure.savefig(path, dpi=130)


def _colors(trained: Trained) -> dict[str, str]:
    labels = list(dict.fromkeys(line.label for line in trained))
    return {label: COLORS[i % len(COLORS)] for i, label in enumerate(labels)}


def _curves(axes: Axes, entry: Entry, trained: Trained) -> None:
    """The measure of every seed, and bold its mean over those that got to the end."""
    colors = _colors(trained)
    measure = entry.measure
    for line, cells in trained.items():
        ended = [cell for cell in cells if cell.status == "done" and cell.curve.get(measure.column)]
        for cell in ended:
            axes.plot(cell.curve["step"], measure.curve(cell), color=colors[line.label], alpha=0.3)
        if ended:
            means = np.mean([measure.curve(cell) for cell in ended], axis=0)
            at = f" at {line.x:g}" if line.x is not None else ""
            axes.plot(
                ended[0].curve["step"], means, linewidth=2.4, color=colors[line.label],
                label=line.label + at,
            )  # fmt: skip
    axes.set(xlabel="steps")


def _grid(axes: Axes, entry: Entry, trained: Trained) -> None:
    """The measure over `x`: every seed, and a line through the means."""
    for label, color in _colors(trained).items():
        lines = sorted((line for line in trained if line.label == label), key=_x)
        means = []
        for line in lines:
            values = [value(entry.measure, cell) for cell in trained[line]]
            finite = [v for v in values if math.isfinite(v)]
            axes.plot([_x(line)] * len(finite), finite, ".", color=color, alpha=0.5)
            means.append(float(np.mean(finite)) if finite else math.nan)
        if lines[0].x is None:
            axes.axhline(means[0], color=color, linewidth=2.4, label=label)
        else:
            marker = "o" if len(lines) == 1 else ""
            axes.plot([*map(_x, lines)], means, marker=marker, linewidth=2.4, color=color,
                      label=label)  # fmt: skip
    if any(line.x is not None and cells for line, cells in trained.items()):
        axes.set(xlabel=entry.x, xscale="log")


def _x(line: Line) -> float:
    return math.nan if line.x is None else line.x
