"""AdaGrad: rates that fall with what each coordinate has seen.

Duchi, Hazan, Singer (2011), "Adaptive Subgradient Methods for Online Learning and Stochastic
Optimization", JMLR 12, diagonal form:

    v <- v + g^2
    w <- w - lr g / sqrt(v + eps)

Legend: g = gradient; v = sum of squared gradients, which starts at 0.1; eps = 1e-10.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from untuned.charts import IDENTITY, Chart
from untuned.domain import NON_NEGATIVE, hyperparameter
from untuned.elementwise import Elementwise, Move
from untuned.rule import State

INITIAL = 0.1
_EPS = 1e-10


@dataclass(frozen=True)
class AdaGrad(Elementwise):
    """AdaGrad, with a sum that starts where it makes the first steps modest."""

    lr: float = hyperparameter(0.01, NON_NEGATIVE)

    def init(self, weight: Tensor) -> State:
        return {"v": torch.full_like(weight, INITIAL)}

    def update(self, grad: Tensor, state: State) -> Move:
        v = state["v"] + grad.square()
        return Move(-self.lr, grad * torch.rsqrt(v + _EPS), {"v": v})

    def as_published(self) -> AdaGrad:
        return PublishedAdaGrad(self.lr)


@dataclass(frozen=True)
class PublishedAdaGrad(AdaGrad):
    """`AdaGrad` on the chart of arXiv:1909.13371."""

    charts: ClassVar[Mapping[str, Chart] | None] = {"lr": IDENTITY}
