"""The time of a training step, measured apart from trainings, and the file times.jsonl.

On each workload all contestants train in one process, on one core, and take turns: a turn is a
round of steps, each whole (batch, forward, backward, step), and all have the same batches. Each
step of a round counts with the least time that it took in any round, since other programs only add
to it; their mean is the time of a step. Seconds are the processor's, or a GPU's by the clock.

Auto has taken its last look at the data before the rounds begin. Up to `MOST` of its matrices then
take turns, so a round is a whole number of cycles, whatever their length.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.optim import Optimizer

from untuned.inference.turns import MOST
from untuned.lab.comparison.lines import Lines
from untuned.lab.comparison.trials import rounded
from untuned.lab.config import Config
from untuned.rules.auto import PATIENCE

ROUND = math.lcm(*range(1, MOST + 1))  # steps
SETTLED = PATIENCE + MOST  # steps, at the least, before the rounds that count
ROUNDS = 20  # at the most
ENOUGH = 4  # rounds, after which the time may be up
SECONDS = 3.0  # of all contestants' rounds
FRESH_SEED = 1  # of one of the compared trainings


class TimeKey(NamedTuple):
    """Whose step is timed, on what."""

    workload: str
    size: str
    optimizer: str


class Turns(NamedTuple):
    """Optimizers, as text, that take turns on a workload; the first is the reference."""

    workload: str
    size: str
    optimizers: tuple[str, ...]


@dataclass(frozen=True)
class StepTime:
    """The time of a training step."""

    key: TimeKey
    ms: float
    ratio: float  # to the reference
    rounds: int = 0  # how many were timed
    versions: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, line: Mapping[str, Any]) -> StepTime:
        """From a line of the file."""
        fields = dict(line)
        key = TimeKey(*(fields.pop(name) for name in TimeKey._fields))
        return cls(key, **fields)

    def line(self) -> str:
        """One line of JSON."""
        fields = {name: value for name, value in asdict(self).items() if name != "key"}
        fields |= {"ms": rounded(self.ms), "ratio": rounded(self.ratio)}
        line = {**self.key._asdict(), **fields}
        return json.dumps(line, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


class StepTimes(Lines[TimeKey, StepTime]):
    """All times of a file, by key; of equal keys the last counts.

    Args:
        path: of the file.

    Raises:
        ValueError: a whole line that is no time.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, StepTime.of, "time")


def time_steps(turns: Turns) -> list[StepTime]:
    """Measure in this process, whose number of threads stays as it is.

    Args:
        turns: who takes turns, and on what.

    Returns:
        The times, in the order of the optimizers.
    """
    from untuned.lab.training.footprint import versions

    keys = [TimeKey(turns.workload, turns.size, text) for text in turns.optimizers]
    trainees = [_Trainee(key) for key in keys]
    for trainee in trainees:
        trainee.warm_up()
    rounds: list[list[list[float]]] = []  # seconds, by round, trainee and step
    until = time.perf_counter() + SECONDS
    while len(rounds) < ENOUGH or (len(rounds) < ROUNDS and time.perf_counter() < until):
        rounds.append([trainee.round() for trainee in trainees])
    seconds = [_undisturbed(own) for own in zip(*rounds, strict=True)]
    return [
        StepTime(key, 1e3 * own, own / seconds[0], len(rounds), versions())
        for key, own in zip(keys, seconds, strict=True)
    ]


def _undisturbed(rounds: Sequence[Sequence[float]]) -> float:
    """The mean over the steps of a round, each at its least in any round."""
    return statistics.fmean(min(times) for times in zip(*rounds, strict=True))


class _Trainee:
    """A contestant's training on a workload."""

    def __init__(self, key: TimeKey) -> None:
        from untuned.lab.training.run import TrainingRun  # slow to import

        run = TrainingRun(Config(**key._asdict(), seed=FRESH_SEED), lambda *_: None)
        _fuse(run.optimizer)
        run.mode("train")
        self._learner, self._step = run.learner, 0

    def warm_up(self) -> None:
        """Take steps that do not count."""
        while self._step < SETTLED:
            self.round()

    def round(self) -> list[float]:
        """Take the steps of a round; seconds of each (their mean, where some are taken at once)."""
        stride, times = self._learner.stride, []
        for _ in range(math.lcm(ROUND, stride) // stride):
            began = self._now()
            self._learner.advance(self._step)
            times.append((self._now() - began) / stride)
            self._step += stride
        return times

    def _now(self) -> float:
        device = next(self._learner.model.parameters()).device
        if device.type != "cuda":
            return time.process_time()
        torch.cuda.synchronize(device)
        return time.perf_counter()


def _fuse(optimizer: Optimizer) -> None:
    """Let torch's optimizers take the fused step, its fastest: the same update."""
    for group in optimizer.param_groups:
        if group.get("fused", False) is None and not group.get("foreach"):
            group["fused"] = True
