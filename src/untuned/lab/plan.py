"""Which cells a comparison still wants, as a function of those that it has.

A tuned contestant first trains its whole grid on seed 0 and keeps the candidate with the least
final validation loss; one that diverged or failed counts as infinite. Where the best learning rate
is at an end of the grid, half a decade is added beyond, up to three times, so that a baseline never
loses by the choice of its grid. The winner, and whoever has nothing to choose, then trains on the
fresh seeds 1, 2, 3, which alone are compared.

The plan is asked again whenever a cell has ended, so there are no rounds to wait for, and an
interrupted comparison goes on by asking it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from untuned.lab.cells import LOSS, Cell, Key
from untuned.lab.contestants import Candidate, Contestant

TUNING_SEED = 0
EXTENSIONS = 3


@dataclass(frozen=True)
class Task:
    """A workload at a size, for a number of steps."""

    workload: str
    size: str
    steps: int

    def key(self, candidate: Candidate, seed: int) -> Key:
        """The cell that trains a candidate."""
        return Key(self.workload, self.size, *candidate, seed, self.steps)


@dataclass(frozen=True)
class Tuning:
    """How far a contestant has come on a task."""

    tried: list[Key]  # the cells of the grid
    missing: list[Key]  # those of them that have not ended
    chosen: Candidate | None  # the winner, once nothing is missing


def tuning(contestant: Contestant, task: Task, cells: Mapping[Key, Cell]) -> Tuning:
    """The grid, as far as it has to reach, and its best."""
    if not contestant.tuned:
        (only,) = contestant.candidates(0, -1)
        return Tuning([], [], only)
    low, high = contestant.low, contestant.high
    for _ in range(EXTENSIONS + 1):
        grid = contestant.candidates(low, high)
        keys = {candidate: task.key(candidate, TUNING_SEED) for candidate in grid}
        missing = [key for key in keys.values() if key not in cells]
        if missing:
            return Tuning(list(keys.values()), missing, None)
        best = min(grid, key=lambda candidate: cells[keys[candidate]].last(LOSS))
        where = grid.index(best) // len(contestant.schedules)
        if 0 < where < high - low:
            break
        low, high = (low - 1, high) if where == 0 else (low, high + 1)
    return Tuning(list(keys.values()), [], best)


def fresh(
    contestant: Contestant, task: Task, seeds: int, cells: Mapping[Key, Cell]
) -> list[Key] | None:
    """The cells that are compared; None while the contestant is being tuned."""
    chosen = tuning(contestant, task, cells).chosen
    if chosen is None:
        return None
    return [task.key(chosen, TUNING_SEED + 1 + seed) for seed in range(seeds)]


def wanted(
    contestants: Sequence[Contestant], tasks: Sequence[Task], seeds: int, cells: Mapping[Key, Cell]
) -> list[Key]:
    """The cells that are known to be needed and have not ended; longest first.

    The length of a training is guessed from those of the same workload; of one that has none yet,
    it is taken to be the longest.
    """
    keys: dict[Key, None] = {}
    for task in tasks:
        for contestant in contestants:
            compared = fresh(contestant, task, seeds, cells)
            keys |= dict.fromkeys(
                tuning(contestant, task, cells).missing if compared is None else compared
            )
    lengths = _seconds_per_step(cells)
    missing = [key for key in keys if key not in cells]
    return sorted(missing, key=lambda key: -key.steps * lengths.get(key[:2], math.inf))


def remaining(
    contestants: Sequence[Contestant], tasks: Sequence[Task], seeds: int, cells: Mapping[Key, Cell]
) -> int:
    """How many cells are still to train if no grid has to be extended."""
    count = 0
    for task in tasks:
        for contestant in contestants:
            compared = fresh(contestant, task, seeds, cells)
            if compared is None:
                count += len(tuning(contestant, task, cells).missing) + seeds
            else:
                count += sum(key not in cells for key in compared)
    return count


def _seconds_per_step(cells: Mapping[Key, Cell]) -> dict[tuple[str, str], float]:
    """Means over the cells of a workload at a size that ran to their end."""
    seen: dict[tuple[str, str], list[float]] = {}
    for key, cell in cells.items():
        if cell.status == "done":
            seen.setdefault(key[:2], []).append(cell.seconds / key.steps)
    return {task: math.fsum(times) / len(times) for task, times in seen.items()}
