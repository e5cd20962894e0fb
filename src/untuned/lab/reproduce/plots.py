"""The plot of an experiment: curves over the steps, a grid over `x`, or all floors of a tower."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from untuned.lab.comparison.trials import Trial
from untuned.lab.reproduce.experiment import Experiment, Line
from untuned.lab.reproduce.results import Results
from untuned.lab.training.plots import COLORS, figure

_DECAYS = ("beta", "gamma", "momentum")  # plotted as 1 - value
_Trained = Mapping[Line, Sequence[Trial]]  # seeds that have ended


def draw_results(results: Results, path: Path) -> None:
    """Plot the trials that have ended; without any, draw nothing.

    Args:
        results: of an experiment.
        path: of the PNG.
    """
    experiment, trained = results.experiment, results.trained()
    if not any(trained.values()):
        return
    if experiment.view == "floors":
        trial = next(trial for each in trained.values() for trial in each)
        return _floors(experiment.about, trial.curve, path)
    if experiment.view == "curves":
        chosen = {row.line for row in results.rows()}
        trained = {line: each for line, each in trained.items() if line in chosen}
    panels = list(dict.fromkeys(line.panel for line in trained))
    inches = (2.6 + 3.6 * len(panels), 4.8)
    with figure(path, f"{experiment.name} ({results.size})", inches, len(panels)) as plots:
        for axes, panel in zip(plots, panels, strict=True):
            inside = {line: each for line, each in trained.items() if line.panel == panel}
            (_grid if experiment.view == "grid" else _curves)(axes, experiment, inside)
            axes.set(title=panel)
        plots[0].set_ylabel(experiment.measure.name)
        plots[0].legend(frameon=False, labelcolor="linecolor", fontsize=9)


def _colors(trained: _Trained) -> dict[str, str]:
    labels = list(dict.fromkeys(line.label for line in trained))
    return {label: COLORS[i % len(COLORS)] for i, label in enumerate(labels)}


def _curves(axes: Axes, experiment: Experiment, trained: _Trained) -> None:
    """The measure of every seed, and bold its mean over the seeds that are done."""
    colors = _colors(trained)
    measure = experiment.measure
    for line, trials in trained.items():
        done = [each for each in trials if each.status == "done" and each.curve.get(measure.column)]
        for trial in done:
            steps, color = trial.curve["step"], colors[line.label]
            axes.plot(steps, measure.curve(trial), color=color, alpha=0.3)
        if done:
            means = np.mean([measure.curve(trial) for trial in done], axis=0)
            label = line.label + (f" at {line.x:g}" if line.x is not None else "")
            axes.plot(steps, means, linewidth=2.4, color=color, label=label)
    axes.set(xlabel="steps")


def _grid(axes: Axes, experiment: Experiment, trained: _Trained) -> None:
    """The measure over `x`: every seed, and a line through the means."""
    for label, color in _colors(trained).items():
        lines = sorted(
            (line for line in trained if line.label == label), key=lambda line: line.x or 0
        )
        means, xs = [], [line.x or math.nan for line in lines]
        for line, x in zip(lines, xs, strict=True):
            values = [experiment.measure.of(trial) for trial in trained[line]]
            finite = [v for v in values if math.isfinite(v)]
            axes.plot([x] * len(finite), finite, ".", color=color, alpha=0.5)
            means.append(float(np.mean(finite)) if finite else math.nan)
        if lines[0].x is None:
            axes.axhline(means[0], color=color, linewidth=2.4, label=label)
        else:
            marker = "o" if len(lines) == 1 else ""
            axes.plot(xs, means, marker=marker, linewidth=2.4, color=color,
                      label=label)  # fmt: skip
    if any(line.x is not None and trials for line, trials in trained.items()):
        axes.set(xlabel=experiment.x, xscale="log")


def _floors(title: str, curve: Mapping[str, Sequence[float]], path: Path) -> None:
    """The loss, and a panel for each floor that is tuned."""
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
