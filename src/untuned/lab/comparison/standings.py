"""Standings: the result of each contestant on each problem, beside the reference."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from untuned.lab.comparison.contestants import REFERENCE, Candidate, Contestant, contestant_of
from untuned.lab.comparison.measure import mean, mean_curve, step_reduction, steps_to
from untuned.lab.comparison.plan import Comparison, Problem, tuning
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

    @property
    def trained(self) -> list[Trial]:
        return [*self.tried, *self.trials]

    def mean(self, name: str) -> float:
        """Mean of a field, or of the end of a curve's column, over the seeds that are done."""
        done = [trial for trial in self.trials if trial.status == "done"]
        values = [getattr(trial, name, trial.last(name)) for trial in done]
        return math.fsum(values) / len(values) if values else math.nan

    def count(self, status: str) -> int:
        """How many seeds have a status."""
        return sum(trial.status == status for trial in self.trials)


def standings(comparison: Comparison, trials: Mapping[TrialKey, Trial]) -> list[Standing]:
    """Of every contestant with a trial on a problem, problem by problem.

    Args:
        comparison: contestants and problems.
        trials: all that have ended.
    """
    found = []
    for problem in comparison.problems:
        keys = tuning(contestant_of(REFERENCE), problem, trials).fresh(comparison.seeds)
        reference = _ended(keys, trials)
        target = _final(reference)
        needed = steps_to(target, mean_curve([trial.loss for trial in reference]))
        for contestant in comparison.contestants:
            tuned = tuning(contestant, problem, trials)
            tried = _ended(tuned.tried, trials)
            ended = _ended(tuned.fresh(comparison.seeds), trials)
            if not ended and not tried:
                continue
            steps = steps_to(target, mean_curve([trial.loss for trial in ended]))
            found.append(
                Standing(
                    contestant, problem, tuned.chosen, tried, ended,
                    trainings=len(tuned.tried) + 1,
                    steps=steps if ended else math.nan,
                    reduction=step_reduction(needed, steps) if ended else math.nan,
                    loss=_final(ended),
                    gap=_final(ended) - target if math.isfinite(target) else math.nan,
                )
            )  # fmt: skip
    return found


def halves(standings: Sequence[Standing]) -> dict[str, list[Standing]]:
    """Standings on workloads for development and on held-out ones, by title; no empty half."""
    held_out = [find(standing.problem.workload).held_out for standing in standings]
    return {
        title: half
        for title, which in (("Development", False), ("Held out", True))
        if (half := [s for s, out in zip(standings, held_out, strict=True) if out is which])
    }


def _ended(keys: list[TrialKey] | None, trials: Mapping[TrialKey, Trial]) -> list[Trial]:
    return [trials[key] for key in keys or [] if key in trials]


def _final(ended: Sequence[Trial]) -> float:
    return mean([trial.last(LOSS) for trial in ended]) if ended else math.nan
