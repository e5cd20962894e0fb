"""The results of an experiment: rows with a verdict on each published number, as a table."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from untuned.lab.comparison.trials import Trial, TrialKey
from untuned.lab.config import Size
from untuned.lab.report.table import NOTHING, Table, signed
from untuned.lab.reproduce.experiment import Experiment, Line, Published

NOT_PUBLISHED = "not published here"
SMALLER = "A run smaller than the paper's: it can neither confirm nor refute a published number."


@dataclass(frozen=True)
class ResultRow:
    """A row of the table."""

    name: str
    line: Line  # the best of its grid
    values: list[float]  # of the seeds that have ended
    diverged: int
    wanted: int  # number of seeds
    others: tuple[float, float] | None = None  # worst and best mean of its grid

    @property
    def mean(self) -> float:
        """Over the seeds; NaN if none has ended."""
        return math.fsum(self.values) / len(self.values) if self.values else math.nan

    @property
    def ours(self) -> str:
        """Mean and range over the seeds, and how many have ended or diverged."""
        if not self.values:
            return "not run"
        text = _number(self.mean)
        if len(self.values) > 1:
            text += f" ({_number(min(self.values))} to {_number(max(self.values))})"
        ended = len(self.values)
        notes = [f"{ended} of {self.wanted} seeds"] if ended < self.wanted else []
        notes += [f"{self.diverged} diverged"] if self.diverged else []
        return f"{text}; {', '.join(notes)}" if notes else text


@dataclass(frozen=True)
class Results:
    """An experiment at a size, and its trials that have ended."""

    experiment: Experiment
    size: Size
    trials: Mapping[TrialKey, Trial]
    steps: int | None = None  # overrides all budgets

    def keys(self) -> dict[Line, list[TrialKey]]:
        """The trials of each line."""
        scale = self.experiment.at(self.size)
        return {
            line: [
                TrialKey(line.workload, self.size, line.optimizer, line.schedule, seed,
                         self.steps or line.steps or scale.steps)
                for seed in range(scale.seeds)
            ]
            for line in scale.lines
        }  # fmt: skip

    def trained(self) -> dict[Line, list[Trial]]:
        """The trials of each line that have ended."""
        keys = self.keys().items()
        return {line: [self.trials[k] for k in each if k in self.trials] for line, each in keys}

    def rows(self) -> list[ResultRow]:
        """In the order of the lines; a grid is one row, of its best mean, unless `each` is set."""
        found: dict[str, list[ResultRow]] = {}
        for line, trials in self.trained().items():
            ended = [trial for trial in trials if trial.status != "failed"]
            values = [self.experiment.measure.of(trial) for trial in ended]
            gone = sum(trial.status == "diverged" for trial in ended)
            name = f"{line.row} at {line.x:g}" if self.experiment.each else line.row
            row = ResultRow(name, line, values, gone, self.experiment.at(self.size).seeds)
            found.setdefault(name, []).append(row)
        return [self._best(rows) for rows in found.values()]

    def _best(self, rows: Sequence[ResultRow]) -> ResultRow:
        """The row of a grid with the best mean, and the range of the grid."""
        ended = [row for row in rows if row.values]
        if len(rows) == 1 or not ended:
            return rows[0]
        more = self.experiment.measure.more
        order = sorted(ended, key=lambda row: row.mean, reverse=more)
        return replace(order[0], others=(order[-1].mean, order[0].mean))

    def table(self) -> Table:
        """Published and reproduced numbers."""
        rows, e = self.rows(), self.experiment
        grid = any(row.others for row in rows)
        headings = ["", "published", "ours, mean and range", "verdict"]
        headings += [f"best {e.x}", "means over the grid"] if grid else []
        texts = []
        for row in rows:
            published = e.published.get(row.name)
            said = ", ".join(f"{v:g}" for v in published.values) if published else NOT_PUBLISHED
            judged = verdict(published, row.mean, self._baseline(row, rows))
            texts.append([row.name, said, row.ours, judged])
            if grid:
                x = row.line.x if row.others else None
                texts[-1].append(NOTHING if x is None else f"{x:g}")
                texts[-1].append(" to ".join(map(_number, row.others)) if row.others else NOTHING)
        return Table.of(headings, texts, f"{e.figure}: {e.measure.name}")

    def _baseline(self, row: ResultRow, rows: Sequence[ResultRow]) -> float:
        """The mean of a row's baseline; NaN for the baseline itself."""
        label = self.experiment.baseline, row.line.panel
        same = (other for other in rows if (other.line.label, other.line.panel) == label)
        each = self.experiment.each
        means = (o.mean for o in same if o is not row and (not each or o.line.x == row.line.x))
        return next(means, math.nan)

    def notes(self) -> list[str]:
        """Whether the run is smaller than the paper's, and the source of each published number."""
        by_source: dict[str, list[str]] = {}
        for row, number in self.experiment.published.items():
            by_source.setdefault(number.source, []).append(row)
        sources = [f"{source} ({', '.join(rows)})" for source, rows in by_source.items()]
        published = f"Published numbers: {'; '.join(sources) or NOT_PUBLISHED}."
        return [SMALLER, published] if self.size == "small" or self.steps else [published]

    def fragment(self, command: str) -> str:
        """A section of docs/reproductions.md."""
        e, scale, name = (
            self.experiment,
            self.experiment.at(self.size),
            self.experiment.measure.name,
        )
        budget = f", cut to {self.steps} steps" if self.steps else ""
        parts = [
            f"### {e.name}",
            f"{e.figure} of {e.paper}: {e.about}.",
            *([e.note] if e.note else []),
            f"`{command}` ({scale.extent}{budget}; on {scale.data}). {name[0].upper() + name[1:]}:",
            self.table().markdown().rstrip(),
            *self.notes(),
        ]
        return "\n\n".join(parts) + "\n"


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


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else NOTHING
