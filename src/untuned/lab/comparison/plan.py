"""The plan: which trials a comparison still needs, as a function of those that have ended.

A tuned contestant first trains its whole grid on seed 0; the candidate with the least final
validation loss wins, and divergence or failure counts as infinite loss. Where the best learning
rate is at an end of the grid, half a decade is added beyond, up to three times, so that a baseline
never loses by the choice of its grid. The winner, or the only candidate, then trains on the fresh
seeds 1, 2, 3, which alone are compared.

The plan is computed again whenever a trial has ended: no trial waits for a round to end, and an
interrupted comparison resumes by its plan.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from untuned.lab.comparison.contestants import Candidate, Contestant, contestant_of
from untuned.lab.comparison.trials import LOSS, Trial, TrialKey

TUNING_SEED = 0
EXTENSIONS = 3
FILE = "compare.json"

Ended = Mapping[TrialKey, Trial]


@dataclass(frozen=True)
class Problem:
    """A workload at a size, for a number of steps."""

    workload: str
    size: str
    steps: int

    def key(self, candidate: Candidate, seed: int) -> TrialKey:
        """The trial of a candidate.

        Args:
            candidate: to train.
            seed: of the training.
        """
        return TrialKey(self.workload, self.size, *candidate, seed, self.steps)


@dataclass(frozen=True)
class Tuning:
    """The state of a contestant's grid on a problem."""

    problem: Problem
    tried: list[TrialKey]  # all trials of the grid
    missing: list[TrialKey]  # those that have not ended
    chosen: Candidate | None  # the winner, once nothing is missing

    def fresh(self, seeds: int) -> list[TrialKey] | None:
        """The trials that are compared; None while the contestant is being tuned."""
        if self.chosen is None:
            return None
        return [self.problem.key(self.chosen, TUNING_SEED + 1 + seed) for seed in range(seeds)]


def tuning(contestant: Contestant, problem: Problem, ended: Ended) -> Tuning:
    """The grid, extended as far as needed, and its winner.

    Args:
        contestant: tuned or not.
        problem: to tune it on.
        ended: all trials that have ended.
    """
    if not contestant.tuned:
        (only,) = contestant.candidates(0, -1)
        return Tuning(problem, [], [], only)
    low, high = contestant.low, contestant.high
    for _ in range(EXTENSIONS + 1):
        grid = contestant.candidates(low, high)
        keys = {candidate: problem.key(candidate, TUNING_SEED) for candidate in grid}
        missing = [key for key in keys.values() if key not in ended]
        if missing:
            return Tuning(problem, list(keys.values()), missing, None)
        best = min(grid, key=lambda candidate: ended[keys[candidate]].last(LOSS))
        where = grid.index(best) // len(contestant.schedules)
        if 0 < where < high - low:
            break
        low, high = (low - 1, high) if where == 0 else (low, high + 1)
    return Tuning(problem, list(keys.values()), [], best)


@dataclass(frozen=True)
class Comparison:
    """Contestants on problems."""

    contestants: list[Contestant]  # to compare
    problems: list[Problem]  # to compare them on
    seeds: int  # how many fresh ones
    command: str = ""  # that started the comparison

    def save(self, folder: Path) -> None:
        """Write compare.json beside the trials, from which `untuned report` draws."""
        folder.mkdir(parents=True, exist_ok=True)
        names = [contestant.name for contestant in self.contestants]
        tasks = [asdict(problem) for problem in self.problems]
        rest = {"seeds": self.seeds, "command": self.command}
        saved = {"contestants": names, "tasks": tasks, **rest}
        (folder / FILE).write_text(json.dumps(saved, indent=1))

    @classmethod
    def load(cls, folder: Path) -> Comparison:
        """Read compare.json. Raises `FileNotFoundError`."""
        saved = json.loads((folder / FILE).read_text())
        problems = [Problem(**problem) for problem in saved["tasks"]]
        contestants = [contestant_of(name) for name in saved["contestants"]]
        return cls(contestants, problems, saved["seeds"], saved["command"])

    def _missing(self, ended: Ended) -> Iterator[tuple[list[TrialKey], int]]:
        """Of each contestant on each problem: missing trials, and how many follow them."""
        for problem in self.problems:
            for contestant in self.contestants:
                tuned = tuning(contestant, problem, ended)
                keys = tuned.fresh(self.seeds)
                if keys is None:
                    yield tuned.missing, self.seeds
                else:
                    yield [key for key in keys if key not in ended], 0

    def wanted(self, ended: Ended) -> list[TrialKey]:
        """The missing trials that are known, longest first.

        The length of a trial is estimated from trials of its workload; of a workload without any,
        it counts as the longest.
        """
        lengths = _seconds_per_step(ended)
        keys = dict.fromkeys(key for missing, _ in self._missing(ended) for key in missing)
        return sorted(keys, key=lambda key: -key.steps * lengths.get(key[:2], math.inf))

    def remaining(self, ended: Ended) -> int:
        """How many trials are missing if no grid has to be extended."""
        return sum(len(missing) + later for missing, later in self._missing(ended))


def _seconds_per_step(ended: Ended) -> dict[tuple[str, str], float]:
    """Means over the trials of a workload at a size that are done."""
    seen: dict[tuple[str, str], list[float]] = {}
    for key, trial in ended.items():
        if trial.status == "done":
            seen.setdefault(key[:2], []).append(trial.seconds / key.steps)
    return {problem: math.fsum(times) / len(times) for problem, times in seen.items()}
