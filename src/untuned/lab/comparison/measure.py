r"""What is measured when optimizers are compared: pure functions of loss curves.

**Step reduction.** On workload w let c(s) be a contestant's validation loss after s steps, averaged
over its seeds, and c*(s) = min over s' <= s of c(s') its best so far; between two evaluations c* is
joined by a straight line. The target T is the mean final validation loss of the reference, AdamW
with a tuned learning rate. A contestant has needed

    S = min {s : c*(s) <= T}        (infinite where c* stays above T within the budget)

steps, and its reduction is S(reference) / S(contestant): 2 is half the steps, 0 is never. The
reference goes through the same formula, so against itself it has exactly 1, and it may have needed
fewer steps than its budget where its loss rose at the end. Losses are averaged over seeds before
anything is looked for in them: of single seeds about half would miss their own mean. A seed that
diverged has infinite loss from there on, and so has the mean: a method that may diverge cannot be
left alone. What single seeds needed is a spread to show beside S, not the measure.

**Seconds.** With t the time of a training step, measured apart (`step_times`), a contestant has
needed S t, and its time reduction is the step reduction over t(contestant) / t(reference). Its
search has taken t times the steps of all trials of its grid.

**Summary.** The geometric mean over workloads, 2 and 1/2 being as far from 1: over the workloads
where the target was reached, with how often it was not; and over all, with a failure as 0.05 (a
twentieth of the reference's pace), since the former alone flatters who fails on what is hard.

**Performance profile** (Dolan and More, Math. Program. 91, 2002). With r(w, o) = S(w, o) over the
least S of all contestants on w, the profile of o is rho(tau) = the share of workloads with
r(w, o) <= tau. At tau = 1 it says how often o was fastest; to the right, how often it gets there.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

FAILURE = 0.05  # the reduction of a workload where the target was never reached


class Curve(NamedTuple):
    """A loss at increasing numbers of steps; values that are not finite count as infinite."""

    steps: Sequence[float]
    losses: Sequence[float]


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """The mean over seeds, infinite where a seed has stopped; empty without seeds."""
    seeds = [dict(zip(*curve, strict=True)) for curve in curves]
    steps = sorted(set().union(*seeds))
    return Curve(steps, [mean([seed.get(step, math.inf) for seed in seeds]) for step in steps])


def mean(losses: Sequence[float]) -> float:
    """The mean; infinite if one value is not finite."""
    total = math.fsum(losses) / len(losses) if all(map(math.isfinite, losses)) else math.inf
    return total if math.isfinite(total) else math.inf


def steps_to(target: float, curve: Curve) -> float:
    """Steps until the best loss so far reaches a target; at least 1, infinite if never.

    Args:
        target: a loss.
        curve: losses over the steps.
    """
    losses: Array = np.asarray(curve.losses, dtype=float)
    best = np.minimum.accumulate(np.where(np.isfinite(losses), losses, math.inf))
    reached = np.flatnonzero(best <= target)
    if not len(reached) or not math.isfinite(target):
        return math.inf
    i = int(reached[0])
    step = float(curve.steps[i])
    if i and math.isfinite(best[i - 1]):
        share = (best[i - 1] - target) / (best[i - 1] - best[i])
        step = curve.steps[i - 1] + float(share) * (step - curve.steps[i - 1])
    return max(step, 1.0)


def step_reduction(reference: float, steps: float) -> float:
    """The reference's steps over a contestant's: 0 for never, NaN without a reference.

    Args:
        reference: steps of the reference.
        steps: steps of the contestant.
    """
    return reference / steps if math.isfinite(reference) else math.nan


def time_reduction(reduction: float, ratio: float) -> float:
    """The reference's seconds over a contestant's: 0 for never, NaN if a step is not timed.

    Args:
        reduction: of the steps.
        ratio: time of a contestant's step over the reference's.
    """
    return 0.0 if reduction == 0 else reduction / ratio


class Summary(NamedTuple):
    """A contestant's reductions over all workloads."""

    successes: float  # geometric mean where the target was reached; NaN if nowhere
    overall: float  # the same over all, failures as `FAILURE`; NaN of no workload
    failures: int
    workloads: int


def summary(reductions: Sequence[float]) -> Summary:
    """Summarise reductions; NaN, a workload without a reference, does not count."""
    counted = [r for r in reductions if not math.isnan(r)]
    reached = [r for r in counted if r > 0]
    return Summary(
        geometric_mean(reached),
        geometric_mean([r or FAILURE for r in counted]),
        len(counted) - len(reached),
        len(counted),
    )


def geometric_mean(values: Sequence[float]) -> float:
    """The geometric mean of positive numbers; NaN if there are none."""
    logs = [math.log(value) for value in values]
    return math.exp(math.fsum(logs) / len(logs)) if logs else math.nan


def performance_profile(steps: Mapping[str, Sequence[float]]) -> dict[str, Curve]:
    """From each contestant's steps on the workloads, in one order, to its rho at every jump.

    A workload that no contestant finished stays in the denominator.
    """
    table: Array = np.array(list(steps.values()), dtype=float)  # (contestants, workloads)
    least = table.min(axis=0)
    with np.errstate(invalid="ignore"):  # inf / inf: not finished
        ratios = np.where(np.isfinite(table), table / least, math.inf)
    taus = np.unique(np.append(ratios[np.isfinite(ratios)], 1.0))
    shares = (ratios[:, None, :] <= taus[:, None]).mean(axis=2)  # (contestants, taus)
    return {
        name: Curve(taus.tolist(), share.tolist())
        for name, share in zip(steps, shares, strict=True)
    }
