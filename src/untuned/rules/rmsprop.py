"""RMSProp: gradients over the root of their mean square.

Tieleman, Hinton (2012), "Lecture 6.5: RMSProp", COURSERA: Neural Networks for Machine Learning:

    v <- gamma v + (1 - gamma) g^2
    w <- w - lr g / sqrt(v + eps)

Legend: g = gradient; v = mean of its square, which starts at zero; eps = 1e-8.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from untuned.charts import HALF_TANH, SQUARE, Chart
from untuned.domain import NON_NEGATIVE, UNIT, hyperparameter
from untuned.elementwise import Elementwise, Move
from untuned.rule import State

_EPS = 1e-8


@dataclass(frozen=True)
class RMSProp(Elementwise):
    """RMSProp, without bias correction.

    Args:
        lr: the learning rate, in [0, inf).
        gamma: the decay of the mean square in a step, in [0, 1).
    """

    lr: float = hyperparameter(0.01, NON_NEGATIVE)
    gamma: float = hyperparameter(0.99, UNIT)

    def init(self, weight: Tensor) -> State:
        return {"v": torch.zeros_like(weight)}

    def update(self, grad: Tensor, state: State) -> Move:
        v = state["v"] + (1 - self.gamma) * (grad.square() - state["v"])
        return Move(-self.lr, grad * torch.rsqrt(v + _EPS), {"v": v})

    def as_published(self) -> RMSProp:
        return PublishedRMSProp(self.lr, self.gamma)


@dataclass(frozen=True)
class PublishedRMSProp(RMSProp):
    """`RMSProp` on the charts of arXiv:1909.13371: the root of the rate, a scaled tanh of gamma."""

    charts: ClassVar[Mapping[str, Chart] | None] = {"lr": SQUARE, "gamma": HALF_TANH}
