"""Directions of which every singular value is one: the dual of the spectral norm.

Of G = U S V^T that is U V^T, up to the rounding of its singular values into [0.7, 1.2]: five steps
of the odd polynomial that Jordan et al. (2024, kellerjordan.github.io/posts/muon) found by search,

    X <- a X + (b A + c A^2) X,   A = X X^T,

which lifts small singular values quickly and lets those near one wander about it. Only products of
matrices, of all matrices of one shape at a time; in 16 bits where a GPU has cores for them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from untuned.geometry.layer import BlockView

A, B, C = 3.4445, -4.7750, 2.0315
STEPS = 5


def orthogonalise(matrices: Tensor) -> Tensor:
    """U V^T of each of (count, rows, columns), roughly; zero of zero."""
    wide = matrices.shape[1] <= matrices.shape[2]
    X = matrices if wide else matrices.mT
    tiny = torch.finfo(X.dtype).tiny
    X = X / X.abs().amax((1, 2), keepdim=True).clamp_min(tiny)  # or squares may vanish
    X = X / torch.linalg.matrix_norm(X, keepdim=True).clamp_min(tiny)
    if X.is_cuda:
        X = X.bfloat16()
    for _ in range(STEPS):
        S = X @ X.mT
        X = torch.baddbmm(X, torch.baddbmm(S, S, S, beta=B, alpha=C), X, beta=A)
    directions: Tensor = X if wide else X.mT
    return directions.to(matrices.dtype)


class Duals(NamedTuple):
    """Of some of a frame's tensors."""

    directions: list[Tensor]  # of their shapes
    norms: list[Tensor]  # Frobenius norms of the tensors' blocks, of the shapes of their stacks


def spectral_duals(blocks: Sequence[BlockView], tensors: Sequence[Tensor]) -> Duals:
    """`orthogonalise` of each block of whole tensors; blocks of one shape go together.

    A block of more than two dimensions is a matrix of its first by all others.
    """
    stacks = [_stack(own, tensor) for own, tensor in zip(blocks, tensors, strict=True)]
    norms = [
        torch.linalg.matrix_norm(stack).view(own.stack)
        for own, stack in zip(blocks, stacks, strict=True)
    ]
    together: dict[tuple[object, ...], list[int]] = {}
    for place, stack in enumerate(stacks):
        together.setdefault((stack.dtype, *stack.shape[1:]), []).append(place)
    for places in together.values():
        batch = orthogonalise(torch.cat([stacks[place] for place in places]))
        parts = batch.split([len(stacks[place]) for place in places])
        for place, part in zip(places, parts, strict=True):
            stacks[place] = part
    made = zip(blocks, stacks, tensors, strict=True)
    return Duals([_unstacked(own, stack, tensor) for own, stack, tensor in made], norms)


def _order(blocks: BlockView) -> list[int]:
    """The dimensions of a view, those that blocks do not span first."""
    others = [dim for dim in range(len(blocks.shape)) if dim not in blocks.dims]
    return [*others, *blocks.dims]


def _stack(blocks: BlockView, tensor: Tensor) -> Tensor:
    """The blocks of a tensor as (blocks, rows, columns)."""
    rows = blocks.shape[blocks.dims[0]]
    columns = math.prod(blocks.shape[dim] for dim in blocks.dims[1:])
    return tensor.reshape(blocks.shape).permute(_order(blocks)).reshape(-1, rows, columns)


def _unstacked(blocks: BlockView, stack: Tensor, like: Tensor) -> Tensor:
    """The tensor of which these are the blocks."""
    order = _order(blocks)
    back = [order.index(dim) for dim in range(len(order))]
    return stack.view([blocks.shape[dim] for dim in order]).permute(back).reshape(like.shape)
