"""`BlockVector`s of the local shards of tensors."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from untuned._tensors import cached, integers
from untuned.distributed.exchange import Exchange
from untuned.distributed.shards import Layout, Shard, Shards
from untuned.geometry.block_vector import BlockVector, View
from untuned.geometry.layer import BlockView, Layer, Shape


class ShardedBlockVector(BlockVector):
    """The blocks of which this rank has entries, seen through its local shards.

    Norms and inner products are then partial sums, to be all-reduced (`all_reduce.py`). Where a
    tensor is sharded along a dimension that its blocks divide (fused queries, keys and values over
    rows), shards end amid blocks: the local view then has a *cell* for each place along it, and
    all blocks of the tensor count as local.
    """

    def __init__(
        self, layers: Sequence[Layer], shapes: Sequence[Shape], view: View, shards: Shards
    ) -> None:
        self._views: dict[int, _LocalView] = {}
        super().__init__(layers, shapes, view)
        self.shards: Shards = shards
        self.unsharded: BlockVector = BlockVector(layers, shapes, view)
        self._total = len(self.whole) + sum(self.counts)
        self._exchanges: dict[tuple[int, ...], Exchange] = {}
        self._cells: dict[int, list[int]] = {}  # the number of each cell's block in its tensor
        for i, shard in enumerate(shards):
            if shard is not None:
                seen = self._views[i] = _LocalView(shard, self.blocks[i])
                self.blocks[i], self.stacks[i] = seen.view, seen.stack
                if seen.cut:
                    self._cells[i] = seen.cells().flatten().tolist()
        self._see(self.blocks, self.stacks)
        numbers = self.unsharded.spread(torch.arange(self._total))
        here = [self.local_numbers(i, number) for i, number in enumerate(numbers)]
        self._local: list[int] = self.gather(here).tolist()  # the global number of each local block

    def _numbers(self, key: Any, numbers: list[int], device: torch.device) -> Tensor:
        """Integers as a tensor on a device, cached here: there may be one for every neuron."""
        return self._constants.found((key, device), lambda: torch.tensor(numbers).long().to(device))

    def local_entries(self, vector: Tensor) -> Tensor:
        return vector[self._numbers("local", self._local, vector.device)]

    def shard_counts(self, device: torch.device) -> Tensor:
        each = [1 if shard is None else shard.parts for shard in self.shards]
        return integers(each, device)[self.owner(device)]

    def scatter(self, sums: Tensor) -> Tensor:
        local = self._numbers("local", self._local, sums.device)
        sums = sums * self.shard_counts(sums.device)
        return sums.new_zeros(self._total).index_add(0, local, sums)

    def local_numbers(self, index: int, value: Tensor) -> Tensor:
        seen = self._views.get(index)
        if seen is None or seen.cut or value.shape != self.unsharded.stacks[index]:
            return value
        return value[seen.place].clone()

    def exchange(self, indices: Sequence[int]) -> Exchange:
        """The `Exchange` of some of the sharded tensors; cached, the first call a collective."""
        key = tuple(indices)
        if key not in self._exchanges:
            shards = [shard for i in key if (shard := self.shards[i]) is not None]
            self._exchanges[key] = Exchange(shards)
        return self._exchanges[key]

    def layout(self, index: int) -> Layout:
        """The layout of a sharded tensor's per-block numbers, which lie as its blocks do."""
        seen = self._views[index]
        return Layout(seen.blocks.stack, tuple(map(seen.placed, seen.shard.layout.placements)))

    def is_divided(self, index: int) -> bool:
        return index in self._views and self._views[index].divided

    def sum_cells(self, index: int, numbers: Tensor, root: bool = False) -> Tensor:
        if index not in self._cells:
            return numbers
        sums = numbers.new_zeros(math.prod(self.stacks[index]))
        cells = self._numbers(index, self._cells[index], numbers.device)
        sums.index_add_(0, cells, numbers.square() if root else numbers)
        return sums.sqrt() if root else sums

    def per_view(self, vector: Tensor) -> list[Tensor]:
        each = super().per_view(vector)
        for i, cells in self._cells.items():
            numbers = each[i].flatten()[self._numbers(i, cells, vector.device)]
            each[i] = numbers.view(self.blocks[i].stack)
        return each


class _LocalView:
    """The blocks of a tensor, seen in its local shard.

    The view of the whole tensor, `blocks`, may divide one of its dimensions in two, `split`. Where
    the tensor is sharded along that one, the local view is `cut`. Blocks are `divided` where
    several ranks may have entries of one. `stack`: the shape of one number for each local block.
    """

    def __init__(self, shard: Shard, blocks: BlockView) -> None:
        self.shard, self.blocks = shard, blocks
        shape, size, last = shard.layout.shape, shard.box.size, len(shard.box.size) - 1
        differ = [dim for dim in range(last + 1) if blocks.shape[dim] != shape[dim]]
        self.split = min([*differ, last]) if len(blocks.shape) > len(shape) else len(shape)
        self.cut = self.split in shard.dims
        self.divided = self.cut or any(self._dim(dim) in blocks.dims for dim in shard.dims)
        if self.cut:
            dims = {dim if dim < self.split else dim - 1 for dim in blocks.dims}
            self.view = BlockView(size, tuple(sorted(dims - {self.split})))
        else:
            seen = list(blocks.shape)
            for dim in shard.dims:
                seen[self._dim(dim)] = size[dim]
            self.view = BlockView(tuple(seen), blocks.dims)
        self.stack = blocks.stack if self.cut else self.view.stack

    def _dim(self, dim: int) -> int:
        """The view's dimension for one of the tensor's, if that is not the one split."""
        return dim + (dim > self.split)

    @property
    def place(self) -> tuple[slice, ...]:
        """The index of the local blocks in the stack of all, where the view is not cut."""
        place = [slice(None)] * len(self.blocks.shape)
        for dim in self.shard.dims:
            if self._dim(dim) not in self.blocks.dims:
                place[self._dim(dim)] = self.shard.box.place[dim]
        return tuple(place)

    def cells(self) -> Tensor:
        """The number of the block that each cell of a cut view belongs to."""
        stack, split = self.blocks.stack, self.split
        numbers = torch.arange(math.prod(stack)).view(stack)
        divided = [*stack[:split], *self.blocks.shape[split : split + 2], *stack[split + 2 :]]
        numbers = numbers.expand(divided).flatten(split, split + 1)
        places = enumerate(self.shard.box.place)
        return numbers[tuple(slice(None) if d in self.view.dims else at for d, at in places)]

    def placed(self, placed: Any) -> Any:
        """The placement of per-block numbers for one of the tensor's."""
        from torch.distributed.tensor import Replicate

        if self.cut or placed.is_replicate() or self._dim(placed.dim) in self.blocks.dims:
            return Replicate()
        if self._dim(placed.dim) == placed.dim:
            return placed
        strided = {"split_factor": placed.split_factor} if hasattr(placed, "split_factor") else {}
        return type(placed)(self._dim(placed.dim), **strided)


@cached(256)
def block_vector_of(
    layers: tuple[Layer, ...],
    shapes: tuple[Shape, ...],
    view: View,
    shards: tuple[Shard | None, ...],
) -> BlockVector:
    """The `BlockVector` of tensors (global shapes) ; cached."""
    if any(shards):
        return ShardedBlockVector(layers, shapes, view, shards)
    return BlockVector(layers, shapes, view)
