"""Buckets: the entries of many tensors as a few buffers, which kernels take one after the other.

Packed     small tensors side by side, so that their number costs little
Chunked    one tensor, chunk by chunk, so that intermediate results stay in the cache and are
           never large
Tiled      one large tensor in rows, for compiled kernels, which pass over memory once
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from untuned._tensors import integers
from untuned.execution.compilation import compiled
from untuned.execution.kernels import GRAD, Buffers, Kernels, Values
from untuned.execution.project import LARGEST

CHUNK = 2**17  # entries of a chunk, on a CPU
ROW = 4096  # the most entries of a row: sums over rows, then of rows, are both fast and exact
LARGE = 2**16  # entries from which a tensor is a bucket of its own
MANY = 2**14  # entries of tensors of one shape from which they are a bucket of their own

Columns = Mapping[str, list[Tensor]]  # of each name in the buffers, one tensor a parameter


class Bucket:
    """Some of a list of tensors, by their indices."""

    indices: list[int]
    shapes: list[torch.Size]
    counts: list[int]

    def __init__(self, indices: Sequence[int], tensors: Sequence[Tensor]) -> None:
        self.indices = list(indices)
        self.shapes = [tensors[i].shape for i in indices]
        self.counts = [shape.numel() for shape in self.shapes]

    def buffers(self, columns: Columns, write: bool) -> Iterator[Buffers]:
        """The bucket's buffers; with `write`, kernels' results in them reach the tensors."""
        raise NotImplementedError

    def values(self, values: Values) -> Values:
        """Hyperparameters, each 0-d or (tensors,), so that they broadcast to the buffers."""
        return tuple([value[self.indices[0]] if value.ndim else value for value in values])

    def totals(self, entries: Tensor) -> Tensor:
        """Sums over one buffer's entries: (tensors,) where each tensor has its own, else 0-d."""
        return entries.sum()

    def dots(self, tensors: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
        """The inner products of its tensors with others, (tensors,), in the dtype of these."""
        pairs = zip(tensors, others, strict=True)
        return torch.stack([torch.dot(t.flatten(), o.flatten().to(t.dtype)) for t, o in pairs])

    def tiled(self, buffers: Buffers) -> bool:
        """Whether the buffers are matrices of rows, for a compiled kernel."""
        return False

    def kernel(self, kernels: Kernels, name: str, buffers: Buffers) -> Callable[..., Any]:
        """A kernel for the buffers: compiled if they are tiled, and the whole step is not."""
        alone = self.tiled(buffers) and not torch.compiler.is_compiling()
        return compiled(kernels, name) if alone else getattr(kernels, name)

    def tuned(self, values: Values, positions: Sequence[int], buffers: Buffers) -> Values:
        """The values to differentiate by: one for each row, if the buffers are tiled."""
        chosen = [values[position] for position in positions]
        if not self.tiled(buffers):
            return tuple(chosen)
        return tuple([v if v.ndim else v.expand(len(buffers[GRAD]), 1) for v in chosen])


class Chunked(Bucket):
    """One tensor, chunk by chunk (whole, if its memory is not contiguous)."""

    size: int

    def __init__(self, indices: Sequence[int], tensors: Sequence[Tensor]) -> None:
        super().__init__(indices, tensors)
        self.size = chunk_size(tensors[self.indices[0]])

    def buffers(self, columns: Columns, write: bool) -> Iterator[Buffers]:
        if not all([one.is_contiguous() for name, (one,) in columns.items() if name != GRAD]):
            yield {name: one for name, (one,) in columns.items()}
            return
        flat = {k: one.reshape(-1) if one.ndim else one for k, (one,) in columns.items()}
        count = self.counts[0]
        if count <= self.size:
            yield flat
            return
        for start in range(0, count, self.size):
            last = start + self.size >= count
            # one number for the whole tensor changes with the last chunk only
            yield {
                name: one[start : start + self.size] if one.ndim else one if last else one.clone()
                for name, one in flat.items()
            }


class Tiled(Chunked):
    """One large tensor as a matrix of rows (rows, ROW), for compiled kernels, and the remainder."""

    def __init__(self, indices: Sequence[int], tensors: Sequence[Tensor]) -> None:
        super().__init__(indices, tensors)
        self.size = self.counts[0] // ROW * ROW

    def buffers(self, columns: Columns, write: bool) -> Iterator[Buffers]:
        for buffers in super().buffers(columns, write):
            fits = buffers[GRAD].ndim == 1 and buffers[GRAD].numel() == self.size
            # a number gets a dimension: torch 2.13 compiles no write to one of 64 bits on CPU
            yield {
                k: one.view(-1, ROW if one.ndim else 1) if fits else one
                for k, one in buffers.items()
            }

    def tiled(self, buffers: Buffers) -> bool:
        return buffers[GRAD].ndim == 2 and buffers[GRAD].numel() == self.size


class Packed(Bucket):
    """Small tensors side by side.

    Those of one shape are rows, (tensors, entries), and one number a tensor stands beside its row,
    (tensors, 1). Others lie end to end, (all entries,), and such a number is repeated for each
    entry. An empty tensor, such as an empty shard, gets an entry of zero there, so that its numbers
    go on like those of the others.
    """

    def __init__(self, indices: Sequence[int], tensors: Sequence[Tensor]) -> None:
        super().__init__(indices, tensors)
        self.alike = len(set(self.shapes)) == 1 and self.counts[0] > 0
        self.counts = [max(count, 1) for count in self.counts]

    def buffers(self, columns: Columns, write: bool) -> Iterator[Buffers]:
        buffers = {name: self._join(column) for name, column in columns.items()}
        yield buffers
        for name, column in columns.items() if write else ():
            if name != GRAD:
                self._split_(column, buffers[name])

    def _join(self, column: list[Tensor]) -> Tensor:
        if self.alike:
            return torch.stack(column).view(len(column), -1)
        if any([one.ndim for one in column]):
            parts = [one.reshape(-1) if one.numel() else one.new_zeros(1) for one in column]
            return torch.cat(parts)
        return self._repeated(torch.stack(column))

    def _repeated(self, numbers: Tensor) -> Tensor:
        """Numbers, (tensors,), so that they broadcast to the entries of each."""
        if self.alike:
            return numbers[:, None]
        counts = integers(self.counts, numbers.device)
        return numbers.repeat_interleave(counts, output_size=sum(self.counts))

    def _split_(self, column: list[Tensor], buffer: Tensor) -> None:
        if self.alike:
            parts = buffer.view(len(column), *column[0].shape).unbind()
        elif any([one.ndim for one in column]):
            pairs = zip(column, buffer.split(self.counts), strict=True)
            parts = tuple([part[: one.numel()].view_as(one) for one, part in pairs])
        else:
            firsts = [0, *itertools.accumulate(self.counts[:-1])]
            parts = buffer[integers(firsts, buffer.device)].unbind()
        torch._foreach_copy_(column, parts)

    def values(self, values: Values) -> Values:
        own = integers(self.indices, values[0].device) if values else None
        return tuple([self._repeated(v[own]) if v.ndim else v for v in values])

    def totals(self, entries: Tensor) -> Tensor:
        if not entries.ndim:
            return entries
        if self.alike:
            return entries.view(len(self.indices), -1).sum(1)
        return torch.stack([part.sum() for part in entries.split(self.counts)])

    def dots(self, tensors: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
        if not self.alike:
            return super().dots(tensors, others)
        return self.totals(self._join(list(tensors)) * self._join(list(others)))


class PackedTiles(Packed):
    """`Packed` end to end, padded to full rows (rows, ROW), for compiled kernels."""

    def __init__(self, indices: Sequence[int], tensors: Sequence[Tensor]) -> None:
        super().__init__(indices, tensors)
        self.alike = False

    def buffers(self, columns: Columns, write: bool) -> Iterator[Buffers]:
        for buffers in super().buffers(columns, write):
            # a number beside the padding may be divided by: it is the last tensor's, not zero
            tiles = {name: self._tiles(one, name == GRAD) for name, one in buffers.items()}
            yield tiles
            buffers.update({k: one.view(-1)[: sum(self.counts)] for k, one in tiles.items()})

    def _tiles(self, entries: Tensor, zeros: bool = False) -> Tensor:
        padding = entries.new_zeros(1) if zeros else entries[-1:]
        return torch.cat([entries, padding.expand(-len(entries) % ROW)]).view(-1, ROW)

    def values(self, values: Values) -> Values:
        return tuple([self._tiles(v) if v.ndim else v for v in super().values(values)])

    def tiled(self, buffers: Buffers) -> bool:
        return True

    def totals(self, entries: Tensor) -> Tensor:
        own = entries.shape[1] > 1  # of each entry, not of rows: some values are each tensor's own
        return super().totals(entries.view(-1)[: sum(self.counts)]) if own else entries.sum()


def chunk_size(tensor: Tensor) -> int:
    """How many entries like those of a tensor to work on at once."""
    return CHUNK if tensor.device.type == "cpu" else LARGEST


def buckets_of(indices: Sequence[int], tensors: Sequence[Tensor], compile: bool) -> list[Bucket]:
    """The chosen tensors in buckets; for compiled kernels, if so and there is enough to do."""
    small = [i for i in indices if tensors[i].numel() < LARGE]
    buckets: list[Bucket] = []
    if compile and sum([tensors[i].numel() for i in small]) >= ROW:
        buckets.append(PackedTiles(small, tensors))
    else:
        buckets += _packed(small, tensors)
    for i in indices:
        if tensors[i].numel() >= LARGE:
            tile = compile and tensors[i].is_contiguous()
            buckets.append((Tiled if tile else Chunked)([i], tensors))
    return buckets


def _packed(indices: Sequence[int], tensors: Sequence[Tensor]) -> list[Bucket]:
    """Small tensors: those of one shape together, if they are many, and all others together."""
    shapes: dict[torch.Size, list[int]] = {}
    for i in indices:
        shapes.setdefault(tensors[i].shape, []).append(i)
    buckets: list[Bucket] = []
    others: list[int] = []
    for shape, alike in shapes.items():
        size = math.prod(shape)
        if len(alike) > 1 and size * len(alike) >= MANY:
            count = max(2, chunk_size(tensors[alike[0]]) // size)
            buckets += [Packed(alike[i : i + count], tensors) for i in range(0, len(alike), count)]
        else:
            others += alike
    if others:  # one alone needs no copy
        buckets.append((Packed if len(others) > 1 else Chunked)(others, tensors))
    return buckets
