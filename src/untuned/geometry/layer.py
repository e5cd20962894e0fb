"""What a layer is: the geometry of one parameter tensor, and how a tensor falls into blocks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from untuned.errors import ParameterError

Shape = tuple[int, ...]


class BlockView(NamedTuple):
    """How to see a tensor as blocks: view it in `shape`; each block spans `dims` of that."""

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


def split(shape: Shape, dim: int, parts: int) -> Shape:
    """The shape with dimension `dim` in `parts` equal parts: (..., parts, size / parts, ...)."""
    if dim >= len(shape) or shape[dim] % parts:
        raise ParameterError(f"shape {shape} does not divide into {parts} parts along {dim}")
    return (*shape[:dim], parts, shape[dim] // parts, *shape[dim + 1 :])


@dataclass(frozen=True)
class Layer:
    """The geometry of one parameter tensor. Shapes are global where tensors are sharded."""

    def blocks(self, shape: Shape) -> BlockView:
        """How a tensor of this shape falls into blocks; by default it is one."""
        return BlockView(shape, tuple(range(len(shape))))

    def radius(self, shape: Shape) -> float:
        """The Frobenius norm of a unit step in each block."""
        raise NotImplementedError

    def offsets(self, shape: Shape) -> float:
        """How many contributions that `radius` takes for unrelated make an output: a kernel's."""
        return 1.0

    def neurons(self, shape: Shape) -> BlockView:
        """How the tensor falls into neurons, each the weights of one output: by default rows."""
        return BlockView(shape, tuple(range(1, len(shape))))

    def inputs(self, shape: Shape) -> float:
        """How many inputs an output hears."""
        neurons = self.neurons(shape)
        return math.prod(neurons.shape[dim] for dim in neurons.dims)

    def by_entry(self, shape: Shape) -> float | None:
        """The size of each entry of a unit step, for what moves entry by entry, as Adam does.

        None, the default, for what moves as a matrix, by singular values (`spectral.py`).
        """
        return None

    def multiplies(self) -> bool:
        """Whether outputs grow as the tensor does, and inputs may be data."""
        return True

    def depth(self) -> int:
        """How many of the paper's layers the tensor is; biases and gains belong to another."""
        return 1

    def initialise_(self, weight: Tensor, generator: torch.Generator | None) -> bool:
        """Fill `weight` in place on the surface of the ball; False if there is no saying how."""
        return False


View = Callable[[Layer, Shape], BlockView]


def matrices(layer: Layer, shape: Shape) -> BlockView:
    """The view in which a block is a matrix (or gate, or submatrix)."""
    return layer.blocks(shape)


def neurons(layer: Layer, shape: Shape) -> BlockView:
    """The view in which a block is the weights of one output."""
    return layer.neurons(shape)


def random_orthogonal(
    shape: Shape, radius: float, like: Tensor, generator: torch.Generator | None
) -> Tensor:
    """Random orthogonal matrices (..., rows, columns) times `radius`, on the device of `like`.

    Uniform over the orthogonal matrices: Q of a Gaussian matrix's QR, its signs those of R's
    diagonal. Rows are orthonormal where there are fewer of them, else columns.
    """
    *stack, rows, columns = shape
    normal = torch.randn(
        (*stack, max(rows, columns), min(rows, columns)),
        dtype=torch.promote_types(like.dtype, torch.float32),  # no QR in half precision
        device=like.device,
        generator=generator,
    )
    Q, R = torch.linalg.qr(normal)
    signs = torch.where(R.diagonal(dim1=-2, dim2=-1) < 0, -radius, radius)
    matrices: Tensor = Q * signs.unsqueeze(-2)
    return matrices if rows >= columns else matrices.mT
