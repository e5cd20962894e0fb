"""Slabs: the entries of many tensors as a few runs, which kernels take one after the other.

Small tensors lie side by side in few runs, so that their number costs little. A large one is a run
in rows for a compiled kernel, which passes over memory once; or else a run for each piece, so that
what operations leave behind between them stays in the cache, and is never large.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from untuned.compilation import compiled
from untuned.finish import LARGEST
from untuned.kept import integers
from untuned.kernels import GRAD, Kernels, Run, Values

LARGE = 2**16  # entries from which a tensor is a slab of its own
PIECE = 2**17  # entries of a piece, on a CPU
MANY = 2**14  # entries of tensors of one shape from which they are a slab of their own
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


class Stack(Slab):
    """Small tensors of one shape, (tensors, *shape), and what is one number each beside them.

    So what a rule does to such numbers it does once a tensor, not once an entry.
    """

    def runs(self, columns: Columns, write: bool) -> Iterator[Run]:
        run = {name: self._beside(torch.stack(list(one))) for name, one in columns.items()}
        yield run
        for name, column in columns.items() if write else ():
            if name != GRAD:
                parts = run[name].view(len(column), *column[0].shape)
                torch._foreach_copy_(list(column), list(parts.unbind()))

    def _beside(self, stack: Tensor) -> Tensor:
        """A stack so that it broadcasts to the entries of the tensors."""
        ones = 1 + len(self.shapes[0]) - stack.ndim
        return stack.view(*stack.shape, *[1] * ones)

    def values(self, values: Values) -> Values:
        def own(value: Tensor) -> Tensor:
            return self._beside(value[integers(self.indices, value.device)])

        return tuple(own(value) if value.ndim else value for value in values)

    def totals(self, pull: Tensor) -> Tensor:
        return pull.flatten(1).sum(1) if pull.ndim else pull

    def dots(self, tensors: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
        return self.totals(torch.stack(list(tensors)) * torch.stack(list(others)))


class Pack(Slab):
    """Small tensors of any size end to end; what is one number a tensor is repeated for its entries.

    An empty one, such as a shard of a tensor that has entries elsewhere, gets an entry of zero, for
    its numbers go on like those of the others.
    """

    counts: list[int]

    def __init__(self, indices: Sequence[int], tensors: Sequence[Tensor]) -> None:
        super().__init__(indices, tensors)
        self.counts = [max(count, 1) for count in self.counts]

    def runs(self, columns: Columns, write: bool) -> Iterator[Run]:
        run = {name: self._join(column) for name, column in columns.items()}
        yield run
        for name, column in columns.items() if write else ():
            if name != GRAD:
                self._split_(column, run[name])

    def _join(self, column: Sequence[Tensor]) -> Tensor:
        parts = zip(column, self.shapes, self.counts, strict=True)
        return torch.cat([self._entries(t, s, n) for t, s, n in parts])

    def _entries(self, tensor: Tensor, shape: torch.Size, count: int) -> Tensor:
        if tensor.shape != shape:
            return tensor.expand(count)
        return tensor.flatten() if tensor.numel() else tensor.new_zeros(1)

    def _split_(self, column: Sequence[Tensor], run: Tensor) -> None:
        parts = zip(column, run.split(self.counts), self.shapes, strict=True)
        pairs = [(t, p.view(s) if t.shape == s else p[0]) for t, p, s in parts if t.numel()]
        if pairs:
            torch._foreach_copy_([t for t, _ in pairs], [p for _, p in pairs])

    def values(self, values: Values) -> Values:
        def spread(value: Tensor) -> Tensor:
            each = zip((value[i] for i in self.indices), self.counts, strict=True)
            return torch.cat([one.expand(n) for one, n in each])

        return tuple(spread(value) if value.ndim else value for value in values)

    def totals(self, pull: Tensor) -> Tensor:
        return torch.stack([p.sum() for p in pull.split(self.counts)]) if pull.ndim else pull


class CompiledPack(Pack):
    """The same, filled up to full rows with entries that say nothing, for compiled kernels."""

    def runs(self, columns: Columns, write: bool) -> Iterator[Run]:
        count = sum(self.counts)
        spare = -count % ROW

        def filled(name: str, run: Tensor) -> Tensor:
            filling = run.new_zeros(1) if name == GRAD else run[-1:]
            return torch.cat([run, filling.expand(spare)]).view(-1, ROW)

        for run in super().runs(columns, write):
            rows = {name: filled(name, one) for name, one in run.items()}
            yield rows
            run.update({name: one.view(-1)[:count] for name, one in rows.items()})

    def values(self, values: Values) -> Values:
        spare = -sum(self.counts) % ROW
        return tuple(
            torch.cat([value, value[-1:].expand(spare)]).view(-1, ROW) if value.ndim else value
            for value in super().values(values)
        )

    def in_rows(self, run: Run) -> bool:
        return True

    def totals(self, pull: Tensor) -> Tensor:
        own = pull.shape[1] > 1  # of each entry, not of rows: some values are each tensor's own
        return super().totals(pull.view(-1)[: sum(self.counts)]) if own else pull.sum()


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


def slabs_of(indices: Sequence[int], tensors: Sequence[Tensor], compile: bool) -> list[Slab]:
    """The chosen tensors as slabs; for compiled kernels, if so and there is enough to do."""
    slabs: list[Slab] = []
    small = [i for i in indices if tensors[i].numel() < LARGE]
    if compile and sum(tensors[i].numel() for i in small) >= ROW:
        slabs.append(CompiledPack(small, tensors))
    else:
        slabs += _alike(small, tensors)
    for i in indices:
        if tensors[i].numel() >= LARGE:
            rows = compile and tensors[i].is_contiguous()
            slabs.append((Rows if rows else Pieces)([i], tensors))
    return slabs


def _alike(indices: Sequence[int], tensors: Sequence[Tensor]) -> list[Slab]:
    """Small tensors as slabs: those of one shape in stacks, if they are many, else in one pack."""
    shapes: dict[torch.Size, list[int]] = {}
    for i in indices:
        shapes.setdefault(tensors[i].shape, []).append(i)
    slabs: list[Slab] = []
    others: list[int] = []
    for shape, alike in shapes.items():
        size = math.prod(shape)
        if len(alike) > 1 and size * len(alike) >= MANY:
            count = max(2, room(tensors[alike[0]]) // size)
            slabs += [Stack(alike[i : i + count], tensors) for i in range(0, len(alike), count)]
        else:
            others += alike
    if others:  # one alone needs no copy
        slabs.append((Pack if len(others) > 1 else Pieces)(others, tensors))
    return slabs
