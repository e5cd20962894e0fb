"""Spectral duals of sharded tensors."""

import math
from collections.abc import Sequence

from torch import Tensor

from untuned.distributed.sharded_blocks import ShardedBlockVector
from untuned.distributed.shards import Shards
from untuned.geometry.orthogonal import Duals, spectral_duals


def sharded_duals(
    vector: ShardedBlockVector, shards: Shards, indices: Sequence[int], tensors: Sequence[Tensor]
) -> Duals:
    """`spectral_duals` of local tensors, those of a group that have these `indices`, as shards.

    Each rank orthogonalises its share of the sharded tensors (`exchange.py`), and all plain ones.
    """
    blocks = list(map(vector.unsharded.blocks.__getitem__, indices))
    sharded = [n for n, i in enumerate(indices) if (shard := shards[i]) and shard.axes]
    if not sharded:
        return spectral_duals(blocks, tensors)
    exchange = vector.exchange([indices[n] for n in sharded])
    wholes = exchange.gathered([tensors[n] for n in sharded])
    plain = [n for n in range(len(indices)) if n not in sharded]  # copies are whole, too
    made = [*plain, *(sharded[n] for n in exchange.mine)]
    given = [*(tensors[n] for n in plain), *wholes.values()]
    duals = spectral_duals([blocks[n] for n in made], given)
    directions, norms = (dict(zip(made, each, strict=True)) for each in duals)
    parts = exchange.returned(
        {n: directions[sharded[n]] for n in exchange.mine},
        {n: norms[sharded[n]] for n in exchange.mine},
        [math.prod(blocks[n].stack) for n in sharded],
    )
    for n, direction, norm in zip(sharded, *parts, strict=True):
        directions[n] = direction
        norms[n] = vector.local_numbers(indices[n], norm.view(blocks[n].stack))
    return Duals(*([each[n] for n in range(len(indices))] for each in (directions, norms)))
