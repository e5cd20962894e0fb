"""Packs: small tensors side by side in few runs; and what slabs some tensors make."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from untuned._cache import integers
from untuned.execution.buckets import ROW, Columns, Pieces, Rows, Slab, room
from untuned.execution.kernels import GRAD, Run, Values

LARGE = 2**16  # entries from which a tensor is a slab of its own
MANY = 2**14  # entries of tensors of one shape from which they are a slab of their own


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
        return pull.reshape(len(self.indices), -1).sum(1) if pull.ndim else pull

    def dots(self, tensors: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
        return self.totals(torch.stack(list(tensors)) * torch.stack(list(others)))


class Pack(Slab):
    """Small tensors of any size end to end; one number a tensor is repeated for its entries.

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
        if all(one.ndim == 0 for one in column):
            return self._repeated(torch.stack(list(column)))
        return torch.cat([one.flatten() if one.numel() else one.new_zeros(1) for one in column])

    def _repeated(self, numbers: Tensor) -> Tensor:
        """Numbers, (tensors,), for the entries of each."""
        counts = integers(self.counts, numbers.device)
        return numbers.repeat_interleave(counts, output_size=sum(self.counts))

    def _split_(self, column: Sequence[Tensor], run: Tensor) -> None:
        if all(one.ndim == 0 for one in column):
            firsts = [0, *itertools.accumulate(self.counts[:-1])]
            torch._foreach_copy_(list(column), list(run[integers(firsts, run.device)].unbind()))
            return
        parts = zip(column, run.split(self.counts), strict=True)
        pairs = [(tensor, part.view_as(tensor)) for tensor, part in parts if tensor.numel()]
        if pairs:
            torch._foreach_copy_([tensor for tensor, _ in pairs], [part for _, part in pairs])

    def values(self, values: Values) -> Values:
        def own(value: Tensor) -> Tensor:
            return self._repeated(value[integers(self.indices, value.device)])

        return tuple(own(value) if value.ndim else value for value in values)

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
