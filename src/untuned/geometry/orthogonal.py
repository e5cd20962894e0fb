"""Directions of which every singular value is one: the dual of the spectral norm.

Of G = U S V^T that is U V^T (`polar.py`), of all matrices of one shape at a time.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from untuned.geometry.layer import BlockView, Shape
from untuned.geometry.polar import halley, newton_schulz

FACTORISED = 2**14  # entries of a matrix from which a CPU factorises it rather than only multiply


def orthogonalise(matrices: Tensor) -> Tensor:
    """U V^T of each of (count, rows, columns), roughly; zero of zero. Of complex ones U V^H.

    Products alone are the faster for small matrices, and wherever there are cores for them;
    `benchmarks/orthogonal.py` measures both.
    """
    wide = matrices.shape[1] <= matrices.shape[2]
    G = matrices if wide else matrices.mH
    largest = G.abs().amax((1, 2), keepdim=True)
    G = G / largest.clamp_min(torch.finfo(G.dtype).tiny)  # or squares may vanish
    factorise = G.device.type == "cpu" and G[0].numel() >= FACTORISED
    directions = halley(G) if factorise else newton_schulz(G)
    return (directions if wide else directions.mH).to(matrices.dtype)


class Duals(NamedTuple):
    """Spectral duals of some tensors."""

    directions: list[Tensor]  # U V^T of each block, of the tensors' shapes
    norms: list[Tensor]  # Frobenius norms of the tensors' blocks, (blocks,) each


def spectral_duals(blocks: Sequence[BlockView], tensors: Sequence[Tensor]) -> Duals:
    """`orthogonalise` each block of whole tensors, batched over blocks of one shape.

    A block of more than two dimensions is a matrix of its first by all others.
    """
    found = Duals(list(tensors), list(tensors))
    batches: dict[tuple[object, ...], list[int]] = {}
    stacks = list(map(_to_matrices, blocks, tensors))
    for place, stack in enumerate(stacks):
        batches.setdefault((stack.dtype, *stack.shape[1:]), []).append(place)
    for places in batches.values():
        batch = torch.cat(list(map(stacks.__getitem__, places)))
        counts = [stacks[place].shape[0] for place in places]
        parts = orthogonalise(batch).split(counts), torch.linalg.matrix_norm(batch).split(counts)
        for place, direction, norm in zip(places, *parts, strict=True):
            found.directions[place] = _from_matrices(blocks[place], direction, tensors[place])
            found.norms[place] = norm
    return found


def _to_matrices(view: BlockView, tensor: Tensor) -> Tensor:
    """The blocks of a tensor as (blocks, rows, columns)."""
    if view.whole:
        return tensor.reshape(1, view.shape[0], math.prod(view.shape[1:]))
    others = len(view.shape) - len(view.dims)
    blocks = tensor.reshape(view.shape).movedim(view.dims, [*range(others, len(view.shape))])
    rows, *columns = blocks.shape[others:]
    return blocks.reshape(math.prod(view.stack), rows, math.prod(columns))


def _from_matrices(view: BlockView, stack: Tensor, like: Tensor) -> Tensor:
    """The inverse: from (blocks, rows, columns) to the tensor's shape."""
    if not view.whole:
        others = [size for dim, size in enumerate(view.shape) if dim not in view.dims]
        stack = stack.view(*others, *map(view.shape.__getitem__, view.dims))
        stack = stack.movedim([*range(len(others), len(view.shape))], view.dims)
    return stack.reshape(like.shape)


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
