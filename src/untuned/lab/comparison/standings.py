"""Standings: the result of each contestant on each problem, beside the reference."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from untuned.lab.comparison.contestants import REFERENCE, Candidate, Contestant, contestant_of
from untuned.lab.comparison.measure import (
    mean,
    mean_curve,
    step_reduction,
    steps_to,
    time_reduction,
)
from untuned.lab.comparison.plan import Comparison, Problem, Tuning, tuning
from untuned.lab.comparison.step_times import StepTime, TimeKey, Turns
from untuned.lab.comparison.trials import LOSS, Trial, TrialKey
from untuned.lab.workloads.registry import find


@dataclass(frozen=True)
class Standing:
    """The result of a contestant on a problem; NaN for what is not known yet."""

    contestant: Contestant
    problem: Problem
    chosen: Candidate | None  # None while it is being tuned
    tried: list[Trial]  # ended trials of its grid
    trials: list[Trial]  # ended trials of the fresh seeds
    trainings: int  # needed for one good one: its grid and that one
    steps: float  # to the reference's final loss; infinite for never
    reduction: float  # the reference's steps over these
    loss: float  # final, on validation data
    gap: float  # of that loss to the reference's
    ms: float  # a training step
    ratio: float  # of that to the reference's
    time_reduction: float  # the reference's seconds over its own, to the reference's final loss

    @property
    def trained(self) -> list[Trial]:
        return [*self.tried, *self.trials]

    @property
    def search_seconds(self) -> float:
        """Of training all of its grid; 0 without one."""
        steps = sum(trial.stopped_at for trial in self.tried)
        return steps * self.ms / 1e3 if steps else 0.0

    def mean(self, name: str) -> float:
        """Mean of a field, or of the end of a curve's column, over the seeds that are done."""
        done = [trial for trial in self.trials if trial.status == "done"]
        values = [getattr(trial, name, trial.last(name)) for trial in done]
        return math.fsum(values) / len(values) if values else math.nan

    def count(self, status: str) -> int:
        """How many seeds have a status."""
        return sum(trial.status == status for trial in self.trials)


def standings(
    comparison: Comparison,
    trials: Mapping[TrialKey, Trial],
    times: Mapping[TimeKey, StepTime],
) -> list[Standing]:
    """Of every contestant with a trial on a problem, problem by problem.

    Args:
        comparison: contestants and problems.
        trials: all that have ended.
        times: of a step, as far as they are measured.
    """
    found = []
    for problem in comparison.problems:
        best = tuning(_reference_of(comparison), problem, trials)
        reference = _Reference.of(_ended(best.fresh(comparison.seeds), trials), best, times)
        for contestant in comparison.contestants:
            tuned = tuning(contestant, problem, trials)
            tried = _ended(tuned.tried, trials)
            ended = _ended(tuned.fresh(comparison.seeds), trials)
            if ended or tried:
                numbers = reference.beside(ended, _time_of(tuned, times))
                trainings = len(tuned.tried) + 1
                found.append(
                    Standing(contestant, problem, tuned.chosen, tried, ended, trainings, **numbers)
                )
    return found


class _Reference(NamedTuple):
    """What the reference reached on a problem."""

    loss: float  # final
    steps: float  # to that loss
    timed: bool  # whether its step is

    @classmethod
    def of(
        cls, ended: Sequence[Trial], tuned: Tuning, times: Mapping[TimeKey, StepTime]
    ) -> _Reference:
        loss = _final(ended)
        steps = steps_to(loss, mean_curve([trial.loss for trial in ended]))
        return cls(loss, steps, _time_of(tuned, times) is not None)

    def beside(self, ended: Sequence[Trial], time: StepTime | None) -> dict[str, float]:
        """The numbers of a standing, from its fresh seeds and the time of its step."""
        nan, loss = math.nan, _final(ended)
        steps = steps_to(self.loss, mean_curve([trial.loss for trial in ended])) if ended else nan
        reduction = step_reduction(self.steps, steps)
        ratio = time.ratio if time else nan
        return {
            "steps": steps, "reduction": reduction, "loss": loss,
            "gap": loss - self.loss if math.isfinite(self.loss) else nan,
            "ms": time.ms if time else nan, "ratio": ratio,
            "time_reduction": time_reduction(reduction, ratio) if self.timed else nan,
        }  # fmt: skip


def untimed(
    comparison: Comparison,
    trials: Mapping[TrialKey, Trial],
    times: Mapping[TimeKey, StepTime],
) -> list[Turns]:
    """On each problem whose reference is tuned: who is to be timed yet, beside the reference.

    Args:
        comparison: contestants and problems.
        trials: all that have ended.
        times: those that are measured.
    """
    done = {key[:3] for key, trial in trials.items() if trial.status == "done"}
    found = []
    for problem in comparison.problems:
        keys = [
            _time_key(tuning(contestant, problem, trials))
            for contestant in (_reference_of(comparison), *comparison.contestants)
        ]
        missing = [key for key in keys if key in done and key not in times]
        if keys[0] and missing:
            texts = dict.fromkeys(key.optimizer for key in (keys[0], *missing) if key)
            found.append(Turns(problem.workload, problem.size, tuple(texts)))
    return found


def halves(standings: Sequence[Standing]) -> dict[str, list[Standing]]:
    """Standings on workloads for development and on held-out ones, by title; no empty half."""
    held_out = [find(standing.problem.workload).held_out for standing in standings]
    return {
        title: half
        for title, which in (("Development", False), ("Held out", True))
        if (half := [s for s, out in zip(standings, held_out, strict=True) if out is which])
    }


def _reference_of(comparison: Comparison) -> Contestant:
    """The reference with the grid that it has among the contestants, if it is one."""
    named = (each for each in comparison.contestants if each.name == REFERENCE)
    return next(named, contestant_of(REFERENCE))


def _ended(keys: list[TrialKey] | None, trials: Mapping[TrialKey, Trial]) -> list[Trial]:
    return [trials[key] for key in keys or [] if key in trials]


def _time_key(tuned: Tuning) -> TimeKey | None:
    problem, chosen = tuned.problem, tuned.chosen
    return TimeKey(problem.workload, problem.size, chosen.optimizer) if chosen else None


def _time_of(tuned: Tuning, times: Mapping[TimeKey, StepTime]) -> StepTime | None:
    key = _time_key(tuned)
    return times.get(key) if key else None


def _final(ended: Sequence[Trial]) -> float:
    return mean([trial.last(LOSS) for trial in ended]) if ended else math.nan
