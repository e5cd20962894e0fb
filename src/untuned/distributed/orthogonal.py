"""Orthogonalised blocks of tensors that are sharded over processes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from untuned.distributed.sharded_blocks import ShardedBlockVector
from untuned.distributed.shards import Shard
from untuned.geometry.block_vector import BlockVector
from untuned.geometry.orthogonal import Duals, spectral_duals


def sharded_duals(
    frame: BlockVector,
    shards: Sequence[Shard | None],
    indices: Sequence[int],
    tensors: Sequence[Tensor],
) -> Duals:
    """`orthogonalise` of each block; blocks of one shape go together.

    A block of more than two dimensions is a matrix of its first by all others. Of sharded tensors
    each process makes its share (`exchange.py`).
    """
    blocks = [frame.unsharded.blocks[i] for i in indices]
    sharded = [n for n, i in enumerate(indices) if (shard := shards[i]) and shard.axes]
    if not sharded:
        return spectral_duals(blocks, tensors)
    assert isinstance(frame, ShardedBlockVector)
    exchange = frame.exchange([indices[n] for n in sharded])
    wholes = exchange.gathered([tensors[n] for n in sharded])
    mine = [sharded[n] for n in exchange.mine]
    plain = sorted({*range(len(indices))} - {*sharded})  # copies are whole, too
    made = spectral_duals(
        [blocks[n] for n in (*plain, *mine)], [*(tensors[n] for n in plain), *wholes.values()]
    )
    directions = dict(zip(plain, made.directions, strict=False))  # after them come `mine`
    norms = dict(zip(plain, made.norms, strict=False))
    own = slice(len(plain), None)
    parts = exchange.returned(
        dict(zip(exchange.mine, made.directions[own], strict=True)),
        dict(zip(exchange.mine, made.norms[own], strict=True)),
        [math.prod(blocks[n].stack) for n in sharded],
    )
    for n, direction, norm in zip(sharded, *parts, strict=True):
        directions[n] = direction
        norms[n] = frame.local_numbers(indices[n], norm.view(blocks[n].stack))
    order = range(len(indices))
    return Duals([directions[n] for n in order], [norms[n] for n in order])
