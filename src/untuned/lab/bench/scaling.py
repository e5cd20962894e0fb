"""The time of a step by number of parameters, tensors, floors of a tower, and processes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from untuned.lab.bench.models import dense
from untuned.lab.bench.ranks import rank_times
from untuned.lab.bench.steps import Settings, graded, optimizers, timed

HIGHEST = 5  # tower
# Widths of square layers: four of each; or as many as have four million parameters
WIDTHS: dict[str, tuple[int, ...]] = {
    "parameters": (64, 128, 256, 512, 1024, 2048),
    "tensors": (1024, 512, 256, 128, 64),
}
TOTAL = 2**22


@dataclass(frozen=True)
class Timing:
    """The time of an optimizer's step on a model of some size."""

    axis: str  # parameters, tensors, floors or ranks
    x: int
    optimizer: str
    ms: float


def timings(settings: Settings) -> list[Timing]:
    """Time steps along all axes."""
    found = []
    for width in WIDTHS["parameters"]:
        found += _timings("parameters", 4 * width**2, dense(4, width), settings)
    for width in WIDTHS["tensors"]:
        count = TOTAL // width**2
        found += _timings("tensors", count, dense(count, width), settings)
    for height in range(1, HIGHEST + 1):
        tower = " / ".join(["sgd(lr=1e-6)", *["sgd(lr=1e-9)"] * (height - 1)])
        for t in _timings("floors", height, dense(4, 1024), replace(settings, optimizers=(tower,))):
            name = "sgd / ... / sgd" if t.optimizer == tower else t.optimizer
            found.append(Timing(t.axis, t.x, name, t.ms))
    shared = rank_times(settings)
    return found + [Timing("ranks", count, who, ms) for (count, who), ms in shared.items()]


def _timings(axis: str, x: int, model: nn.Module, settings: Settings) -> list[Timing]:
    made = optimizers(graded(model.to(settings.device)), settings)
    times, _ = timed({who: step for who, (_, step) in made.items()}, settings)
    return [Timing(axis, x, who, 1e3 * t.median) for who, t in times.items()]


def draw_scaling(found: Sequence[Timing], path: Path) -> None:
    """Plot a panel for each axis.

    Args:
        found: on all axes.
        path: of the PNG.
    """
    from untuned.lab.training.plots import figure  # needs more than torch

    names = list(dict.fromkeys(timing.axis for timing in found))
    with figure(path, "Time of a step", (5 * len(names), 4), len(names)) as panels:
        for axis, panel in zip(names, panels, strict=True):
            inside = [timing for timing in found if timing.axis == axis]
            for who in dict.fromkeys(timing.optimizer for timing in inside):
                line = [(timing.x, timing.ms) for timing in inside if timing.optimizer == who]
                panel.plot(*zip(*line, strict=True), marker="o", label=who)
            panel.set(xlabel=axis, ylabel="ms a step", yscale="log")
            panel.set_xscale("linear" if axis in ("floors", "ranks") else "log")
            panel.legend(fontsize="small")
