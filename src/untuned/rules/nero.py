"""Nero: the neuronal rotator.

Liu, Bernstein, Meister, Yue (2021), "Learning by Turning: Neural Architecture Aware
Optimisation", arXiv:2102.07227, algorithm 1. For each neuron, with w its incoming weights:

    v <- beta v + (1 - beta) ||g||^2
    w <- w - lr * scale * g / sqrt(v / (1 - beta^t))
    w <- w - mean(w),   w <- w / ||w||

Legend: g = the gradient of w; t = steps so far; scale = the mean norm of the tensor's neurons
before the first step, or 0.01 where that is zero. So a weight's neuron, whose norm is one, turns
by an angle of about lr. An entry of a bias or of a gain is a neuron of its own: it moves by about
lr times its tensor's initial magnitude, and is never projected.

State: one number a neuron, the square root of what Adam keeps for a square matrix.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from untuned.blockwise import Blockwise, ByShape, Leaves, Projection, Step
from untuned.domain import NON_NEGATIVE, UNIT, hyperparameter
from untuned.geometry.block_vector import BlockVector, View, neurons
from untuned.rule import State

SCALE_OF_ZERO = 0.01  # the paper's choice for tensors that start at zero, such as biases


def moments(weight: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The sum and the sum of squares over each neuron, (*stack).

    Args:
        weight: viewed with its neurons as dimensions of their own.
        dims: the dimensions that a neuron spans; they become 1.
    """
    norm = torch.linalg.vector_norm(weight, dim=dims, keepdim=True)
    return weight.sum(dims, keepdim=True), norm.square_()


def rounding(sums: Sequence[Tensor], entries: int, eps: float) -> float:
    """The rounding error of norms of neurons: of entries, and of long sums, as of a random walk.

    Args:
        sums: `moments`, in the dtype of the sums.
        entries: of each neuron.
        eps: the relative rounding error of the weights' dtype.
    """
    return 8 * eps + math.sqrt(entries) / 4 * torch.finfo(sums[0].dtype).eps


def _unbalanced(sums: Sequence[Tensor], entries: int, eps: float) -> Tensor:
    """Which neurons, (*stack), are further from zero mean and unit norm than `rounding` says."""
    total, squares = sums
    within = rounding(sums, entries, eps)
    return ((squares - 1).abs() > within).logical_or_(total.abs() > within * math.sqrt(entries))


def balance_(weight: Tensor, sums: Sequence[Tensor], entries: int, moved: Tensor | None) -> None:
    """Give neurons zero mean and unit norm, in place.

    A dead neuron stays dead. Where the mean is far larger than the deviations from it, the norm is
    inexact: a second call, with the mean at zero, makes it exact.

    Args:
        weight, sums, entries: as of `moments` and `rounding`.
        moved: which neurons to project, (*stack); None: all.
    """
    total, squares = sums
    mean = total / entries
    info = torch.finfo(weight.dtype)
    least = (info.eps * squares).clamp_min_(info.tiny)
    square = torch.addcmul(squares, total, mean, value=-1)  # about the mean
    inverse = square.maximum(least).rsqrt_()
    weight.sub_(mean if moved is None else mean * moved)
    weight.mul_(inverse if moved is None else torch.where(moved, inverse, 1.0))


@dataclass(frozen=True)
class FreeNero(Blockwise):
    """Nero without its constraint: steps relative to each neuron, weights unconstrained.

    Args:
        lr: the learning rate, about the angle by which a neuron turns in a step, in [0, inf).
        beta: the decay of the mean square gradient of a neuron, in [0, 1).
    """

    lr: float = hyperparameter(0.01, NON_NEGATIVE)
    beta: float = hyperparameter(0.999, UNIT)

    view: ClassVar[View] = staticmethod(neurons)

    def init(self, blocks: BlockVector, norms: Tensor) -> list[State]:
        scales = blocks.mean(norms)
        scales = torch.where(scales > 0, scales, SCALE_OF_ZERO)
        v = blocks.spread(torch.zeros_like(norms))
        return [
            {"step": torch.zeros_like(scale), "v": mean.clone(), "scale": scale.clone()}
            for scale, mean in zip(scales, v, strict=True)
        ]

    def update(self, leaves: Leaves, eta: Tensor | float, L: Tensor | int) -> Step:
        blocks, grads, sizes, states, *_ = leaves
        owner = blocks.owner(sizes.device)
        step = torch.stack([state["step"] for state in states]).to(sizes) + 1
        scale = torch.stack([state["scale"] for state in states]).to(sizes)
        v = blocks.gather([state["v"] for state in states]).to(sizes)
        v = self.beta * v + (1 - self.beta) * sizes**2
        # a dead neuron stays where it is, and its root must not be differentiated
        size = torch.sqrt(torch.where(v > 0, v, 1.0) / (1 - self.beta ** step[owner]))
        coefficients = torch.where(v > 0, -eta * scale[owner] / size, 0.0)
        kept = zip(step, blocks.spread(v), strict=True)
        return Step(coefficients, grads, [{"step": t, "v": v} for t, v in kept])

    def as_published(self) -> FreeNero:
        """The authors' code: neurons are the first dimension of every tensor of two or more."""
        return PublishedFreeNero(self.lr, self.beta)


@dataclass(frozen=True)
class Nero(FreeNero):
    """Nero: each neuron's weights turn on the sphere of zero mean and unit norm.

    An optimizer projects weights onto it as soon as they are added.

    Args:
        lr: as of `FreeNero`.
        beta: as of `FreeNero`.
    """

    projection: ClassVar[Projection | None] = Projection(moments, _unbalanced, balance_)

    def as_published(self) -> Nero:
        return PublishedNero(self.lr, self.beta)


@dataclass(frozen=True)
class PublishedFreeNero(ByShape, FreeNero):
    """`FreeNero` with neurons by shape."""


@dataclass(frozen=True)
class PublishedNero(ByShape, Nero):
    """`Nero` with neurons by shape."""
