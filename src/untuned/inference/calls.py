"""One call of a layer, and the size of what it was given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from untuned.distributed.shards import local
from untuned.geometry.complex import as_real


class Call:
    """One call of a layer: mean squares of data by the weight's number, 0-d each."""

    def __init__(self, training: bool, matrices: Sequence[int] = ()) -> None:
        self.training = training
        self.matrices = matrices  # of the layer, by number
        self.squares: dict[int, Tensor] = {}
        self.rows: dict[int, int] = {}  # that matrices were applied to, by number
        self.arrived: bool = False  # whether gradients have come back

    def arrive(self, *_: Any) -> None:
        """Gradients have come back through the layer."""
        self.arrived = True


def _bare(tensor: Tensor) -> Tensor:
    """What function transforms have wrapped."""
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return tensor


def mean_square(given: Tensor) -> Tensor:
    """The mean square of all entries, 0-d, also of sharded, sparse and nested tensors.

    Of complex tensors that of real and imaginary parts.
    """
    inputs = local(_bare(given))
    entries = inputs.coalesce() if inputs.is_sparse else inputs
    if inputs.is_nested or inputs.layout != torch.strided:
        entries = entries.values()
    parts = 2 if entries.is_complex() else 1
    return as_real(entries).float().square().sum() / max(1, parts * inputs.numel())
