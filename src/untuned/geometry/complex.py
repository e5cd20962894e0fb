"""Complex tensors, as pairs of reals: a last dimension of two, as `torch.optim` treats them.

A complex matrix A + iB is the real one [[A, -B], [B, A]] of twice as many rows and columns: of the
same shape but for the factor, so of the same radius, and with the same singular values, twice each.
A complex vector is a real one of twice the length, and a neuron one of twice the weights.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from untuned.geometry.layer import BlockView, Layer, Shape, Wrapper
from untuned.geometry.orthogonal import Duals, spectral_duals


def as_real(tensor: Tensor) -> Tensor:
    """A complex tensor as pairs of reals, (*shape, 2), in the same memory; a real one itself."""
    if not tensor.is_complex():
        return tensor
    return torch.view_as_real(tensor.detach().resolve_conj())


@dataclass(frozen=True)
class Complex(Wrapper):
    """A complex layer of any `kind`, whose tensor is seen as pairs, (*shape, 2)."""

    def inner(self, shape: Shape) -> Shape:
        return shape[:-1]

    def blocks(self, shape: Shape) -> BlockView:
        return _paired(self.inside.blocks(self.inner(shape)))

    def neurons(self, shape: Shape) -> BlockView:
        view = self.inside.neurons(self.inner(shape))
        alone = math.prod([view.shape[dim] for dim in view.dims]) == 1
        return BlockView((*view.shape, 2), view.dims) if alone else _paired(view)

    def radius(self, shape: Shape) -> float:
        radius = super().radius(shape)
        return radius if self.multiplies() else math.sqrt(2) * radius

    def inputs(self, shape: Shape) -> float:
        return 2 * super().inputs(shape)

    def by_entry(self, shape: Shape) -> float | None:
        step = super().by_entry(shape)
        return step / 2 if step is not None and self.is_head() else step  # of twice the inputs


def _paired(view: BlockView) -> BlockView:
    return BlockView((*view.shape, 2), (*view.dims, len(view.shape)))


def paired_duals(
    layers: Sequence[Layer], blocks: Sequence[BlockView], tensors: Sequence[Tensor]
) -> Duals:
    """`spectral_duals`; of complex layers' pairs those of the complex matrices.

    Args:
        layers: of the tensors.
        blocks: of the tensors.
        tensors: whole ones, (*shape), or (*shape, 2) of complex layers.
    """
    pairs = [isinstance(layer, Complex) for layer in layers]
    views = [
        BlockView(block.shape[:-1], block.dims[:-1]) if pair else block
        for block, pair in zip(blocks, pairs, strict=True)
    ]
    given = [
        torch.view_as_complex(tensor.contiguous()) if pair else tensor
        for tensor, pair in zip(tensors, pairs, strict=True)
    ]
    directions, norms = spectral_duals(views, given)
    stacks = [block.stack for block in blocks]
    return Duals(list(map(as_real, directions)), list(map(Tensor.view, norms, stacks)))
