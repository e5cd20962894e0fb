"""Frames of what this process holds of sharded tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from untuned._tensors import cached, integers
from untuned.distributed.exchange import Exchange
from untuned.distributed.shards import Layout, Shard
from untuned.geometry.block_norms import RowBatch
from untuned.geometry.block_vector import BlockVector, layers_for
from untuned.geometry.layer import BlockView, Layer, Shape, View


class ShardedBlockVector(BlockVector):
    """The blocks of which a part is here, seen through the part that is here.

    Norms and inner products are then parts, too, to be joined (`collectives.py`). Where a tensor is
    sharded along a dimension that its blocks divide (fused queries, keys and values over rows),
    shards end in the midst of blocks: the view then has a *cell* for each place along it, and
    all blocks of the tensor count as being here.
    """

    total: int
    runs: list[RowBatch]

    def __init__(
        self,
        layers: Sequence[Layer],
        shapes: Sequence[Shape],
        view: View,
        shards: Sequence[Shard | None],
    ) -> None:
        self._seen: dict[int, _Seen] = {}
        super().__init__(layers, shapes, view)
        self.shards: Sequence[Shard | None] = shards
        self._network = BlockVector(layers, shapes, view)
        self.total = len(self.whole) + sum(self.counts)
        numbers = self.unsharded.spread(torch.arange(self.total))
        self._seen = {i: _Seen(s, self.blocks[i]) for i, s in enumerate(shards) if s is not None}
        self._exchanges: dict[tuple[int, ...], Exchange] = {}
        self._cells: dict[int, list[int]] = {}  # the number of each cell's block in its tensor
        for i, seen in self._seen.items():
            if seen.cut:
                self._cells[i] = seen.cells().flatten().tolist()
            self.blocks[i] = seen.here()
            self.stacks[i] = seen.stack()
        self.runs = self._in_runs()
        here = [self.local_numbers(i, numbers[i]).flatten() for i in (*self.whole, *self.parted)]
        self._here: list[int] = torch.cat(here).tolist()  # the number of each block here

    def _numbers(self, key: tuple[Any, ...], numbers: list[int], device: torch.device) -> Tensor:
        """As a tensor on a device, kept with the frame: there may be one for every neuron."""
        return self._kept.found((*key, device), lambda: torch.tensor(numbers).long().to(device))

    @property
    def unsharded(self) -> BlockVector:
        return self._network

    def local_entries(self, vector: Tensor) -> Tensor:
        return vector[self._numbers(("here",), self._here, vector.device)]

    def shard_counts(self, device: torch.device) -> Tensor:
        each = [1 if shard is None else shard.parts for shard in self.shards]
        return integers(each, device)[self.owner(device)]

    def scatter(self, sums: Tensor) -> Tensor:
        here = self._numbers(("here",), self._here, sums.device)
        return sums.new_zeros(self.total).index_add(0, here, sums * self.shard_counts(sums.device))

    def local_numbers(self, index: int, value: Tensor) -> Tensor:
        seen = self._seen.get(index)
        if seen is None or seen.cut or value.shape != self.unsharded.stacks[index]:
            return value
        return value[seen.place()].clone()

    def exchange(self, indices: Sequence[int]) -> Exchange:
        found = self._exchanges.get(tuple(indices))
        if found is None:
            shards = [shard for i in indices if (shard := self.shards[i]) is not None]
            found = self._exchanges[tuple(indices)] = Exchange(shards)
        return found

    def layout(self, index: int) -> Layout:
        """How numbers of a tensor's blocks lie across the processes."""
        return self._seen[index].layout()

    def is_divided(self, index: int) -> bool:
        return index in self._seen and self._seen[index].divided

    def sum_cells(self, index: int, numbers: Tensor, root: bool = False) -> Tensor:
        if index not in self._cells:
            return numbers
        sums = numbers.new_zeros(math.prod(self.stacks[index]))
        cells = self._numbers(("cells", index), self._cells[index], numbers.device)
        sums.index_add_(0, cells, numbers.square() if root else numbers)
        return sums.sqrt() if root else sums

    def per_view(self, vector: Tensor) -> list[Tensor]:
        spread = super().per_view(vector)
        for i, cells in self._cells.items():
            numbers = spread[i].flatten()[self._numbers(("cells", i), cells, vector.device)]
            spread[i] = numbers.view(self.blocks[i].stack)
        return spread


