"""Buckets: the entries of many tensors as a few buffers, which kernels take one after the other.

Packed     small tensors side by side, so that their number costs little
Chunked    one tensor, chunk by chunk, so that intermediate results stay in the cache and are
           never large

For compiled kernels, which pass over memory once, either is a matrix of rows.
"""

import itertools
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
    """Some of a list of tensors, by their indices; `row`: of compiled kernels' rows, 1: eager."""

    def __init__(self, indices: Sequence[int], tensors: Sequence[Tensor], row: int = 1) -> None:
        self.indices: list[int] = list(indices)
        self.row: int = row
        self.shapes: list[torch.Size] = [tensors[i].shape for i in indices]
        self.row_a_tensor: bool = False  # whether each row of the buffers is a tensor
        self.counts: list[int] = [shape.numel() for shape in self.shapes]

    def buffers(self, columns: Columns, write: bool) -> Iterator[Buffers]:
        """The bucket's buffers; with `write`, kernels' results in them reach the tensors."""
        raise NotImplementedError

    def hold(self, states: Sequence[dict[str, Tensor]], names: Iterable[str]) -> None:
        """Keep states of the tensors where the buffers are, if that saves copies."""

    def norms(self, grads: Sequence[Tensor], dtype: torch.dtype) -> Sequence[Tensor]:
        """The norm of each of its tensors' gradients, 0-d, of those of all tensors."""
        return torch._foreach_norm([grads[i] for i in self.indices], 2, dtype)

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
        return self.row > 1 and buffers[GRAD].shape[1:] == (self.row,)

    def kernel(self, kernels: Kernels, name: str, buffers: Buffers) -> Callable[..., Any]:
        """A kernel for the buffers: compiled if they are tiled, and the whole step is not."""
        alone = self.tiled(buffers) and not torch.compiler.is_compiling()
        return compiled(kernels, name) if alone else getattr(kernels, name)

    def tuned(self, values: Values, positions: Sequence[int], buffers: Buffers) -> Values:
        """The values to differentiate by: one for each row, if the buffers are tiled."""
        chosen = [values[position] for position in positions]
        if self.tiled(buffers):
            chosen = [v if v.ndim else v.expand(len(buffers[GRAD]), 1) for v in chosen]
        return tuple(chosen)


class Chunked(Bucket):
    """One tensor, chunk by chunk (whole, if its memory is not contiguous).

    For compiled kernels: as a matrix (rows, row) and the remainder, which runs eagerly.
    """

    def buffers(self, columns: Columns, write: bool) -> Iterator[Buffers]:
        if not all([one.is_contiguous() for name, (one,) in columns.items() if name != GRAD]):
            yield {name: one for name, (one,) in columns.items()}
            return
        flat = {k: one.reshape(-1) if one.ndim else one for k, (one,) in columns.items()}
        count, tiles = self.counts[0], self.row > 1
        size = count // self.row * self.row if tiles else chunk_size(flat[GRAD])
        for start in range(0, max(count, 1), size):
            chunk, stop = flat, start + size
            if size < count:  # one number for the whole tensor changes with the last chunk only
                chunk = {
                    k: one[start:stop] if one.ndim else one if stop >= count else one.clone()
                    for k, one in flat.items()
                }
            if tiles and stop <= count:
                # a number gets a dimension: torch 2.13 compiles no write to one of 64 bits on CPU
                chunk = {k: v.view(-1, self.row if v.ndim else 1) for k, v in chunk.items()}
            yield chunk


