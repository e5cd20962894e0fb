"""How often matrices are orthogonalised: as often as the passes pay for it.

A matrix (m, n), m <= n, takes 5 (4 m^2 n + 2 m^3) operations, whatever the batch is; the passes
take 6 for each of its entries and each row that it is applied to. Where those of large matrices are
more than PAID of the passes', matrices take turns (`rules/auto.py`), at most MOST of them. Turns
cost deep narrow chains and very small losses some quality, and would save little time there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from untuned.geometry import by_shape
from untuned.geometry.layer import Layer
from untuned.geometry.layers import Conv
from untuned.geometry.polar import ITERATIONS
from untuned.inference.calls import Call
from untuned.inference.counted import device_of, groups_of_copies

PAID = 0.5  # of the operations of the passes
MOST = 4
WIDE = 256  # m of a matrix whose operations, not their calls, take the time


def rows_of(inputs: Tensor, layer: Layer) -> int:
    """How many rows a matrix of a geometry is applied to: examples times positions."""
    inputs = inputs.values() if inputs.is_nested else inputs
    dim = 1 if isinstance(layer, Conv) and inputs.ndim > 1 else -1
    return inputs.numel() // max(1, inputs.shape[dim]) if inputs.ndim else 0


class RowCount:
    """The most rows that each matrix was applied to in a step, by its number."""

    def __init__(self) -> None:
        self._most: dict[int, int] = {}

    def note(self, calls: Sequence[Call]) -> None:
        """Take over a step's calls, those that gradients have come back through."""
        found: dict[int, int] = {}
        for call in calls:
            for number, rows in call.rows.items() if call.arrived else ():
                found[number] = found.get(number, 0) + rows
        for number, rows in found.items():
            self._most[number] = max(rows, self._most.get(number, 0))

    def operations(self, weights: Mapping[int, Tensor], copies: Sequence[Any]) -> float:
        """Those of the passes of a step: the least of ranks that step together; 0: not known.

        Args:
            weights: the matrices, by number.
            copies: process groups of ranks that hold copies (DDP).
        """
        each = [6.0 * rows * weights[n].numel() for n, rows in self._most.items() if n in weights]
        groups = groups_of_copies(list(weights.values()), copies)
        if groups is None or not weights:
            return 0.0
        if not groups:
            return sum(each)
        least = torch.tensor(sum(each), device=device_of(list(weights.values())))
        for group in groups:
            dist.all_reduce(least, dist.ReduceOp.MIN, group=group)
        return float(least)


def turns_of(passes: float, moving: Iterable[tuple[Layer | None, Tensor]]) -> int:
    """k: how many matrices take turns; 1: all move in each step.

    Args:
        passes: the operations of the passes of a step; 0: not known.
        moving: the tensors that move, with their geometry; None: by shape.
    """
    each = [(layer, tuple(weight.shape)) for layer, weight in moving]
    duals = sum(_operations(layer or by_shape(shape), shape) for layer, shape in each)
    return min(MOST, max(1, math.ceil(duals / (PAID * passes)))) if passes else 1


def _operations(layer: Layer, shape: tuple[int, ...]) -> float:
    """Of one orthogonalisation of all blocks that are large; none of what moves by entry."""
    if layer.by_entry(shape) is not None or not math.prod(shape):
        return 0.0
    view = layer.blocks(shape)
    rows, *columns = [view.shape[dim] for dim in view.dims]
    m, n = sorted((rows, math.prod(columns)))
    return float(math.prod(view.stack) * ITERATIONS * (4 * m * m * n + 2 * m**3)) * (m >= WIDE)
