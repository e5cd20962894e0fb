"""Adam: means of the gradient and of its square.

Kingma, Ba (2015), "Adam: A Method for Stochastic Optimization", arXiv:1412.6980, algorithm 1:

    m <- beta1 m + (1 - beta1) g              n1 <- beta1 n1 + (1 - beta1)
    v <- beta2 v + (1 - beta2) g^2            n2 <- beta2 n2 + (1 - beta2)
    w <- w - lr (m / n1) / (sqrt(v / n2) + eps)

Legend: g = gradient; m, v = its first and second moment, which start at zero; n1, n2 = the same
means, taken of ones: with constant betas they are the paper's bias corrections 1 - beta^t, and
they remain right when a tower or a schedule moves the betas.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from untuned.charts import HALF_TANH, IDENTITY, Chart
from untuned.domain import NON_NEGATIVE, POSITIVE, UNIT, hyperparameter
from untuned.elementwise import Elementwise, Move
from untuned.rule import State

# Keeps the derivative of the root finite where no gradient has ever been: about the least that 32
# bits hold, and enough for one over the square of its root to be held, too
TINY = 2e-38


@dataclass(frozen=True)
class Adam(Elementwise):
    """Adam. Its hyperparameters are `lr`, `beta1`, `beta2` and `eps`.

    Args:
        lr: the learning rate, in [0, inf).
        betas: beta1 and beta2, the decays of the mean gradient and mean square, in [0, 1).
        eps: added to the root mean square, in (0, inf).
    """

    lr: float = hyperparameter(1e-3, NON_NEGATIVE)
    betas: tuple[float, float] = hyperparameter((0.9, 0.999), UNIT, names=("beta1", "beta2"))
    eps: float = hyperparameter(1e-8, POSITIVE)

    def init(self, weight: Tensor) -> State:
        zero = weight.new_zeros(())
        moments = {"m": torch.zeros_like(weight), "v": torch.zeros_like(weight)}
        return {**moments, "n1": zero, "n2": zero.clone()}

    def update(self, grad: Tensor, state: State) -> Move:
        beta1, beta2 = self.betas
        # lerp is a pull towards the new value: exact where 1 - beta is small
        one = torch.ones_like(state["n1"])
        m = torch.lerp(state["m"], grad, 1 - beta1)
        v = torch.lerp(state["v"], grad.square(), 1 - beta2)
        n1 = torch.lerp(state["n1"], one, 1 - beta1)
        n2 = torch.lerp(state["n2"], one, 1 - beta2)
        # both sides of the fraction times sqrt(n2): what is one number for all stays outside
        root = torch.sqrt(n2)
        direction = m / (torch.sqrt(v + TINY) + self.eps * root)
        return Move(-self.lr * root / n1, direction, {"m": m, "v": v, "n1": n1, "n2": n2})

    def as_published(self) -> Adam:
        return PublishedAdam(self.lr, self.betas, self.eps)


@dataclass(frozen=True)
class PublishedAdam(Adam):
    """Adam as the authors of arXiv:1909.13371 wrote it.

    The second moment starts at eps; bias corrections are powers of the betas of the moment; eps is
    not tuned; betas move on a scaled tanh, the rate as it is.
    """

    charts: ClassVar[Mapping[str, Chart] | None] = {
        "lr": IDENTITY,
        "beta1": HALF_TANH,
        "beta2": HALF_TANH,
    }

    def init(self, weight: Tensor) -> State:
        v = torch.zeros_like(weight) + self.eps
        return {"m": torch.zeros_like(weight), "v": v, "t": weight.new_zeros(())}

    def update(self, grad: Tensor, state: State) -> Move:
        beta1, beta2 = self.betas
        t = state["t"] + 1
        m = beta1 * state["m"] + (1 - beta1) * grad
        v = beta2 * state["v"] + (1 - beta2) * grad.square()
        direction = (m / (1 - beta1**t)) / (torch.sqrt(v / (1 - beta2**t)) + self.eps)
        return Move(-self.lr, direction, {"m": m, "v": v, "t": t})
