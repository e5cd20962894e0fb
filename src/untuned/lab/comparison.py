"""What is compared with what, and where each contestant stands."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from untuned.lab.cells import LOSS, Cell, Key
from untuned.lab.contestants import REFERENCE, Candidate, Contestant, contestant_of
from untuned.lab.measure import mean, mean_curve, step_reduction, steps_to
from untuned.lab.plan import Task, fresh, tuning

FILE = "compare.json"


@dataclass(frozen=True)
class Comparison:
    """Contestants on tasks, for as many fresh seeds."""

    contestants: list[Contestant]
    tasks: list[Task]
    seeds: int
    command: str = ""

    def save(self, folder: Path) -> None:
        """Beside the cells, so that the page can be drawn again from the folder alone."""
        folder.mkdir(parents=True, exist_ok=True)
        names = [contestant.name for contestant in self.contestants]
        (folder / FILE).write_text(json.dumps({**asdict(self), "contestants": names}, indent=1))

    @classmethod
    def load(cls, folder: Path) -> Comparison:
        """As it was saved. Raises `FileNotFoundError`."""
        saved = json.loads((folder / FILE).read_text())
        tasks = [Task(**task) for task in saved["tasks"]]
        contestants = [contestant_of(name) for name in saved["contestants"]]
        return cls(contestants, tasks, saved["seeds"], saved["command"])


@dataclass(frozen=True)
class Standing:
    """What came of one contestant on one task; NaN where there is nothing to tell."""

    contestant: Contestant
    task: Task
    chosen: Candidate | None  # None while it is being tuned
    tried: list[Cell]  # its grid, as far as it has ended
    cells: list[Cell]  # the fresh seeds that have ended
    trainings: int  # how many it takes to have one good one: its grid and that one
    steps: float  # to the reference's final loss; infinite for never
    reduction: float
    loss: float  # final, on validation data
    gap: float  # of that loss to the reference's

    @property
    def trained(self) -> list[Cell]:
        """All that its place rests on."""
        return [*self.tried, *self.cells]

    def mean(self, name: str) -> float:
        """Of a field over the seeds that were trained to their end."""
        values = [getattr(cell, name) for cell in self.cells if cell.status == "done"]
        return math.fsum(values) / len(values) if values else math.nan

    @property
    def metric(self) -> float:
        """At the end, over the seeds that were trained to their end."""
        values = [cell.last("metric") for cell in self.cells if cell.status == "done"]
        return math.fsum(values) / len(values) if values else math.nan

    def count(self, status: str) -> int:
        """How many seeds ended so."""
        return sum(cell.status == status for cell in self.cells)


def standings(comparison: Comparison, cells: Mapping[Key, Cell]) -> list[Standing]:
    """Of every contestant on every task that it has begun, task by task."""
    found = []
    for task in comparison.tasks:
        reference = _ended(contestant_of(REFERENCE), task, comparison.seeds, cells)
        target = _final(reference)
        needed = steps_to(target, mean_curve([cell.loss for cell in reference]))
        for contestant in comparison.contestants:
            ended = _ended(contestant, task, comparison.seeds, cells)
            tuned = tuning(contestant, task, cells)
            tried = [cells[key] for key in tuned.tried if key in cells]
            if not ended and not tried:
                continue
            steps = steps_to(target, mean_curve([cell.loss for cell in ended]))
            found.append(
                Standing(
                    contestant, task, tuned.chosen, tried, ended,
                    trainings=len(tuned.tried) + 1,
                    steps=steps if ended else math.nan,
                    reduction=step_reduction(needed, steps) if ended else math.nan,
                    loss=_final(ended),
                    gap=_final(ended) - target if math.isfinite(target) else math.nan,
                )
            )  # fmt: skip
    return found


def _ended(contestant: Contestant, task: Task, seeds: int, cells: Mapping[Key, Cell]) -> list[Cell]:
    keys = fresh(contestant, task, seeds, cells) or []
    return [cells[key] for key in keys if key in cells]


def _final(ended: Sequence[Cell]) -> float:
    return mean([cell.last(LOSS) for cell in ended]) if ended else math.nan