class Packed(Bucket):
    """Small tensors side by side.

    Those of one shape are rows, (tensors, entries), and one number a tensor stands beside its row,
    (tensors, 1). Others lie end to end, (all entries,), and such a number is repeated for each
    entry. An empty tensor, such as an empty shard, gets an entry of zero there, so that its numbers
    go on like those of the others. For compiled kernels all lie end to end, padded, (rows, row).
    """

    def __init__(self, indices: Sequence[int], tensors: Sequence[Tensor], row: int = 1) -> None:
        super().__init__(indices, tensors, row)
        alike = len(set(self.shapes)) == 1 and self.counts[0] > 0
        self.row_a_tensor: bool = row == 1 and alike
        self.counts: list[int] = [max(count, 1) for count in self.counts]
        self._padding = -sum(self.counts) % row
        self._held: dict[str, tuple[Tensor, tuple[Tensor, ...]]] = {}

    def hold(self, states: Sequence[dict[str, Tensor]], names: Iterable[str]) -> None:
        """Keep states of tensors of one shape side by side: they become views of one buffer.

        A step then copies weights and gradients only: 100 x (64, 64), Adam, in three quarters of
        the time. Not of single numbers, such as those that a floor above moves: their states have
        copies in the parameter group.
        """
        for name in names if self.row_a_tensor and self.counts[0] > 1 else ():
            column = [state[name] for state in states]
            buffer = self._join(column)
            views = buffer.view(len(column), *column[0].shape).unbind()
            self._held[name] = buffer, views
            for state, view in zip(states, views, strict=True):
                state[name] = view

    def norms(self, grads: Sequence[Tensor], dtype: torch.dtype) -> Sequence[Tensor]:
        if not self.row_a_tensor:
            return super().norms(grads, dtype)
        rows = self._join([grads[i] for i in self.indices])
        norms: Tensor = torch.linalg.vector_norm(rows, dim=1, dtype=dtype)
        return norms.unbind()

    def buffers(self, columns: Columns, write: bool) -> Iterator[Buffers]:
        buffers, copies = {}, {}
        for name, column in columns.items():
            buffer, views = self._held.get(name, (None, ()))
            if buffer is None or not all(map(operator.is_, views, column)):  # others were loaded
                buffer = self._join(column, name == GRAD)
                copies[name] = column
            buffers[name] = buffer
        yield buffers
        for name, column in copies.items() if write else ():
            if name != GRAD:
                self._split_(column, buffers[name])

    def _join(self, column: list[Tensor], zeros: bool = False) -> Tensor:
        """The buffer of a column; padded with its last entry (it may be divided by), or zeros."""
        if self.row_a_tensor:
            return torch.stack(column).view(len(column), -1)
        if not any([one.ndim for one in column]):
            return self._repeated(torch.stack(column))
        parts = [one.reshape(-1) if one.numel() else one.new_zeros(1) for one in column]
        if self._padding:
            last = parts[-1].new_zeros(1) if zeros else parts[-1][-1:]
            parts.append(last.expand(self._padding))
        return self._rows(torch.cat(parts))

    def _rows(self, entries: Tensor) -> Tensor:
        return entries.view(-1, self.row) if self.row > 1 else entries

    def _repeated(self, numbers: Tensor) -> Tensor:
        """Numbers, (tensors,), so that they broadcast to the entries of each."""
        if self.row_a_tensor:
            return numbers[:, None]
        counts = [*self.counts[:-1], self.counts[-1] + self._padding]
        each = integers(counts, numbers.device)
        return self._rows(numbers.repeat_interleave(each, output_size=sum(counts)))

    def _split_(self, column: list[Tensor], buffer: Tensor) -> None:
        if self.row_a_tensor:
            parts = buffer.view(len(column), *column[0].shape).unbind()
        elif any([one.ndim for one in column]):
            pairs = zip(column, self._each(buffer), strict=True)
            parts = tuple([part[: one.numel()].view_as(one) for one, part in pairs])
        else:
            firsts = [0, *itertools.accumulate(self.counts[:-1])]
            parts = buffer.view(-1)[integers(firsts, buffer.device)].unbind()
        torch._foreach_copy_(column, parts)

    def _each(self, entries: Tensor) -> list[Tensor]:
        """Each tensor's part of a buffer's entries, without the padding."""
        return list(entries.view(-1)[: sum(self.counts)].split(self.counts))

    def values(self, values: Values) -> Values:
        def own(value: Tensor) -> Tensor:
            return self._repeated(value[integers(self.indices, value.device)])

        return tuple([own(v) if v.ndim else v for v in values])

    def totals(self, entries: Tensor) -> Tensor:
        if self.row_a_tensor and entries.ndim:
            return entries.view(len(self.indices), -1).sum(1)
        if entries.numel() < sum(self.counts):  # of a value that all tensors share
            return entries.sum()
        return torch.stack([part.sum() for part in self._each(entries)])

    def dots(self, tensors: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
        if not self.row_a_tensor:
            return super().dots(tensors, others)
        return self.totals(self._join(list(tensors)) * self._join(list(others)))


def chunk_size(tensor: Tensor) -> int:
    """How many entries like those of a tensor to work on at once."""
    return CHUNK if tensor.device.type == "cpu" else LARGEST


def buckets_of(indices: Sequence[int], tensors: Sequence[Tensor], compile: bool) -> list[Bucket]:
    """The chosen tensors in buckets; for compiled kernels, if so and there is enough to do."""
    small = [i for i in indices if tensors[i].numel() < LARGE]
    tile = compile and sum([tensors[i].numel() for i in small]) >= ROW
    buckets: list[Bucket] = []
    buckets += [Packed(small, tensors, ROW)] if tile else _packed(small, tensors)
    for i in indices:
        if tensors[i].numel() >= LARGE:
            row = ROW if compile and tensors[i].is_contiguous() else 1
            buckets.append(Chunked([i], tensors, row))
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
