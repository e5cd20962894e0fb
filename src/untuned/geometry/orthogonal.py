"""Directions of which every singular value is one: the dual of the spectral norm.

Of G = U S V^T that is U V^T, up to the rounding of its singular values into [0.7, 1.2]: five steps
of the odd polynomial that Jordan et al. (2024, kellerjordan.github.io/posts/muon) found by search,

    X <- a X + (b A + c A^2) X,   A = X X^T,

which lifts small singular values quickly and lets those near one wander about it. Only products of
matrices, of all matrices of one shape at a time; in 16 bits where a GPU has cores for them.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from untuned.geometry.layer import BlockView, Shape

A, B, C = 3.4445, -4.7750, 2.0315
ITERATIONS = 5


def orthogonalise(matrices: Tensor) -> Tensor:
    """U V^T of each of (count, rows, columns), roughly; zero of zero. Of complex ones U V^H."""
    wide = matrices.shape[1] <= matrices.shape[2]
    X = matrices if wide else matrices.mH
    tiny = torch.finfo(X.dtype).tiny
    X = X / X.abs().amax((1, 2), keepdim=True).clamp_min(tiny)  # or squares may vanish
    X = X / torch.linalg.matrix_norm(X, keepdim=True).clamp_min(tiny)
    if X.is_cuda and not X.is_complex():
        X = X.bfloat16()
    for _ in range(ITERATIONS):
        S = X @ X.mH
        X = torch.baddbmm(X, torch.baddbmm(S, S, S, beta=B, alpha=C), X, beta=A)
    directions: Tensor = X if wide else X.mH
    return directions.to(matrices.dtype)


class Duals(NamedTuple):
    """Spectral duals of some tensors."""

    directions: list[Tensor]  # U V^T of each block, of the tensors' shapes
    norms: list[Tensor]  # Frobenius norms of the tensors' blocks, of the shapes of their stacks


def spectral_duals(blocks: Sequence[BlockView], tensors: Sequence[Tensor]) -> Duals:
    """`orthogonalise` each block of whole tensors, batched over blocks of one shape.

    A block of more than two dimensions is a matrix of its first by all others.
    """
    stacks = list(map(_to_matrices, blocks, tensors))
    norms = list(map(torch.linalg.matrix_norm, stacks))
    batches: dict[tuple[object, ...], list[int]] = {}
    for place, stack in enumerate(stacks):
        norms[place] = norms[place].view(blocks[place].stack)
        batches.setdefault((stack.dtype, *stack.shape[1:]), []).append(place)
    for places in batches.values():
        batch = list(map(stacks.__getitem__, places))
        parts = orthogonalise(torch.cat(batch)).split(list(map(len, batch)))
        for place, part in zip(places, parts, strict=True):
            stacks[place] = _from_matrices(blocks[place], part).reshape(tensors[place].shape)
    return Duals(stacks, norms)


def _to_matrices(view: BlockView, tensor: Tensor) -> Tensor:
    """The blocks of a tensor as (blocks, rows, columns)."""
    others = len(view.shape) - len(view.dims)
    blocks = tensor.reshape(view.shape).movedim(view.dims, [*range(others, len(view.shape))])
    rows, *columns = blocks.shape[others:]
    return blocks.reshape(math.prod(view.stack), rows, math.prod(columns))


def _from_matrices(view: BlockView, stack: Tensor) -> Tensor:
    """The inverse: from (blocks, rows, columns) to the view's shape."""
    others = [size for dim, size in enumerate(view.shape) if dim not in view.dims]
    blocks = stack.view(*others, *map(view.shape.__getitem__, view.dims))
    return blocks.movedim([*range(len(others), len(view.shape))], view.dims)


def random_orthogonal(
    shape: Shape, radius: float, like: Tensor, generator: torch.Generator | None
) -> Tensor:
    """Orthogonal matrices (..., rows, columns) from the Haar distribution, times `radius`.

    Q of a Gaussian matrix's QR decomposition, with signs from R's diagonal, in >= 32 bits.
    """
    *stack, rows, columns = shape
    tall = (*stack, max(rows, columns), min(rows, columns))
    dtype = torch.promote_types(like.dtype, torch.float32)
    Q, R = torch.linalg.qr(torch.randn(tall, dtype=dtype, device=like.device, generator=generator))
    diagonal = R.diagonal(dim1=-2, dim2=-1)
    signs = torch.where(diagonal == 0, 1, diagonal.sgn())  # of complex matrices phases
    matrices: Tensor = Q * (radius * signs).unsqueeze(-2)
    return matrices if rows >= columns else matrices.mT
