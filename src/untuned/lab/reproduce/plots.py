"""The plot of an experiment: curves over the steps, a grid over `x`, or all floors of a tower."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

from untuned.lab.comparison.trials import Trial
from untuned.lab.reproduce.experiment import Line, Measure
from untuned.lab.reproduce.results import Results
from untuned.lab.training.plots import COLORS, figure

DECADE = 10
GREY = "#999999"
LEGIBLE = 0.1  # share of the published length that runs must fill, for an axis of all of it
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
    places = Counter((w.panel, w.label) for w, each in trained.items() if each and w.x is not None)
    has_grid = max(places.values(), default=0) > 1  # or there is no line to draw through the means
    draw = _grid if experiment.view == "grid" and has_grid else _curves
    if draw is _curves:
        chosen = {row.line for row in results.rows()}
        trained = {line: each for line, each in trained.items() if line in chosen}
    panels = list(dict.fromkeys(line.panel for line, each in trained.items() if each))
    inches = (2.6 + 3.6 * len(panels), 4.8)
    with figure(path, f"{experiment.name} ({results.size})", inches, len(panels)) as plots:
        styles = _styles(trained, experiment.each and draw is _curves)
        for axes, panel in zip(plots, panels, strict=True):
            inside = {line: each for line, each in trained.items() if line.panel == panel}
            draw(axes, results, inside, styles)
            axes.set(title=panel)
        plots[0].set_ylabel(experiment.measure.name)
        _legend(plots)


def _legend(plots: Sequence[Axes]) -> None:
    """All labels in the first panel; many beside the last one."""
    named = [axes.get_legend_handles_labels() for axes in plots]
    handles = {label: handle for each in named for handle, label in zip(*each, strict=True)}
    many = len(handles) > len(COLORS)
    where = {"loc": "upper left", "bbox_to_anchor": (1, 1)} if many else {"loc": "best"}
    (plots[-1] if many else plots[0]).legend(
        handles.values(), handles, frameon=False, labelcolor="linecolor", fontsize=9, **where
    )


_Styles = Mapping[tuple[str, float | None], Mapping[str, Any]]  # of a line's label and place


def _styles(trained: _Trained, each_place: bool) -> _Styles:
    """A colour for each label, or each place of each; dashed where colours come again."""
    key = {line: (line.label, line.x if each_place else None) for line in trained}
    kinds = dict.fromkeys(key[line] for line, trials in trained.items() if trials)
    style = {
        kind: {"color": COLORS[i % len(COLORS)], "linestyle": "--" if i >= len(COLORS) else "-"}
        for i, kind in enumerate(kinds)
    }
    return {(line.label, line.x): style[key[line]] for line in trained if key[line] in style}


def _name(line: Line) -> str:
    return line.label + (f" at {line.x:g}" if line.x is not None else "")


def _curves(axes: Axes, results: Results, trained: _Trained, styles: _Styles) -> None:
    """The measure of every seed, bold its mean over the seeds of a length, and published ends."""
    measure, scale = results.experiment.measure, results.experiment.at(results.size)
    for line, trials in trained.items():
        done = [each for each in trials if each.status == "done" and each.curve.get(measure.column)]
        unit = scale.epochs / scale.budget(line) if scale.epochs else 1.0
        by_steps: dict[tuple[float, ...], list[list[float]]] = {}
        for trial in done:
            by_steps.setdefault(tuple(trial.curve["step"]), []).append(measure.curve(trial))
        label = _name(line)
        for steps, curves in by_steps.items():
            places, style = [unit * step for step in steps], styles[line.label, line.x]
            for curve in curves:
                axes.plot(places, curve, alpha=0.3, **style)
            axes.plot(places, np.mean(curves, axis=0), linewidth=2.4, label=label, **style)
            label = ""
    axes.set(xlabel="epochs" if scale.epochs else "steps")
    if not measure.more:  # ends are far below starts
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    if results.size == "full":
        whole, longest = scale.epochs or max(map(scale.budget, trained)), axes.dataLim.x1
        axes.set_xlim(0, whole if longest > LEGIBLE * whole else longest)
    _published_ends(axes, results, trained, styles)


def _published(
    results: Results, trained: _Trained, styles: _Styles
) -> Iterator[tuple[Line, float, str]]:
    """Published numbers of rows at full size, with their colours; grey of those without a run."""
    experiment = results.experiment
    for line in trained if results.size == "full" else ():
        published = experiment.published.get(experiment.row_of(line))
        color = styles.get((line.label, line.x), {}).get("color", GREY)
        yield from ((line, value, color) for value in (published.values if published else ()))


def _published_ends(axes: Axes, results: Results, trained: _Trained, styles: _Styles) -> None:
    """Dotted lines with names."""
    ends = {}
    for line, value, color in _published(results, trained, styles):
        axes.axhline(value, color=color, linestyle=":", linewidth=1.2, zorder=0)
        whose = f": {_name(line)}" if color == GREY else ""
        ends[f"published {value:g}{whose}"] = value, color
    _label_ends(axes, ends)


def _published_places(axes: Axes, results: Results, trained: _Trained, styles: _Styles) -> None:
    """Stars."""
    for line, value, color in _published(results, trained, styles):
        axes.plot([line.x or 0], [value], "*", color=color, markersize=11)


def _grid(axes: Axes, results: Results, trained: _Trained, styles: _Styles) -> None:
    """The measure over `x`: every seed, and a line through the means."""
    ended = {line: trials for line, trials in trained.items() if trials}
    for label in dict.fromkeys(line.label for line in ended):
        lines = sorted((line for line in ended if line.label == label), key=lambda w: w.x or 0)
        style = styles[label, lines[0].x]
        numbers = {line: _finite(results.experiment.measure, ended[line]) for line in lines}
        means = [float(np.mean(numbers[w])) if numbers[w] else math.nan for w in lines]
        if lines[0].x is None:
            axes.axhline(means[0], linewidth=2.4, label=label, **style)
        else:
            marker = "o" if len(lines) == 1 else ""
            places = [line.x or 0 for line in lines]
            axes.plot(places, means, marker=marker, linewidth=2.4, label=label, **style)
        for line, values in numbers.items():
            if line.x is not None:
                axes.plot([line.x] * len(values), values, ".", color=style["color"], alpha=0.5)
    xs = [line.x for line in ended if line.x is not None]
    if xs:
        scale = "log" if max(xs) > DECADE * min(xs) else "linear"
        axes.set(xlabel=results.experiment.x, xscale=scale)
    mark = _published_places if results.experiment.each else _published_ends
    mark(axes, results, ended, styles)


def _finite(measure: Measure, trials: Sequence[Trial]) -> list[float]:
    return [value for value in map(measure.of, trials) if math.isfinite(value)]


def _floors(title: str, curve: Mapping[str, Sequence[float]], path: Path) -> None:
    """The loss, and a panel for each floor that is tuned."""
    floors: dict[str, dict[str, Sequence[float]]] = {}
    for column, values in curve.items():
        if column.startswith("hyper ") and len(set(values)) > 1:
            floor, name = column.removeprefix("hyper ").split(".", 1)
            floors.setdefault(floor, {})[name] = values
    with figure(path, title, (4.2 * (1 + len(floors)), 4.4), 1 + len(floors)) as (first, *rest):
        first.plot(curve["step"], curve["valid_loss"], color=GREY)
        first.set(title="Validation loss", yscale="log", xlabel="steps")
        for axes, (floor, tuned) in zip(rest, floors.items(), strict=True):
            ends = {}
            for (name, values), color in zip(tuned.items(), COLORS, strict=False):
                decay = name.startswith(_DECAYS)
                line = [1 - value if decay else value for value in values]
                axes.plot(curve["step"], line, color=color, linewidth=1.6)
                ends[f"1 - {name}" if decay else name] = (line[-1], color)
            axes.set_yscale("log")
            _label_ends(axes, ends)
            axes.set(title=floor.replace("floor", "Floor "), xlabel="steps")


def _label_ends(axes: Axes, ends: Mapping[str, tuple[float, str]]) -> None:
    """A name beside the end of each line, without overlap."""
    axes.get_ylim()  # brings transforms up to date
    last = -math.inf
    for name, (value, color) in sorted(ends.items(), key=lambda end: end[1][0]):
        _, place = axes.transAxes.inverted().transform(axes.transData.transform((0, value)))
        height = max(place, last + 0.055)
        axes.text(
            1.01, height, name, color=color, va="center", fontsize=9, transform=axes.transAxes
        )
        last = height
