"""A row of an experiment's table: the seeds of a line, or the best line of a grid."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from untuned.lab.comparison.trials import Trial
from untuned.lab.report.table import NOTHING, signed
from untuned.lab.reproduce.experiment import Line, Measure, Published, Scale

NOT_PUBLISHED = "not published here"


@dataclass(frozen=True)
class ResultRow:
    """A row of the table."""

    name: str
    line: Line  # the best of its grid
    trials: Sequence[Trial]  # of the seeds that have ended, of one length
    measure: Measure  # of the table
    scale: Scale
    others: tuple[float, float] | None = None  # worst and best mean of its grid
    missing: int = 0  # how many lines of its grid have no seed that has ended

    @property
    def values(self) -> list[float]:
        """A number for each seed."""
        return [self.measure.of(trial) for trial in self.trials]

    @property
    def mean(self) -> float:
        """Over the seeds; NaN if none has ended."""
        return self.mean_of(self.measure)

    def mean_of(self, measure: Measure) -> float:
        """The mean of a measure over the seeds; NaN if none has ended."""
        values = [measure.of(trial) for trial in self.trials]
        return math.fsum(values) / len(values) if values else math.nan

    @property
    def trained(self) -> str:
        """How long, of the published length: "10 of 200 epochs"; empty if no seed has ended."""
        if not self.trials:
            return ""
        steps, budget = self.trials[0].key.steps, self.scale.budget(self.line)
        if self.scale.epochs:
            return f"{self.scale.epochs * steps / budget:.3g} of {self.scale.epochs} epochs"
        return f"{steps:,} of {budget:,} steps"

    @property
    def after(self) -> str:
        """Where a seed was trained for less than the published length: for how long."""
        budget = self.scale.budget(self.line)
        early = any(trial.key.steps < budget for trial in self.trials)
        return f"after {self.trained}" if early else ""

    @property
    def spread(self) -> str:
        """Mean and range over the seeds; how many have ended or diverged."""
        values = self.values
        if not values:
            return "not run"
        text = number(self.mean)
        if len(values) > 1:
            text += f" ({number(min(values))} to {number(max(values))})"
        wanted = self.scale.seeds_of(self.line)
        gone = sum(trial.status == "diverged" for trial in self.trials)
        notes = [f"{len(values)} of {wanted} seeds"] if len(values) < wanted else []
        notes += [f"{gone} diverged"] if gone else []
        return f"{text}; {', '.join(notes)}" if notes else text

    @property
    def ours(self) -> str:
        """The spread, and how early."""
        return ", ".join(filter(None, (self.spread, self.after)))

    @property
    def place(self) -> str:
        """Where in its grid the best mean is."""
        return f"{self.line.x:g}" if self.others and self.line.x is not None else NOTHING

    @property
    def range(self) -> str:
        """The means over its grid, and how much of it has not been run."""
        if not self.others:
            return NOTHING
        missing = f"; {self.missing} not run" if self.missing else ""
        return " to ".join(map(number, self.others)) + missing


def best_of(rows: Sequence[ResultRow]) -> ResultRow:
    """The row of a grid with the best mean, and the range of the grid."""
    ended = [row for row in rows if row.trials]
    if len(rows) == 1 or not ended:
        return rows[0]
    order = sorted(ended, key=lambda row: row.mean, reverse=rows[0].measure.more)
    ends = order[-1].mean, order[0].mean
    return replace(order[0], others=ends, missing=len(rows) - len(ended))


def verdict(published: Published | None, ours: float, baseline: float = math.nan) -> str:
    """Whether a mean is inside the published range, or the difference to a single number.

    Args:
        published: None: compare with the baseline instead.
        ours: mean over the seeds.
        baseline: mean of the experiment's baseline.
    """
    if not math.isfinite(ours):
        return NOTHING
    if published is None:
        known = math.isfinite(baseline)
        return f"{signed(ours - baseline, 3)} from baseline" if known else NOTHING
    low, high = min(published.values), max(published.values)
    if len(published.values) == 1:
        return f"{signed(ours - low, 3)} from published"
    if low <= ours <= high:
        return "inside"
    return f"below by {low - ours:.4g}" if ours < low else f"above by {ours - high:.4g}"


def number(value: float) -> str:
    """With few digits; a dash if it is not finite."""
    return f"{value:.4g}" if math.isfinite(value) else NOTHING
