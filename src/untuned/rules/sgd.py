"""SGD: gradient descent, with heavy-ball momentum if asked for.

Robbins, Monro (1951), "A Stochastic Approximation Method"; momentum after Polyak (1964). As in
`torch.optim.SGD`, without dampening:

    m <- momentum m + g
    w <- w - lr m

Legend: g = gradient; m = the buffer of momentum, which starts at zero; without momentum m is g.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from untuned.charts import IDENTITY, Chart
from untuned.domain import NON_NEGATIVE, UNIT, hyperparameter
from untuned.elementwise import Elementwise, Move
from untuned.rule import State


@dataclass(frozen=True)
class SGD(Elementwise):
    """Gradient descent.

    Args:
        lr: the learning rate, in [0, inf).
        momentum: in [0, 1). With 0 there is no momentum: no state, and nothing to tune.
    """

    lr: float = hyperparameter(0.01, NON_NEGATIVE)
    momentum: float = hyperparameter(0.0, UNIT)

    def init(self, weight: Tensor) -> State:
        some = isinstance(self.momentum, Tensor) or self.momentum > 0
        return {"m": torch.zeros_like(weight)} if some else {}

    def update(self, grad: Tensor, state: State) -> Move:
        if "m" not in state:
            return Move(-self.lr, grad)
        m = self.momentum * state["m"] + grad
        return Move(-self.lr, m, {"m": m})

    def as_published(self) -> SGD:
        return PublishedSGD(self.lr, self.momentum)


@dataclass(frozen=True)
class PublishedSGD(SGD):
    """`SGD` on the charts of arXiv:1909.13371."""

    charts: ClassVar[Mapping[str, Chart] | None] = {"lr": IDENTITY, "momentum": IDENTITY}
