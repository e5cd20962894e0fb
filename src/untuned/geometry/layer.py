"""What a layer is: the geometry of one parameter tensor, and how a tensor falls into blocks."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from untuned.geometry.block_norms import dual_factors, norm

Shape = tuple[int, ...]


class BlockView(NamedTuple):
    """A tensor seen as blocks.

    Attributes:
        shape: to view the tensor in.
        dims: the dimensions of the view that each block spans.
    """

    shape: Shape
    dims: tuple[int, ...]

    @property
    def stack(self) -> Shape:
        """The view's shape with the blocks' own dimensions as 1: what broadcasts against it."""
        return tuple(1 if dim in self.dims else size for dim, size in enumerate(self.shape))

    @property
    def whole(self) -> bool:
        """Whether the tensor is a single block."""
        return len(self.dims) == len(self.shape)


@dataclass(frozen=True)
class Layer:
    """The geometry of one parameter tensor. Shapes are global where tensors are sharded."""

    def of_shape(self, shape: Shape) -> "Layer":
        """The geometry of one tensor of a group, where the group's is of several kinds."""
        return self

    def blocks(self, shape: Shape) -> BlockView:
        """The view of a tensor as blocks, each a linear map; by default one block."""
        return BlockView(shape, tuple(range(len(shape))))

    def radius(self, shape: Shape) -> float:
        """The Frobenius norm of a unit step in each block."""
        raise NotImplementedError

    def dual(self, grad: Tensor) -> Tensor:
        """The unit-size direction of steepest descent, for the gradient of the whole tensor.

        `radius * g / ||g||_F`, block by block; zero where the gradient is zero.
        """
        if not grad.numel():
            return grad.clone()
        shape, dtype = tuple(grad.shape), torch.promote_types(grad.dtype, torch.float32)
        view = self.blocks(shape)
        blocks = grad.reshape(view.shape)
        norms = norm(blocks, view.dims, dtype).view(view.stack)
        return (blocks * dual_factors(self.radius(shape), norms)).view(shape).to(grad.dtype)

    def offsets(self, shape: Shape) -> float:
        """The number of summands of an output that `radius` takes for unrelated (of a kernel)."""
        return 1.0

    def neurons(self, shape: Shape) -> BlockView:
        """The view in which a block is the weights of one output: by default rows."""
        return BlockView(shape, tuple(range(1, len(shape))))

    def inputs(self, shape: Shape) -> float:
        """The fan-in: the number of inputs that an output depends on."""
        view = self.neurons(shape)
        return math.prod(view.shape[dim] for dim in view.dims)

    def by_entry(self, shape: Shape) -> float | None:
        """The magnitude of each entry of a unit step, for tensors that move as under Adam.

        None, the default: the tensor moves as a matrix, by its singular values (`orthogonal.py`).
        """
        return None

    def multiplies(self) -> bool:
        """Whether outputs scale with the tensor, so that its inputs may be data."""
        return True

    def sees_inputs(self) -> bool:
        """Whether it is applied to what its module is called with, not to a state of the module."""
        return self.multiplies()

    def is_head(self) -> bool:
        """Whether it is the last of a network's matrices."""
        return False

    def depth(self) -> int:
        """How many of the paper's L layers the tensor counts for; 0 for biases and gains."""
        return 1

    def initialise_(self, weight: Tensor, generator: torch.Generator | None) -> bool:
        """Fill a weight in place, with blocks of Frobenius norm `radius` or alike.

        Args:
            weight: the whole tensor.
            generator: of random numbers, on the weight's device; None: torch's own.

        Returns:
            False, and the weight unchanged, if the layer defines no initialisation.
        """
        return False


@dataclass(frozen=True)
class Wrapper(Layer):
    """A layer of another kind, whose tensor is seen with one dimension more.

    Args:
        kind: the other layer, whose answers are this one's, but for what a subclass changes.
    """

    kind: Layer | None = None

    def inner(self, shape: Shape) -> Shape:
        """The shape of the other layer's tensor."""
        raise NotImplementedError

    @property
    def inside(self) -> Layer:
        """The other layer, which is known: an optimizer asks for `of_shape` first."""
        assert self.kind is not None
        return self.kind

    def radius(self, shape: Shape) -> float:
        return self.inside.radius(self.inner(shape))

    def offsets(self, shape: Shape) -> float:
        return self.inside.offsets(self.inner(shape))

    def inputs(self, shape: Shape) -> float:
        return self.inside.inputs(self.inner(shape))

    def by_entry(self, shape: Shape) -> float | None:
        return self.inside.by_entry(self.inner(shape))

    def multiplies(self) -> bool:
        return self.inside.multiplies()

    def sees_inputs(self) -> bool:
        return self.inside.sees_inputs()

    def is_head(self) -> bool:
        return self.inside.is_head()

    def depth(self) -> int:
        return self.inside.depth()
