"""The blocks of many tensors, concatenated into one vector (blocks,).

So a rule's arithmetic is a handful of operations on a vector, however many tensors, gates and
submatrices there are. A `BlockVector` holds shapes and constants, never tensors of the network.
"""

import math
from collections.abc import Callable, Sequence
from operator import attrgetter

import torch
from torch import Tensor
from torch._utils import _flatten_dense_tensors

from untuned._tensors import TensorCache, compute_dtype, shared_dtype
from untuned.geometry.block_norms import RowBatch, dual_factors, norm, row_batches, row_length
from untuned.geometry.layer import BlockView, Layer, Shape

View = Callable[[Layer, Shape], BlockView]


def matrices(layer: Layer, shape: Shape) -> BlockView:
    """The view in which a block is a matrix (or gate, or submatrix)."""
    return layer.blocks(shape)


def neurons(layer: Layer, shape: Shape) -> BlockView:
    """The view in which a block is the weights of one output."""
    return layer.neurons(shape)


def _radius(layer: Layer, shape: Shape) -> float:
    return layer.radius(shape)


class BlockVector:
    """The place of each tensor's blocks in the vector (blocks,); `shapes` are global.

    Tensors that are a single block (`whole`) come first, so that their norms are one
    `_foreach_norm`; then those of several blocks (`parted`).
    """

    def __init__(
        self, layers: Sequence[Layer], shapes: Sequence[Shape], view: View = matrices
    ) -> None:
        self.layers: Sequence[Layer] = layers
        self.shapes: Sequence[Shape] = shapes
        self.unsharded: BlockVector = self  # of the global tensors, where this one is of shards
        blocks = [view(layer, shape) for layer, shape in zip(layers, shapes, strict=True)]
        lengths = [row_length(*block) for block in blocks]
        indices = range(len(shapes))
        self.whole: list[int] = [i for i in indices if blocks[i].whole]
        # tensors that can share a batch follow each other
        self.parted: list[int] = sorted(set(indices) - {*self.whole}, key=lambda i: (lengths[i], i))
        self._order = [*self.whole, *self.parted]
        self._place = sorted(indices, key=self._order.__getitem__)  # of each tensor in `_order`
        pairs = zip(layers, shapes, strict=True)
        self.depth: int = sum(layer.depth() for layer, shape in pairs if math.prod(shape))
        self._entries = [math.prod([block.shape[dim] for dim in block.dims]) for block in blocks]
        self._constants = TensorCache()  # so that a step copies nothing from host to device
        self._choices: dict[Callable[[Layer, Shape], float], tuple[bool, ...]] = {}
        self._see(blocks, [block.stack for block in blocks])

    def _see(self, blocks: list[BlockView], stacks: list[Shape]) -> None:
        """View tensors as `blocks`; `stacks` are the shapes of one number for each block."""
        self.blocks: list[BlockView] = blocks
        self.stacks: list[Shape] = stacks
        self.counts: list[int] = [math.prod(stacks[i]) for i in self.parted]
        lengths = [0 if self.is_divided(i) else row_length(*blocks[i]) for i in self.parted]
        self.runs: list[RowBatch] = row_batches(self.parted, self.counts, lengths, len(self.whole))

    def owner(self, device: torch.device) -> Tensor:
        """The index of the tensor that each block belongs to, int64 (blocks,)."""
        owner = self._constants.get(device)
        if owner is None or type(torch.empty(0)) is not Tensor:  # no fake tensor is cached
            parted = [i for i, n in zip(self.parted, self.counts, strict=True) for _ in range(n)]
            owner = torch.tensor([*self.whole, *parted], dtype=torch.int64).to(device)
            if type(owner) is Tensor:
                self._constants[device] = owner
        return owner

    def radius(self, like: Tensor) -> Tensor:
        """The radius of each block, (blocks,), with the dtype and device of `like`."""
        return self.of_layers(_radius, like)

    def layers_with(self, number: Callable[[Layer, Shape], float]) -> tuple[bool, ...]:
        """Whether a number of each tensor's layer is not zero; cached as in `of_layers`."""
        found = self._choices.get(number)
        if found is None:
            pairs = zip(self.layers, self.shapes, strict=True)
            found = tuple([number(layer, shape) != 0 for layer, shape in pairs])
            self._choices[number] = found
        return found

    def of_layers(self, number: Callable[[Layer, Shape], float], like: Tensor) -> Tensor:
        """A number of each block's layer, (blocks,), with the dtype and device of `like`.

        `number` is a key of the cache: a function of a module.
        """
        key = (number, like.dtype, like.device)
        each = self._constants.get(key)
        if each is None or type(like) is not Tensor:
            # an empty tensor has no step to take, and perhaps no fan to divide by
            numbers = [
                number(layer, shape) if math.prod(shape) else 0.0
                for layer, shape in zip(self.layers, self.shapes, strict=True)
            ]
            each = torch.tensor(numbers, dtype=like.dtype)[self.owner(torch.device("cpu"))]
            each = each.to(like.device)
            if type(each) is Tensor:
                self._constants[key] = each
        return each

    def norms(self, tensors: Sequence[Tensor]) -> Tensor:
        """The Frobenius norm of each block, (blocks,), in float32 or float64."""
        dtype, norms = shared_dtype(tensors), []
        if self.whole:
            whole = list(map(tensors.__getitem__, self.whole))
            norms.append(torch.stack(torch._foreach_norm(whole, 2, dtype)))
        for run in self.runs:
            if len(run.indices) > 1:
                norms.append(norm(run.rows(tensors), (1,), dtype))
                continue
            (i,) = run.indices
            shape, dims = self.blocks[i]
            norms.append(self.sum_cells(i, norm(tensors[i].view(shape), dims, dtype), root=True))
        return norms[0] if len(norms) == 1 else torch.cat(norms)

    def local_entries(self, vector: Tensor) -> Tensor:
        """Entries of the global block vector, (all,), for the blocks of this rank, (blocks,)."""
        return vector

    def shard_counts(self, device: torch.device) -> Tensor | float:
        """The number of different shards of each block's tensor, (blocks,)."""
        return 1.0

    def scatter(self, sums: Tensor) -> Tensor:
        """This rank's partial per-block sums in the global block vector (all,), to all-reduce."""
        return sums

    def local_numbers(self, index: int, value: Tensor) -> Tensor:
        """Numbers of one tensor's blocks, of the global stack's shape, for those of this rank."""
        return value

    def is_divided(self, index: int) -> bool:
        """Whether several ranks may hold parts of one block of a tensor."""
        return False

    def entries(self, index: int) -> int:
        """The number of entries of each block of a tensor, on all ranks together."""
        return self._entries[index]

    def sum_cells(self, index: int, numbers: Tensor, root: bool = False) -> Tensor:
        """Per-block sums (or roots of sums of squares) from those of a view's cells, flat."""
        return numbers

    def dots(self, tensors: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
        """The inner products of blocks of `tensors` and `others`, (blocks,), in >= 32 bits."""
        given = set(map(attrgetter("dtype"), (*tensors, *others)))
        if given != {torch.float32} and given != {torch.float64}:
            dtypes = list(map(compute_dtype, tensors))
            tensors, others = (list(map(Tensor.to, each, dtypes)) for each in (tensors, others))
        one = map(torch.flatten, map(tensors.__getitem__, self.whole))
        dots = list(map(torch.dot, one, map(torch.flatten, map(others.__getitem__, self.whole))))
        for i in self.parted:
            shape, dims = self.blocks[i]
            product = tensors[i].view(shape) * others[i].view(shape)
            dots.append(self.sum_cells(i, (product.sum(dims) if dims else product).flatten()))
        return _flatten_dense_tensors(dots)  # type: ignore[no-any-return]

    def gather(self, tensors: Sequence[Tensor]) -> Tensor:
        """The inverse of `spread`: numbers of blocks, one tensor each, as a vector (blocks,)."""
        ordered = list(map(tensors.__getitem__, self._order))
        return _flatten_dense_tensors(ordered)  # type: ignore[no-any-return]

    def mean(self, vector: Tensor) -> Tensor:
        """The mean over each tensor's blocks, (tensors,)."""
        counts = vector.new_tensor([math.prod(stack) for stack in self.stacks])
        sums = vector.new_zeros(len(self.shapes)).index_add(0, self.owner(vector.device), vector)
        return sums / counts.clamp(min=1)

    def dual(self, norms: Tensor) -> Tensor:
        """What each block of the gradient is multiplied by to become `Layer.dual`, (blocks,)."""
        return dual_factors(self.radius(norms), norms)

    def spread(self, vector: Tensor) -> list[Tensor]:
        """Numbers of blocks, (blocks,), as one tensor each, of the shape of its stack."""
        each = list(vector[: len(self.whole)].unbind())
        if not self.parted:
            return each
        parted = vector[len(self.whole) :].split(self.counts)
        each += map(torch.Tensor.view, parted, map(self.stacks.__getitem__, self.parted))
        return list(map(each.__getitem__, self._place))

    def per_view(self, vector: Tensor) -> list[Tensor]:
        """Numbers of blocks, (blocks,), as one tensor each that broadcasts to its `view`."""
        return self.spread(vector)

    def view(self, index: int, tensor: Tensor) -> Tensor:
        """The tensor of an index, viewed with its blocks as dimensions of their own."""
        shape, dims = self.blocks[index]
        return tensor if len(dims) == len(shape) else tensor.view(shape)

    def views(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The `view` of every tensor."""
        views = list(tensors)
        for i in self.parted:
            views[i] = views[i].view(self.blocks[i].shape)
        return views


def depth(vectors: Sequence[BlockVector]) -> int:
    """L: the number of layers of the network; the number of tensors if it has no matrix."""
    tensors = sum(map(len, map(attrgetter("shapes"), vectors)))
    return sum(map(attrgetter("depth"), vectors)) or tensors
