"""A figure or table of a paper, as data: its trainings, and the published numbers.

The lines of an experiment are trainings, over seeds; lines of one label that differ in `x` (a
learning rate, a width) are a grid. Each label becomes a row of the table; with `each`, each `x`
does.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from untuned.lab.baselines.schedules import Schedule
from untuned.lab.comparison.trials import LOSS, Trial
from untuned.lab.config import Size

MOST_NAMED = 4  # workloads, where all are listed


class Published(NamedTuple):
    """A published number, or one for each seed, and its source."""

    values: tuple[float, ...]
    source: str


class Measure(NamedTuple):
    """The number of a trial: start + scale * (a field, or the last value of a curve's column)."""

    name: str  # with its unit
    column: str = "metric"  # of the curve, or a field of the trial
    scale: float = 1.0  # factor
    start: float = 0.0  # offset
    more: bool = False  # whether more is better
    diverged: float = float("inf")  # the number of a trial that diverged

    @property
    def heading(self) -> str:
        """Above a table of it."""
        return f"{self.name[0].upper()}{self.name[1:]}:"

    def of(self, trial: Trial) -> float:
        """The number of a trial; time and memory are known of one that diverged, too."""
        if trial.status == "diverged" and not hasattr(trial, self.column):
            return self.diverged
        found: float = getattr(trial, self.column, trial.last(self.column))
        return self.start + self.scale * found

    def curve(self, trial: Trial) -> list[float]:
        """The number over the steps."""
        return [self.start + self.scale * number for number in trial.curve.get(self.column, [])]


TEST_ACCURACY = Measure("test accuracy, %", scale=100, more=True, diverged=10.0)
TEST_ERROR = Measure("test error, %", scale=-100, start=100, diverged=90.0)
VALID_PERPLEXITY = Measure("validation perplexity")
DISTANCE = Measure("Frechet distance of 8x8 pixels")
RETURN = Measure("mean return", more=True, diverged=-21.0)
VALID_LOSS = Measure("validation loss", LOSS)
TIME = Measure("ms a step", "ms_per_step")
STATE = Measure("state, MB", "state_bytes", scale=1e-6)  # of the optimizer


class Line(NamedTuple):
    """A training; `steps` and `seeds` override those of its scale."""

    label: str
    optimizer: str
    workload: str
    schedule: Schedule = "constant"
    x: float | None = None
    panel: str = ""
    steps: int | None = None
    seeds: int | None = None

    @property
    def row(self) -> str:
        """Its row of the table."""
        return f"{self.panel}, {self.label}" if self.panel else self.label


Measured = Mapping[Line, Sequence[float]]  # numbers of the seeds that have ended


class Claim(NamedTuple):
    """What a paper says without a number, and a test of it."""

    said: str
    test: Callable[[Measured, bool], str]  # from numbers, and whether more is better, to a finding


class Scale(NamedTuple):
    """An experiment at one size: what it needs, and its trainings."""

    data: str
    device: str
    steps: int
    seeds: int
    lines: tuple[Line, ...]
    epochs: int = 0  # that all steps of a line are; 0: not told in epochs
    time: str = ""  # where committed trials do not tell it

    @property
    def needs(self) -> str:
        """Data, device and time."""
        return "; ".join(filter(None, (self.data, self.device, self.time)))

    @property
    def extent(self) -> str:
        """Workloads, steps and seeds."""
        names = list(dict.fromkeys(f"`{line.workload}`" for line in self.lines))
        few = len(names) <= MOST_NAMED
        shown = ", ".join(names) if few else f"{len(names)} from {names[0]} to {names[-1]}"
        steps = _span({self.budget(line) for line in self.lines})
        epochs = f" ({self.epochs} epochs)" if self.epochs else ""
        seeds = _span({self.seeds_of(line) for line in self.lines})
        return f"{shown}; steps: {steps}{epochs}; seeds: {seeds}"

    def budget(self, line: Line) -> int:
        """The steps of a line."""
        return line.steps or self.steps

    def seeds_of(self, line: Line) -> int:
        """How many seeds a line has."""
        return line.seeds or self.seeds


def _span(numbers: set[int]) -> str:
    return " to ".join(f"{n:,}" for n in dict.fromkeys((min(numbers), max(numbers))))


@dataclass(frozen=True)
class Experiment:
    """A figure or table."""

    name: str  # by which to reproduce it
    paper: str  # its arXiv number
    figure: str  # of the paper
    about: str  # a description
    measure: Measure  # the number that is compared
    full: Scale  # at the published size
    small: Scale  # at a size for two cores
    published: Mapping[str, Published] = field(default_factory=dict)  # numbers by row
    baseline: str = ""  # label of the line to which others of its panel are compared
    x: str = ""  # in what the lines of a label differ
    each: bool = False  # a row for each `x`
    view: Literal["curves", "grid", "floors"] = "curves"  # kind of plot
    note: str = ""  # on the paper's figure, and differences of ours
    claims: tuple[Claim, ...] = ()  # of the paper, in words
    also: tuple[Measure, ...] = ()  # further columns of the table

    def at(self, size: Size) -> Scale:
        """The experiment at a size."""
        return self.small if size == "small" else self.full

    def row_of(self, line: Line) -> str:
        """The name of a line's row in the table."""
        return f"{line.row} at {line.x:g}" if self.each and line.x is not None else line.row


Optimizers = Mapping[str, str | tuple[str, tuple[float, ...]]]


def lines(
    workload: str, optimizers: Optimizers, schedule: Schedule = "constant", panel: str = ""
) -> tuple[Line, ...]:
    """Lines of several optimizers on one workload.

    Args:
        workload: to train.
        optimizers: text by label; or a text with {lr}, and the learning rates of a grid.
        schedule: of the learning rates.
        panel: of the plot.
    """
    found: list[Line] = []
    for label, text in optimizers.items():
        if isinstance(text, str):
            found.append(Line(label, text, workload, schedule, panel=panel))
        else:
            grid = ((lr, text[0].format(lr=f"{lr:g}")) for lr in text[1])
            found += [Line(label, each, workload, schedule, lr, panel) for lr, each in grid]
    return tuple(found)


def in_epochs(
    data: str, device: str, shape: tuple[int, int, int], seeds: int, cases: tuple[Line, ...]
) -> Scale:
    """A scale whose length is published in epochs.

    Args:
        data: needed.
        device: needed.
        shape: arguments of `epochs`.
        seeds: how many.
        cases: its lines.
    """
    return Scale(data, device, epochs(*shape), seeds, cases, shape[0])


def epochs(count: int, examples: int, batch: int) -> int:
    """Epochs in steps, without partial batches.

    Args:
        count: number of epochs.
        examples: of an epoch.
        batch: batch size.
    """
    return count * (examples // batch)
