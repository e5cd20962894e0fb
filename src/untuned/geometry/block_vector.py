"""The blocks of many tensors, side by side in one vector.

A frame is what lets a rule's arithmetic be a handful of operations on a vector, however many
tensors, gates and submatrices there are. It holds shapes, never tensors of the network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from untuned._tensors import TensorCache, cached, compute_dtype, shared_dtype
from untuned.geometry import by_shape
from untuned.geometry.block_norms import RowBatch, norm, row_batches, row_length
from untuned.geometry.layer import BlockView, Layer, Shape, View, matrices


def _radius(layer: Layer, shape: Shape) -> float:
    return layer.radius(shape)


class BlockVector:
    """Where the blocks of each of some tensors stand in the vector (blocks,).

    `view` says what a block is: `matrices` or `neurons`.
    Tensors that are one block come first, so that their norms are one `_foreach_norm`.
    """

    layers: Sequence[Layer]
    shapes: Sequence[Shape]
    blocks: list[BlockView]
    stacks: list[Shape]
    whole: list[int]
    parted: list[int]
    depth: int
    runs: list[RowBatch]

    def __init__(
        self, layers: Sequence[Layer], shapes: Sequence[Shape], view: View = matrices
    ) -> None:
        self.layers, self.shapes = layers, shapes
        self.blocks = [view(layer, shape) for layer, shape in zip(layers, shapes, strict=True)]
        self.stacks = [blocks.stack for blocks in self.blocks]  # shapes of one number a block
        indices = range(len(shapes))
        self.whole = [i for i in indices if self.blocks[i].whole]
        parted = [i for i in indices if not self.blocks[i].whole]
        self.parted = sorted(parted, key=lambda i: row_length(self.blocks[i]))  # alike together
        real = [layer for layer, shape in zip(layers, shapes, strict=True) if math.prod(shape)]
        self.depth = sum(layer.depth() for layer in real)
        self.runs = self._in_runs()
        self._kept = TensorCache()  # so that a step sends nothing from host to device

    @property
    def counts(self) -> list[int]:
        """How many blocks each parted tensor has."""
        return [math.prod(self.stacks[i]) for i in self.parted]

    def owner(self, device: torch.device) -> Tensor:
        """The index of the tensor that each block belongs to, (blocks,)."""

        def make() -> Tensor:
            parted = [i for i, n in zip(self.parted, self.counts, strict=True) for _ in range(n)]
            return torch.tensor([*self.whole, *parted], dtype=torch.int64).to(device)

        return self._kept.found(("owner", device), make)

    def radius(self, like: Tensor) -> Tensor:
        """The radius of each block, (blocks,), in the precision and on the device of `like`."""

        return self.of_layers(_radius, like)

    def of_layers(self, number: Callable[[Layer, Shape], float], like: Tensor) -> Tensor:
        """A number of each block's layer, (blocks,), as precise as `like`, and where that is."""

        def make() -> Tensor:
            # an empty tensor has no step to take, and perhaps no fan to divide by
            numbers = [
                number(layer, shape) if math.prod(shape) else 0.0
                for layer, shape in zip(self.layers, self.shapes, strict=True)
            ]
            each = torch.tensor(numbers, dtype=like.dtype)[self.owner(torch.device("cpu"))]
            return each.to(like.device)

        return self._kept.found((number, like.dtype, like.device), make)

    def norms(self, tensors: Sequence[Tensor]) -> Tensor:
        """The Frobenius norm of each block, (blocks,), in at least 32 bits."""
        dtype = shared_dtype(tensors)
        norms = []
        if self.whole:
            whole = [tensors[i] for i in self.whole]
            norms.append(torch.stack(torch._foreach_norm(whole, 2, dtype)))
        for run in self.runs:
            if len(run.indices) > 1:
                norms.append(norm(run.rows(tensors), (1,), dtype))
                continue
            (i,) = run.indices
            shape, dims = self.blocks[i].shape, self.blocks[i].dims
            norms.append(self.sum_cells(i, norm(tensors[i].view(shape), dims, dtype), root=True))
        return norms[0] if len(norms) == 1 else torch.cat(norms)

    def _in_runs(self) -> list[RowBatch]:
        """The parted tensors, in order; small ones, if alike, in runs."""
        lengths = [0 if self.is_divided(i) else row_length(self.blocks[i]) for i in self.parted]
        return row_batches(self.parted, self.counts, lengths, len(self.whole))

    @property
    def unsharded(self) -> BlockVector:
        """The frame of the whole tensors, where this is one of the parts held here."""
        return self

    def local_entries(self, vector: Tensor) -> Tensor:
        """Of numbers of all blocks of the network, (all,), those of the blocks here, (blocks,)."""
        return vector

    def shard_counts(self, device: torch.device) -> Tensor | float:
        """Of how many parts the tensor of each block is one, (blocks,)."""
        return 1.0

    def scatter(self, sums: Tensor) -> Tensor:
        """What the parts here add to sums over whole blocks, (all,), as they are to be joined."""
        return sums

    def local_numbers(self, index: int, value: Tensor) -> Tensor:
        """Of numbers of a tensor's blocks, of its stack's shape, those of the blocks here."""
        return value

    def is_divided(self, index: int) -> bool:
        """Whether processes may hold parts of the same blocks of a tensor."""
        return False

    def entries(self, index: int) -> int:
        """How many entries each block of a tensor has, wherever they are."""
        blocks = self.unsharded.blocks[index]
        return math.prod(blocks.shape[dim] for dim in blocks.dims)

    def sum_cells(self, index: int, numbers: Tensor, root: bool = False) -> Tensor:
        """Numbers of the stack that a tensor is viewed as, flat, as those of its blocks.

        They are sums over entries, or square roots of such.
        """
        return numbers

    def dots(self, tensors: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
        """The inner product of each block with its counterpart, (blocks,), in at least 32 bits."""
        dots = []
        for i in (*self.whole, *self.parted):
            one, other = (
                tensor.to(compute_dtype(tensors[i])) for tensor in (tensors[i], others[i])
            )
            if self.blocks[i].whole:
                dots.append(torch.dot(one.flatten(), other.flatten())[None])
            else:
                shape, dims = self.blocks[i].shape, self.blocks[i].dims
                product = one.view(shape) * other.view(shape)
                sums = (product.sum(dims) if dims else product).flatten()
                dots.append(self.sum_cells(i, sums))
        return torch.cat(dots)

    def gather(self, tensors: Sequence[Tensor]) -> Tensor:
        """One vector (blocks,) of what `spread` would give: a number for each block."""
        return torch.cat([tensors[i].flatten() for i in (*self.whole, *self.parted)])

    def mean(self, vector: Tensor) -> Tensor:
        """The mean over each tensor's blocks, (tensors,)."""
        counts = vector.new_tensor([math.prod(stack) for stack in self.stacks])
        sums = vector.new_zeros(len(self.shapes)).index_add(0, self.owner(vector.device), vector)
        return sums / counts.clamp(min=1)

    def dual(self, norms: Tensor) -> Tensor:
        """What to multiply each block of the gradient with, for the unit step: (blocks,).

        `dual(g) = radius * g / ||g||`, and nothing at all where the gradient is zero.
        """
        return torch.nan_to_num(self.radius(norms) / norms, nan=0.0, posinf=0.0)

    def spread(self, vector: Tensor) -> list[Tensor]:
        """Numbers of blocks, (blocks,), as one tensor for each, of the shape of its stack."""
        whole = vector[: len(self.whole)].unbind()
        if not self.parted:
            return list(whole)
        spread = dict(zip(self.whole, whole, strict=True))
        parted = vector[len(self.whole) :].split(self.counts)
        for i, numbers in zip(self.parted, parted, strict=True):
            spread[i] = numbers.view(self.stacks[i])
        return [spread[i] for i in range(len(self.shapes))]

    def per_view(self, vector: Tensor) -> list[Tensor]:
        """Numbers of blocks, (blocks,), as one tensor for each that broadcasts to its `views`."""
        return self.spread(vector)

    def view(self, index: int, tensor: Tensor) -> Tensor:
        """A tensor, viewed so that its blocks are dimensions of their own."""
        blocks = self.blocks[index]
        return tensor if blocks.whole else tensor.view(blocks.shape)

    def views(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The tensors, each viewed so that its blocks are dimensions of their own."""
        views = list(tensors)
        for i in self.parted:
            views[i] = views[i].view(self.blocks[i].shape)
        return views


def layers_for(layer: Layer | None, shapes: Sequence[Shape]) -> list[Layer]:
    """The layer of all, or each tensor's by its shape."""
    return [layer or by_shape(tuple(shape)) for shape in shapes]


@cached(256)
def block_vector_of(
    layer: Layer | None, shapes: tuple[Shape, ...], view: View = matrices
) -> BlockVector:
    """The frame of tensors of one layer, or each by its shape; made once, then looked up."""
    return BlockVector(layers_for(layer, shapes), shapes, view)


def depth(frames: Iterable[BlockVector]) -> int:
    """L: how many layers the network has; where nothing is a matrix, each tensor is a layer."""
    frames = list(frames)
    return sum(frame.depth for frame in frames) or sum(len(frame.shapes) for frame in frames)
