"""Nero without the zero mean, the unit norm, or both (arXiv:2102.07227, figure 1)."""

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

import untuned
from untuned.blockwise import Projection
from untuned.rules.nero import FreeNero, Nero, moments, rounding


def _off_centre(sums: Sequence[Tensor], entries: int, eps: float) -> Tensor:
    """Neurons whose mean is not zero."""
    return sums[0].abs() > rounding(sums, entries, eps) * math.sqrt(entries)


def _centre_(weight: Tensor, sums: Sequence[Tensor], entries: int, moved: Tensor | None) -> None:
    """Subtract the mean."""
    mean = sums[0] / entries
    weight.sub_(mean if moved is None else mean * moved)


def _off_sphere(sums: Sequence[Tensor], entries: int, eps: float) -> Tensor:
    """Neurons whose norm is not one."""
    return (sums[1] - 1).abs() > rounding(sums, entries, eps)


def _normalise_(weight: Tensor, sums: Sequence[Tensor], entries: int, moved: Tensor | None) -> None:
    """Divide by the norm; a zero neuron stays zero."""
    inverse = sums[1].clamp_min(torch.finfo(weight.dtype).tiny).rsqrt()
    weight.mul_(inverse if moved is None else torch.where(moved, inverse, 1.0))


class Centred(FreeNero):
    """Nero with zero mean alone."""

    projection: ClassVar[Projection | None] = Projection(moments, _off_centre, _centre_)


class Normalised(FreeNero):
    """Nero with unit norm alone."""

    projection: ClassVar[Projection | None] = Projection(moments, _off_sphere, _normalise_)


_RULES: dict[tuple[bool, bool], type[FreeNero]] = {
    (False, False): FreeNero,
    (True, False): Centred,
    (False, True): Normalised,
}


class NeroAblation(untuned.Optimizer):
    """Nero with zero mean, unit norm, both, or neither.

    Args:
        params: the module to train.
        lr: learning rate.
        mean: whether neurons have zero mean.
        norm: whether neurons have unit norm.
    """

    def __init__(
        self, params: nn.Module, lr: float = 0.01, *, mean: bool = True, norm: bool = True
    ) -> None:
        super().__init__(params, _RULES.get((mean, norm), Nero)(), lr=lr)
