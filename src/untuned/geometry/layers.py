"""The geometry of a parameter: what it is made of, and how far a step of unit size reaches.

A layer sees its tensor as a stack of *blocks*, each a linear map of its own, and says for each
the radius of the unit ball: how large, in Frobenius norm, a unit step is. The direction of
steepest descent of unit size is then, block by block,

    dual(g) = radius * g / ||g||_F        and        <g, dual(g)> = radius * ||g||_F,

AGD's gradient-conditioning assumption (arXiv:2304.05187, section 3): the gradient of a layer has
one dominant direction, so that its Frobenius norm is about its spectral norm. Of a gradient of
many directions the step is the smaller in spectral norm.

The radius follows from one wish, the paper's prescription: inputs whose entries have size one
should give outputs whose entries have size one, where the contributions of a convolution's
offsets, being unrelated, add as squares do.

    layer       block                                     radius
    Dense       the matrix, or each of the gates, or      sqrt(fan_out / fan_in)
                each of fused queries, keys and values
    Conv        each of the kx x ky submatrices           sqrt(fan_out / (fan_in kx ky))
    Conv,       each group's filters as one matrix        sqrt(fan_out / fan_in) of the group
      grouped   on patches; depthwise: each filter
    Embedding   each row: the input is one-hot            sqrt(width), or 1 beside a tied one
    Rows        each row of a bare table (1, n, width)    sqrt(width)
    Vector      all entries together                      sqrt(entries)
    Stack       the last two dimensions, each matrix      sqrt(rows / columns)
    Stacked     those of each network of a stack          that layer's
    Head        those of the layer that it is             that layer's

Legend: fan_out, fan_in = d_l, d_(l-1) of the paper; kx, ky = size of the kernel.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from untuned.errors import ParameterError
from untuned.geometry.layer import BlockView, Layer, Shape
from untuned.geometry.orthogonal import random_orthogonal

HEAD = 75.0  # how far a head's outputs may move where those of others move by one


def _split(shape: Shape, dim: int, parts: int) -> Shape:
    """The shape with one dimension in two, (..., parts, size / parts, ...), or a ParameterError."""
    if dim >= len(shape) or shape[dim] % parts:
        raise ParameterError(f"shape {shape} does not divide into {parts} parts along {dim}")
    return (*shape[:dim], parts, shape[dim] // parts, *shape[dim + 1 :])


def _stack(shape: Shape, dim: int, parts: int) -> BlockView:
    """The blocks of a tensor that stacks `parts` equal ones along a dimension."""
    divided = shape if parts == 1 else _split(shape, dim, parts)
    dims = range(len(divided))
    return BlockView(divided, tuple(d for d in dims if parts == 1 or d != dim))


@dataclass(frozen=True)
class _ByEntry(Layer):
    """A tensor of which each entry of a unit step is of size one: no linear map of inputs."""

    def by_entry(self, shape: Shape) -> float | None:
        return 1.0

    def multiplies(self) -> bool:
        return False


@dataclass(frozen=True)
class Dense(Layer):
    """A matrix (fan_out, fan_in), or several of one shape stacked along fan_out.

    Dimensions after the second belong to fan_in (bilinear layers).

    Args:
        parts: the number of matrices: 4 for an LSTM's gates, 3 for fused queries, keys and values.
            Each moves as if it had a tensor of its own.
        transposed: whether the tensor is (fan_in, fan_out).
        inner: whether it is applied to states of its module (recurrent weights), not to inputs.
    """

    parts: int = 1
    transposed: bool = False
    inner: bool = field(default=False, compare=False, repr=False)

    def blocks(self, shape: Shape) -> BlockView:
        return _stack(shape, 1 if self.transposed else 0, self.parts)

    def neurons(self, shape: Shape) -> BlockView:
        return BlockView(shape, (0,)) if self.transposed else super().neurons(shape)

    def radius(self, shape: Shape) -> float:
        fan_out, fan_in = self._fans(shape)
        return math.sqrt(fan_out / self.parts / fan_in)

    def sees_inputs(self) -> bool:
        return not self.inner

    def _fans(self, shape: Shape) -> tuple[int, int]:
        rows, columns = shape[0], math.prod(shape[1:])
        return (columns, rows) if self.transposed else (rows, columns)

    def initialise_(self, weight: Tensor, generator: torch.Generator | None) -> bool:
        shape = tuple(weight.shape)
        stacked = _split(self._fans(shape), 0, self.parts)
        matrix = random_orthogonal(stacked, self.radius(shape), weight, generator).flatten(0, 1)
        weight.copy_((matrix.T if self.transposed else matrix).reshape(shape))
        return True


@dataclass(frozen=True)
class Conv(Layer):
    """Filters (fan_out, fan_in / groups, *kernel), in any number of spatial dimensions.

    Args:
        groups: the number of groups of channels.
        transposed: whether the tensor is (fan_in, fan_out / groups, *kernel).
        stride: the product of a transposed convolution's strides: an output depends on only one
            in `stride` of the kernel's offsets.
    """

    groups: int = 1
    transposed: bool = False
    stride: int = 1

    def blocks(self, shape: Shape) -> BlockView:
        if self.groups == 1 and math.prod(shape[2:]) != 1:
            return BlockView(shape, (0, 1))
        return _stack(shape, 0, self.groups)

    def neurons(self, shape: Shape) -> BlockView:
        if not self.transposed:
            return super().neurons(shape)
        divided = _split(shape, 0, self.groups)  # (groups, fan_in, fan_out, *kernel)
        return BlockView(divided, (1, *range(3, len(divided))))

    def radius(self, shape: Shape) -> float:
        # a group's offsets are one block, so the step that they share is that much longer
        offsets = 1 if self.groups == 1 else math.prod(shape[2:])
        return self._submatrix_radius(shape) * math.sqrt(offsets)

    def _submatrix_radius(self, shape: Shape) -> float:
        first, second = shape[0] / self.groups, shape[1]
        fan_out, fan_in = (second, first) if self.transposed else (first, second)
        return math.sqrt(fan_out / (fan_in * self.offsets(shape)))

    def offsets(self, shape: Shape) -> float:
        return max(1.0, math.prod(shape[2:]) / self.stride)  # kx ky

    def inputs(self, shape: Shape) -> float:
        return (shape[0] / self.groups if self.transposed else shape[1]) * self.offsets(shape)

    def initialise_(self, weight: Tensor, generator: torch.Generator | None) -> bool:
        shape = tuple(weight.shape)
        stacked = (math.prod(shape[2:]), *_split(shape[:2], 0, self.groups))
        submatrices = random_orthogonal(stacked, self._submatrix_radius(shape), weight, generator)
        weight.copy_(submatrices.movedim(0, -1).reshape(shape))
        return True


@dataclass(frozen=True)
class Embedding(_ByEntry):
    """A table (entries, width) whose rows are looked up.

    Args:
        size: the magnitude of a row's entries. One, but width^(-1/2) for tables that are added to
            one that is tied to the output head: the head wants rows of norm one.
        padding: the index of a row that stays zero.
    """

    size: float = 1.0
    padding: int | None = field(default=None, compare=False)

    def blocks(self, shape: Shape) -> BlockView:
        return BlockView(shape, (len(shape) - 1,))

    neurons = blocks

    def radius(self, shape: Shape) -> float:
        return self.size * math.sqrt(shape[-1])

    def initialise_(self, weight: Tensor, generator: torch.Generator | None) -> bool:
        weight.normal_(generator=generator)
        weight.mul_(self.radius(tuple(weight.shape)) / weight.norm(dim=-1, keepdim=True))
        if self.padding is not None:
            weight[self.padding].zero_()
        return True


@dataclass(frozen=True)
class Rows(Embedding):
    """A bare table (1, ..., entries, width), such as positions that are added: rows move alone."""

    def initialise_(self, weight: Tensor, generator: torch.Generator | None) -> bool:
        return False


@dataclass(frozen=True)
class Vector(_ByEntry):
    """Numbers that act on their own: biases, gains, slopes.

    Args:
        parts: the number of vectors of one length in the tensor, such as the biases of gates.
        start: the initial value; None: the tensor's own.
    """

    parts: int = 1
    start: float | None = field(default=None, compare=False)

    def blocks(self, shape: Shape) -> BlockView:
        return _stack(shape, 0, self.parts)

    def neurons(self, shape: Shape) -> BlockView:
        return BlockView(shape, ())  # each entry is a neuron

    def radius(self, shape: Shape) -> float:
        return math.sqrt(math.prod(shape) / self.parts)

    def depth(self) -> int:
        return 0

    def initialise_(self, weight: Tensor, generator: torch.Generator | None) -> bool:
        if self.start is not None:
            weight.fill_(self.start)
        return self.start is not None


def Bias(parts: int = 1) -> Vector:  # noqa: N802 - a kind of layer, named as one
    """A vector that is added: it starts at zero."""
    return Vector(parts, start=0.0)


def Gain() -> Vector:  # noqa: N802
    """A vector that multiplies: it starts at one."""
    return Vector(start=1.0)


@dataclass(frozen=True)
class Stack(Layer):
    """A bare parameter of three or more dimensions: matrices in its last two, (out, in) each."""

    def blocks(self, shape: Shape) -> BlockView:
        return BlockView(shape, (len(shape) - 2, len(shape) - 1))

    def neurons(self, shape: Shape) -> BlockView:
        return BlockView(shape, (len(shape) - 1,))

    def radius(self, shape: Shape) -> float:
        return math.sqrt(shape[-2] / shape[-1])


@dataclass(frozen=True)
class Head(Layer):
    """The last of a network's matrices, a layer of any `kind`: its outputs may be of any size.

    Only `by_entry` differs: an output moves by the entries of a step times the number of inputs,
    so that entries are small where there are many.
    """

    kind: Layer

    def blocks(self, shape: Shape) -> BlockView:
        return self.kind.blocks(shape)

    def neurons(self, shape: Shape) -> BlockView:
        return self.kind.neurons(shape)

    def radius(self, shape: Shape) -> float:
        return self.kind.radius(shape)

    def is_head(self) -> bool:
        return True

    def by_entry(self, shape: Shape) -> float | None:
        return HEAD / self.kind.inputs(shape)

    def initialise_(self, weight: Tensor, generator: torch.Generator | None) -> bool:
        return self.kind.initialise_(weight, generator)
