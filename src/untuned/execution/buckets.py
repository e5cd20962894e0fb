"""Slabs: the entries of many tensors as a few runs, which kernels take one after the other.

Small tensors lie side by side in few runs, so that their number costs little (`packs.py`). A large
one is a run in rows for a compiled kernel, which passes over memory once; or else a run for each
piece, so that what operations leave behind between them stays in the cache, and is never large.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from untuned.execution.compilation import compiled
from untuned.execution.kernels import GRAD, Kernels, Run, Values
from untuned.execution.project import LARGEST

PIECE = 2**17  # entries of a piece, on a CPU
ROW = 4096  # the most entries of a row: sums over rows, then of rows, are both fast and exact

Columns = Mapping[str, Sequence[Tensor]]  # of each name of a run, one tensor for each parameter


class Slab:
    """Some of a list of tensors, by their indices."""

    indices: list[int]
    shapes: list[torch.Size]
    counts: list[int]

    def __init__(self, indices: Sequence[int], tensors: Sequence[Tensor]) -> None:
        self.indices = list(indices)
        self.shapes = [tensors[i].shape for i in indices]
        self.counts = [math.prod(shape) for shape in self.shapes]

    def runs(self, columns: Columns, write: bool) -> Iterator[Run]:
        """The slab's runs; what kernels change in them reaches the tensors if `write`."""
        raise NotImplementedError

    def values(self, values: Values) -> Values:
        """Hyperparameters, each 0-d or (tensors,), as kernels want them for the slab."""
        return tuple(value[self.indices[0]] if value.ndim else value for value in values)

    def totals(self, pull: Tensor) -> Tensor:
        """The sum of one run's derivatives: of each tensor if they know whose they are, or 0-d."""
        return pull.sum()

    def dots(self, tensors: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
        """The inner products of its tensors with others, (tensors,), in the precision of these."""
        pairs = zip(tensors, others, strict=True)
        return torch.stack([torch.dot(t.flatten(), o.flatten().to(t.dtype)) for t, o in pairs])

    def in_rows(self, run: Run) -> bool:
        """Whether a run is a matrix of rows, for a compiled kernel."""
        return False


class Pieces(Slab):
    """One tensor, piece by piece (whole, if its memory is not in order)."""

    size: int

    def __init__(self, indices: Sequence[int], tensors: Sequence[Tensor]) -> None:
        super().__init__(indices, tensors)
        self.size = room(tensors[self.indices[0]])

    def runs(self, columns: Columns, write: bool) -> Iterator[Run]:
        if not all(one.is_contiguous() for name, (one,) in columns.items() if name != GRAD):
            yield {name: one for name, (one,) in columns.items()}
            return
        flat = {k: one.reshape(-1) if one.ndim else one for k, (one,) in columns.items()}
        count = self.counts[0]
        for start in range(0, max(count, 1), self.size):
            last = start + self.size >= count
            # what is one number for the whole tensor changes with the last run only
            yield {
                name: one[start : start + self.size] if one.ndim else one if last else one.clone()
                for name, one in flat.items()
            }


class Rows(Pieces):
    """One large tensor as a matrix of short rows, for compiled kernels, and what is left over."""

    size: int

    def __init__(self, indices: Sequence[int], tensors: Sequence[Tensor]) -> None:
        super().__init__(indices, tensors)
        self.size = self.counts[0] // ROW * ROW

    def runs(self, columns: Columns, write: bool) -> Iterator[Run]:
        for run in super().runs(columns, write):
            fits = run[GRAD].ndim == 1 and run[GRAD].numel() == self.size
            # a number gets a dimension: torch 2.13 compiles no write to one of 64 bits on CPU
            yield {
                k: one.view(-1, ROW if one.ndim else 1) if fits else one for k, one in run.items()
            }

    def in_rows(self, run: Run) -> bool:
        return run[GRAD].ndim == 2 and run[GRAD].numel() == self.size


def kernel(slab: Slab, kernels: Kernels, name: str, run: Run) -> Callable[..., Any]:
    """A kernel for a run: compiled if it comes in rows, and the whole step is not."""
    alone = slab.in_rows(run) and not torch.compiler.is_compiling()
    return compiled(kernels, name) if alone else getattr(kernels, name)


def leaves(slab: Slab, values: Values, picked: Sequence[int], run: Run) -> Values:
    """Some of the values, to be differentiated by: one for each row, if the run comes in rows."""
    chosen = [values[place] for place in picked]
    rows = slab.in_rows(run)
    return tuple(v if v.ndim or not rows else v.expand(len(run[GRAD]), 1) for v in chosen)


def room(tensor: Tensor) -> int:
    """How many entries like those of a tensor to work on at once."""
    return PIECE if tensor.device.type == "cpu" else LARGEST