class _Seen:
    """A tensor's blocks and this process's shard of the tensor.

    The blocks' view has the tensor's dimensions, of which it may `split` one in two.
    """

    def __init__(self, shard: Shard, blocks: BlockView) -> None:
        self.shard, self.blocks = shard, blocks
        shape = shard.layout.shape
        differ = [d for d in range(len(shape)) if blocks.shape[d] != shape[d]]
        last = len(shape) - 1
        self.split = min([*differ, last]) if len(blocks.shape) > len(shape) else len(shape)
        self.cut = self.split in shard.dims
        self.divided = self.cut or any(self._dim(dim) in blocks.dims for dim in shard.dims)

    def _dim(self, dim: int) -> int:
        """The view's dimension for one of the tensor's, if that is not the one split."""
        return dim + (dim > self.split)

    def place(self) -> tuple[slice, ...]:
        """Where the shard lies in the stack of a view that it does not cut."""
        place = [slice(None)] * len(self.blocks.shape)
        box = self.shard.box
        for dim in self.shard.dims:
            if self._dim(dim) not in self.blocks.dims:
                place[self._dim(dim)] = slice(box.start[dim], box.start[dim] + box.size[dim])
        return tuple(place)

    def here(self) -> BlockView:
        """How to view the shard."""
        size = self.shard.box.size
        if self.cut:
            dims = {dim if dim < self.split else dim - 1 for dim in self.blocks.dims}
            return BlockView(size, tuple(sorted(dims - {self.split})))
        shape = list(self.blocks.shape)
        for dim in self.shard.dims:
            shape[self._dim(dim)] = size[dim]
        return BlockView(tuple(shape), self.blocks.dims)

    def stack(self) -> Shape:
        """The shape of a number for each block here."""
        return self.blocks.stack if self.cut else self.here().stack

    def cells(self) -> Tensor:
        """The number of the block that each cell of a cut view belongs to."""
        stack, split = self.blocks.stack, self.split
        numbers = torch.arange(math.prod(stack)).view(stack)
        divided = [*stack[:split], *self.blocks.shape[split : split + 2], *stack[split + 2 :]]
        numbers = numbers.expand(divided).flatten(split, split + 1)
        box, here = self.shard.box, self.here()
        place = [
            slice(None) if dim in here.dims else slice(start, start + size)
            for dim, (start, size) in enumerate(zip(box.start, box.size, strict=True))
        ]
        return numbers[tuple(place)]

    def layout(self) -> Layout:
        """How numbers of blocks lie across the processes: as what they are numbers of."""
        return Layout(self.blocks.stack, tuple(map(self._placed, self.shard.layout.placements)))

    def _placed(self, placed: Any) -> Any:
        from torch.distributed.tensor import Replicate

        if self.cut or placed.is_replicate() or self._dim(placed.dim) in self.blocks.dims:
            return Replicate()
        if self._dim(placed.dim) == placed.dim:
            return placed
        strided = {"split_factor": placed.split_factor} if hasattr(placed, "split_factor") else {}
        return type(placed)(self._dim(placed.dim), **strided)


@cached(256)
def sharded_block_vector_of(
    layer: Layer | None,
    shapes: tuple[Shape, ...],
    view: View,
    shards: tuple[Shard | None, ...],
) -> ShardedBlockVector:
    """The frame of shards of tensors of one layer, or each by its shape; made once."""
    return ShardedBlockVector(layers_for(layer, shapes), shapes, view, shards)
