"""Runs: small tensors whose blocks are rows of one length, to be treated side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors

from untuned.geometry.layer import BlockView

SMALL = 2**15  # entries of a tensor that is rather copied than treated on its own
TOGETHER = 2**18  # entries of such copies: they stay in the cache


class Run(NamedTuple):
    """Tensors whose blocks follow each other in the vector."""

    indices: list[int]
    length: int  # of their rows, which are their blocks, if there are several tensors
    start: int  # where their blocks stand in the vector, up to `stop`
    stop: int

    def of(self, vector: Tensor) -> Tensor:
        """Numbers of their blocks, beside `rows`: (blocks, 1)."""
        return vector[self.start : self.stop, None]

    def rows(self, tensors: Sequence[Tensor]) -> Tensor:
        """Their blocks side by side, (blocks, length): a copy."""
        flat: Tensor = _flatten_dense_tensors([tensors[i] for i in self.indices])
        return flat.view(-1, self.length)

    def put_(self, rows: Tensor, tensors: Sequence[Tensor]) -> None:
        """Write their blocks back."""
        targets = [tensors[i] for i in self.indices]
        torch._foreach_copy_(targets, _unflatten_dense_tensors(rows.flatten(), targets))


def row_length(blocks: BlockView) -> int:
    """The entries of each block of a small tensor, if they lie side by side; else 0."""
    shape, dims = blocks.shape, blocks.dims
    rows = len(shape) - len(dims)
    small = 0 < math.prod(shape) <= SMALL
    return math.prod(shape[rows:]) if small and dims == tuple(range(rows, len(shape))) else 0


def runs_of(
    indices: Sequence[int], counts: Sequence[int], lengths: Sequence[int], start: int
) -> list[Run]:
    """Tensors in order; small ones, if alike, in runs that are done at once.

    Given how many blocks each has, the `row_length` of these (0 also of what has to be treated on
    its own), and where the first stands in the vector. Alike are those whose rows are of one
    length. Many small tensors would otherwise cost as many operations, which take longer than a
    copy of them side by side.
    """
    runs: list[Run] = []
    room = before = 0
    for i, count, length in zip(indices, counts, lengths, strict=True):
        if length and length == before and count * length <= room:
            last = runs.pop()
            runs.append(Run([*last.indices, i], length, last.start, start + count))
        else:
            runs.append(Run([i], length, start, start + count))
            room, before = TOGETHER, length
        room -= count * length
        start += count
    return runs
