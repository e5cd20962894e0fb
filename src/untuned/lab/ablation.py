"""Nero with either half of its constraint left out (arXiv:2102.07227, figure 1)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

import untuned
from untuned.blockwise import Projection
from untuned.rules.nero import FreeNero, Nero, moments, rounding


def off_centre(sums: Sequence[Tensor], entries: int, eps: float) -> Tensor:
    """Which neurons have a mean."""
    return sums[0].abs() > rounding(sums, entries, eps) * math.sqrt(entries)


def centre_(weight: Tensor, sums: Sequence[Tensor], entries: int, moved: Tensor | None) -> None:
    """Take the mean out."""
    mean = sums[0] / entries
    weight.sub_(mean if moved is None else mean * moved)


def off_sphere(sums: Sequence[Tensor], entries: int, eps: float) -> Tensor:
    """Which neurons do not have norm one."""
    return (sums[1] - 1).abs() > rounding(sums, entries, eps)


def normalise_(weight: Tensor, sums: Sequence[Tensor], entries: int, moved: Tensor | None) -> None:
    """Bring the norm to one; a dead neuron stays dead."""
    inverse = sums[1].clamp_min(torch.finfo(weight.dtype).tiny).rsqrt()
    weight.mul_(inverse if moved is None else torch.where(moved, inverse, 1.0))


class Centred(FreeNero):
    """Zero mean alone."""

    projection: ClassVar[Projection | None] = Projection(moments, off_centre, centre_)


class Normalised(FreeNero):
    """Unit norm alone."""

    projection: ClassVar[Projection | None] = Projection(moments, off_sphere, normalise_)


RULES: dict[tuple[bool, bool], type[FreeNero]] = {
    (False, False): FreeNero,
    (True, False): Centred,
    (False, True): Normalised,
}


class NeroAblation(untuned.Optimizer):
    """Nero with zero mean, unit norm, both, or neither."""

    def __init__(
        self, params: nn.Module, lr: float = 0.01, *, mean: bool = True, norm: bool = True
    ) -> None:
        super().__init__(params, RULES.get((mean, norm), Nero)(), lr=lr)
