"""The results of an experiment: rows with a verdict on each published number, as a table."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from untuned.lab.comparison.trials import Trial, TrialKey
from untuned.lab.config import Size
from untuned.lab.report.table import NOTHING, Table
from untuned.lab.reproduce.claims import probability, welch
from untuned.lab.reproduce.experiment import Experiment, Line
from untuned.lab.reproduce.rows import NOT_PUBLISHED, ResultRow, best_of, number, verdict

SMALLER = "A run smaller than the paper's: it can neither confirm nor refute a published number."
SHORTER = (
    "Rows that end early, as they say, can neither confirm nor refute a published number: they "
    "were trained for fewer steps."
)


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
                         self.steps or scale.budget(line))
                for seed in range(scale.seeds_of(line))
            ]
            for line in scale.lines
        }  # fmt: skip

    def trained(self, longest: int | None = None) -> dict[Line, list[Trial]]:
        """Of each line the trials that have ended, of one length in a row, up to a length.

        It is the longest of those that most lines of the row have. A line that has none of it
        comes with its own longest.

        Args:
            longest: steps; None: the published length, or `steps` if that is more.
        """
        ended = self._ended(longest)
        of_row: dict[str, Counter[int]] = {}
        for line, trials in ended.items():
            lengths = of_row.setdefault(self.experiment.row_of(line), Counter())
            lengths.update({trial.key.steps for trial in trials})

        def chosen(line: Line, trials: Sequence[Trial]) -> list[Trial]:
            own = {trial.key.steps for trial in trials}
            lines = of_row[self.experiment.row_of(line)]
            best = max(lines, key=lambda length: (lines[length], length), default=0)
            length = best if best in own else max(own, default=0)
            return [trial for trial in trials if trial.key.steps == length]

        return {line: chosen(line, trials) for line, trials in ended.items()}

    def _ended(self, longest: int | None) -> dict[Line, list[Trial]]:
        """Of each line all trials that have ended, up to a length: see `trained`."""
        ended: dict[TrialKey, list[Trial]] = {}
        for key, trial in self.trials.items():
            if trial.status != "failed":
                ended.setdefault(key._replace(steps=0), []).append(trial)
        found: dict[Line, list[Trial]] = {}
        for line, keys in self.keys().items():
            most = longest or max(self.experiment.at(self.size).budget(line), self.steps or 0)
            own = (ended.get(key._replace(steps=0), []) for key in keys)
            found[line] = [trial for each in own for trial in each if trial.key.steps <= most]
        return found

    def compared(self) -> dict[Line, list[Trial]]:
        """As `trained`, of one length that all lines have that were trained at all, if any."""
        like: dict[TrialKey, set[int]] = {}
        for key, trial in self.trials.items():
            if trial.status != "failed":
                like.setdefault(key._replace(seed=0, steps=0), set()).add(key.steps)
        lines = (keys[0]._replace(steps=0) for keys in self.keys().values())
        lengths = [like[key] for key in lines if key in like]
        common = set.intersection(*lengths) if lengths else set()
        budgets = {self.experiment.at(self.size).budget(line) for line in self.keys()}
        within = [length for length in common if length <= max(budgets)]
        return self.trained(max(within) if within and len(budgets) == 1 else None)

    def rows(self) -> list[ResultRow]:
        """In the order of the lines; a grid is one row, of its best mean, unless `each` is set."""
        e, scale = self.experiment, self.experiment.at(self.size)
        found: dict[str, list[ResultRow]] = {}
        for line, trials in self.trained().items():
            name = e.row_of(line)
            row = ResultRow(name, line, trials, e.measure, scale)
            found.setdefault(name, []).append(row)
        return [best_of(rows) for rows in found.values()]

    def table(self) -> Table:
        """Published and reproduced numbers."""
        rows, e = self.rows(), self.experiment
        columns = {
            "": [row.name for row in rows],
            "published": [self._published(row) for row in rows],
            "ours, mean and range": [row.ours for row in rows],
            "verdict": [self._verdict(row, rows) for row in rows],
        }
        chances = [probability(welch(row.values, self._baseline(row, rows))) for row in rows]
        if any(chances):
            columns["against the baseline"] = [text or NOTHING for text in chances]
        if any(row.others for row in rows):
            columns[f"best {e.x}"] = [row.place for row in rows]
            columns["means over the grid"] = [row.range for row in rows]
        for measure in e.also:
            means = [row.mean_of(measure) for row in rows]
            columns[measure.name] = [number(mean) for mean in means]
        texts = zip(*columns.values(), strict=True)
        return Table.of(columns, texts, f"{e.figure}: {e.measure.name}")

    def _published(self, row: ResultRow) -> str:
        published = self.experiment.published.get(row.name)
        return ", ".join(f"{v:g}" for v in published.values) if published else NOT_PUBLISHED

    def _verdict(self, row: ResultRow, rows: Sequence[ResultRow]) -> str:
        """On a published number, or the difference to the baseline; and whether it is too early."""
        baseline = self._baseline(row, rows)
        mean = math.fsum(baseline) / len(baseline) if baseline else math.nan
        said = verdict(self.experiment.published.get(row.name), row.mean, mean)
        return f"{said}, {row.after}" if row.after and said != NOTHING else said

    def _baseline(self, row: ResultRow, rows: Sequence[ResultRow]) -> list[float]:
        """The numbers of a row's baseline; none for the baseline itself."""
        label, each = (self.experiment.baseline, row.line.panel), self.experiment.each
        same = (other for other in rows if (other.line.label, other.line.panel) == label)
        own = (o.values for o in same if o is not row and (not each or o.line.x == row.line.x))
        return next(own, [])

    def findings(self) -> dict[str, str]:
        """Of each claim in words: what the trials say; nothing of those that they do not reach.

        Trials of one length are compared, where all lines have one.
        """
        e, compared = self.experiment, self.compared()
        measured = {line: [e.measure.of(trial) for trial in each]
                    for line, each in compared.items()}  # fmt: skip
        found = {claim.said: claim.test(measured, e.measure.more) for claim in e.claims}
        rows = [ResultRow("", line, each, e.measure, e.at(self.size))
                for line, each in compared.items()]  # fmt: skip
        early = list(dict.fromkeys(row.after for row in rows if row.after))
        when = f"; {early[0] if len(early) == 1 else 'some rows end early'}" if early else ""
        return {said: finding + when for said, finding in found.items() if finding}

    def notes(self) -> list[str]:
        """Whether runs are smaller than the paper's, what its claims come to, and the sources."""
        by_source: dict[str, list[str]] = {}
        for row, published in self.experiment.published.items():
            by_source.setdefault(published.source, []).append(row)
        sources = [f"{source} ({'; '.join(rows)})" for source, rows in by_source.items()]
        shorter = SMALLER if self.size == "small" else SHORTER
        early = self.size == "small" or any(row.after for row in self.rows())
        return [
            *([shorter] if early else []),
            *(f"The paper: {said}. Ours: {found}." for said, found in self.findings().items()),
            f"Published numbers: {'; '.join(sources) or NOT_PUBLISHED}.",
        ]

    def fragment(self, command: str) -> str:
        """The file table.md of an experiment's folder."""
        e, scale = self.experiment, self.experiment.at(self.size)
        budget = f", cut to {self.steps} steps" if self.steps else ""
        parts = [
            f"### {e.name}",
            f"{e.figure} of {e.paper}: {e.about}.",
            *([e.note] if e.note else []),
            f"`{command}` ({scale.extent}{budget}; on {scale.data}). {e.measure.heading}",
            self.table().markdown().rstrip(),
            *self.notes(),
        ]
        return "\n\n".join(parts) + "\n"
