"""What a figure or table of a paper is to the lab: trainings, and the numbers that were published.

An entry is data. Its lines are trainings, over seeds; lines of one label that differ in `x` (a
learning rate, a width) are a grid. Each label becomes a row of the table, each `x` with `each`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from untuned.lab.cells import LOSS, Cell, Key
from untuned.lab.config import Size
from untuned.lab.schedules import Schedule


class Published(NamedTuple):
    """A number of a paper's, or one for each of its seeds, and where it stands."""

    values: tuple[float, ...]
    source: str


class Measure(NamedTuple):
    """What is read off a training: a column of its curve, at the end, or a field of the cell."""

    name: str
    column: str = "metric"
    scale: float = 1.0
    start: float = 0.0
    more: bool = False  # whether more of it is better
    diverged: float = float("inf")  # what a training counts that ended early

    def of(self, cell: Cell) -> float:
        """At the end."""
        found: float = getattr(cell, self.column, cell.last(self.column))
        return self.start + self.scale * found

    def curve(self, cell: Cell) -> list[float]:
        """Over the steps."""
        return [self.start + self.scale * number for number in cell.curve.get(self.column, [])]


ACCURACY = Measure("test accuracy, %", scale=100, more=True, diverged=10.0)
ERROR = Measure("test error, %", scale=-100, start=100, diverged=90.0)
PERPLEXITY = Measure("validation perplexity")
BITS = Measure("bits per character")
DISTANCE = Measure("Frechet distance of 8x8 pixels")
RETURN = Measure("mean return", more=True, diverged=-21.0)
LOSSES = Measure("validation loss", LOSS)
TIME = Measure("ms a step", "ms_per_step")


class Line(NamedTuple):
    """A training, for as many seeds as its scale has."""

    label: str
    optimizer: str
    workload: str
    schedule: Schedule = "constant"
    x: float | None = None
    panel: str = ""
    steps: int | None = None  # where they are not those of the scale

    @property
    def row(self) -> str:
        """The row of the table that it belongs to."""
        return f"{self.panel}, {self.label}" if self.panel else self.label


class Scale(NamedTuple):
    """How much of an entry is run."""

    data: str
    device: str
    time: str
    steps: int
    seeds: int
    lines: tuple[Line, ...]

    @property
    def needs(self) -> str:
        """In a line."""
        return f"{self.data}; {self.device}; {self.time}"

    @property
    def extent(self) -> str:
        """What is trained, how long, and how often."""
        workloads = ", ".join(f"`{name}`" for name in dict.fromkeys(w.workload for w in self.lines))
        lengths = sorted({line.steps or self.steps for line in self.lines})
        steps = " to ".join(f"{length:,}" for length in dict.fromkeys((lengths[0], lengths[-1])))
        return f"{workloads}; steps: {steps}; seeds: {self.seeds}"


@dataclass(frozen=True)
class Entry:
    """A figure or table."""

    name: str
    paper: str
    figure: str
    about: str
    measure: Measure
    full: Scale
    small: Scale
    published: Mapping[str, Published] = field(default_factory=dict)  # by row
    baseline: str = ""  # the label of the line that others of its panel are set beside
    x: str = ""  # what the lines of a label differ in
    each: bool = False
    view: Literal["curves", "grid", "floors"] = "curves"
    told: str = ""  # what the paper says of it without a number, and how ours differs

    def at(self, size: Size) -> Scale:
        """The one asked for."""
        return self.small if size == "small" else self.full

    def keys(self, size: Size, steps: int | None = None) -> dict[Line, list[Key]]:
        """The cells of each line; a number of steps takes the place of all budgets."""
        scale = self.at(size)
        return {
            line: [
                Key(line.workload, size, line.optimizer, line.schedule, seed,
                    steps or line.steps or scale.steps)
                for seed in range(scale.seeds)
            ]
            for line in scale.lines
        }  # fmt: skip


def grid(
    label: str, text: str, rates: tuple[float, ...], workload: str,
    schedule: Schedule = "constant", panel: str = "", steps: int | None = None,
) -> tuple[Line, ...]:  # fmt: skip
    """An optimizer, with {lr} where its learning rate stands, at each of some."""
    return tuple(
        Line(label, text.format(lr=f"{lr:g}"), workload, schedule, lr, panel, steps) for lr in rates
    )


def epochs(count: int, examples: int, batch: int) -> int:
    """In steps; what an epoch leaves over is left out."""
    return count * (examples // batch)
