"""How steps run: the one place where gradients are read off parameters and weights are written."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch
from torch import Tensor

from untuned.frame import Frame
from untuned.rule import Step


def is_sharded(tensor: Tensor) -> bool:
    """Whether a tensor is a DTensor, without the half second that importing the class costs."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def reduce(measures: Sequence[Tensor]) -> list[Tensor]:
    """The measures of the whole tensors, given those of each rank's shards: one collective."""
    if not any(map(is_sharded, measures)):
        return list(measures)
    everything = torch.cat(list(measures)).full_tensor()  # type: ignore[attr-defined]
    return list(everything.split([len(measure) for measure in measures]))


def write_(weights: Sequence[Tensor], step: Step, frame: Frame, finite: bool | Tensor) -> None:
    """Add the step to the weights, in place, if `finite` (0-d); else leave them be."""
    coefficients, directions = step
    if isinstance(finite, Tensor):  # only the device knows: step by nothing where it says no
        coefficients = torch.where(finite, coefficients, 0.0)
        directions = [torch.where(finite, direction, 0.0) for direction in directions]
    torch._foreach_addcmul_(
        frame.views(weights), frame.views(directions), frame.spread(coefficients)
    )
