"""Charts: how an unbounded raw number becomes a hyperparameter, written once.

A tower moves raw numbers, wherever they like; a chart maps them into the hyperparameter's domain.
Ours (exponential, logistic) make a step on the raw number a *relative* change of a rate, or of the
odds of a decay, so that what a floor does has no unit. Those of arXiv:1909.13371 (identity, square,
and the hyperbolic tangent brought to the unit interval) are what its authors' code walks on.

Ours also bound what one step can do, which the paper lacks: no raw number moves by more than
`reach` = log 2 in a step (a rate at most doubles or halves: the trust ratio), nor beyond `low` and
`high`, where 32 bits could no longer tell the hyperparameter from the edge of its domain.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from untuned.domain import Interval

DOUBLING = math.log(2)


@dataclass(frozen=True)
class Chart:
    """A monotone map (a bijector) from raw numbers to hyperparameters, and its inverse.

    Args:
        value: raw numbers -> hyperparameters, element by element.
        raw: hyperparameter -> raw number.
        reach: the largest change of a raw number in one step.
        low: the least raw number.
        high: the greatest raw number.
    """

    value: Callable[[Tensor], Tensor]
    raw: Callable[[float], float]
    reach: float = math.inf
    low: float = -math.inf
    high: float = math.inf

    def step(self, before: Tensor, after: Tensor) -> Tensor:
        """The new raw number: `after`, within `reach` of `before` and within the bounds.

        Args:
            before: the raw number before the step.
            after: where the step would take it; NaN: the step is not taken.
        """
        if self.reach == math.inf:
            return after
        trusted = before + (after - before).clamp(-self.reach, self.reach)
        # one that starts beyond the bounds may stay there, and come back
        low, high = before.clamp(max=self.low), before.clamp(min=self.high)
        return torch.where(after.isnan(), before, trusted.maximum(low).minimum(high))


def _same(number: float) -> float:
    return number


def _logit(number: float) -> float:
    return math.log(number / (1 - number))


def _half_tanh(raw: Tensor) -> Tensor:
    return (torch.tanh(raw) + 1) / 2


def _half_atanh(number: float) -> float:
    return math.atanh(2 * number - 1)


EXPONENTIAL = Chart(torch.exp, math.log, reach=DOUBLING, low=-80.0, high=80.0)
LOGISTIC = Chart(torch.sigmoid, _logit, reach=DOUBLING, low=-16.0, high=16.0)
IDENTITY = Chart(torch.clone, _same)
SQUARE = Chart(torch.square, math.sqrt)
HALF_TANH = Chart(_half_tanh, _half_atanh)


def chart_of(domain: Interval) -> Chart:
    """Our chart of a domain: logistic for the unit interval, exponential for the half-line."""
    return LOGISTIC if math.isfinite(domain.high) else EXPONENTIAL
