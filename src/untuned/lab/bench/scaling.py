"""How the time of a step grows: with parameters, tensors, the floors of a tower, processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from untuned.lab.bench import ranks
from untuned.lab.bench.measure import Copy, take_turns
from untuned.lab.bench.models import dense
from untuned.lab.bench.steps import ENTRIES, Settings, graded, optimizers

HEIGHTS = 5
# Widths of square layers: four of each; or as many as have four million parameters
WIDTHS: dict[str, tuple[int, ...]] = {
    "parameters": (64, 128, 256, 512, 1024, 2048),
    "tensors": (1024, 512, 256, 128, 64),
}
TOTAL = 2**22


@dataclass(frozen=True)
class Point:
    """A step of an optimizer on a model of some size."""

    axis: str  # parameters, tensors, floors or ranks
    x: int
    optimizer: str
    ms: float


def points(texts: Sequence[str], settings: Settings) -> list[Point]:
    """All axes."""
    found = []
    for width in WIDTHS["parameters"]:
        model = dense(4, width)
        found += _measured("parameters", 4 * width**2, model, texts, settings)
    for width in WIDTHS["tensors"]:
        count = TOTAL // width**2
        found += _measured("tensors", count, dense(count, width), texts, settings)
    for height in range(1, HEIGHTS + 1):
        tower = " / ".join(["sgd(lr=1e-6)", *["sgd(lr=1e-9)"] * (height - 1)])
        measured = _measured("floors", height, dense(4, 1024), [tower], settings)
        names = {tower: "sgd / ... / sgd"}
        found += [Point(p.axis, p.x, names.get(p.optimizer, p.optimizer), p.ms) for p in measured]
    shared = ranks.times(texts, settings)
    return found + [Point("ranks", count, who, ms) for (count, who), ms in shared.items()]


def _measured(
    axis: str, x: int, model: nn.Module, texts: Sequence[str], settings: Settings
) -> list[Point]:
    device = torch.device(settings.device)
    made = optimizers(graded(model.to(device)), texts, settings)
    copy = Copy(device, settings.entries or ENTRIES[device.type])
    steps: dict[str, Callable[[], object]] = {who: step for who, (_, step) in made.items()}
    times, _ = take_turns(steps, copy, settings.repeats, settings.limit)
    return [Point(axis, x, who, 1e3 * t.median) for who, t in times.items()]


def draw(found: Sequence[Point], path: Path) -> None:
    """A panel for each axis."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    axes = list(dict.fromkeys(point.axis for point in found))
    figure, panels = pyplot.subplots(1, len(axes), figsize=(5 * len(axes), 4), squeeze=False)
    for axis, panel in zip(axes, panels[0], strict=True):
        here = [point for point in found if point.axis == axis]
        for who in dict.fromkeys(point.optimizer for point in here):
            line = [(point.x, point.ms) for point in here if point.optimizer == who]
            panel.plot(*zip(*line, strict=True), marker="o", label=who)
        panel.set(xlabel=axis, ylabel="ms a step", yscale="log")
        panel.set_xscale("linear" if axis in ("floors", "ranks") else "log")
        panel.legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
