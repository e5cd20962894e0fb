"""Whole tensors from shards, each on an owner rank, and results back to shards.

What needs whole matrices (`orthogonal.py`) would otherwise have every rank gather every matrix and
do the work of all. Here each tensor has an owner and the work is balanced. Each way is one
all-to-all for all tensors.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from untuned._tensors import shared_dtype
from untuned.distributed.all_reduce import process_groups, united
from untuned.distributed.shards import Shard


class Exchange:
    """The owners of some sharded tensors; `mine` are the indices that this rank owns.

    To be made, and used, by all ranks that hold shards, in step.
    """

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._shapes = [shard.layout.shape for shard in shards]
        self._group = united(*process_groups(shards)[0])
        self._device = shards[0].mesh.device_type  # weights may be offloaded to the host
        self._ranks = range(dist.get_world_size(self._group))
        self._rank = dist.get_rank(self._group)
        self._boxes: list[Any] = [None for _ in self._ranks]
        dist.all_gather_object(self._boxes, [shard.box for shard in shards], self._group)
        self._owned = _shared_out(list(map(math.prod, self._shapes)), len(self._ranks))
        self.mine: list[int] = self._owned[self._rank]

    def _all_to_all(self, send: Sequence[Sequence[Tensor]], sizes: Sequence[int]) -> list[Tensor]:
        """Send tensors to each rank; receive as many entries from each as `sizes` says."""
        counts = [sum(map(torch.numel, each)) for each in send]
        flat = torch.cat([self._nothing, *(part.flatten() for each in send for part in each)])
        given = flat.to(self._device)
        out = given.new_empty(sum(sizes))
        dist.all_to_all_single(out, given, list(sizes), counts, group=self._group)
        return list(out.to(flat.device).split(list(sizes)))

    def _entries(self, rank: int, tensors: Iterable[int]) -> list[int]:
        """The number of entries of a rank's shard of each tensor."""
        return [math.prod(self._boxes[rank][i].size) for i in tensors]

    def gathered(self, parts: Sequence[Tensor]) -> dict[int, Tensor]:
        """The whole tensors that are `mine`, by index, given the local shard of every tensor."""
        self._dtypes = [part.dtype for part in parts]
        self._nothing = parts[0].new_empty(0, dtype=shared_dtype(parts))  # in which all travel
        send = [[parts[i] for i in owned] for owned in self._owned]
        sizes = [sum(self._entries(rank, self.mine)) for rank in self._ranks]
        wholes = {i: parts[i].new_empty(self._shapes[i]) for i in self.mine}
        for rank, chunk in enumerate(self._all_to_all(send, sizes)):
            pieces = chunk.split(self._entries(rank, self.mine))
            for i, piece in zip(self.mine, pieces, strict=True):
                box = self._boxes[rank][i]
                wholes[i][box.place] = piece.view(box.size)
        return wholes

    def returned(
        self, wholes: Mapping[int, Tensor], numbers: Mapping[int, Tensor], counts: Sequence[int]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The inverse of `gathered`: this rank's shard of every result, and its numbers, flat.

        Given results (global shapes) and per-block numbers of what is `mine`, and the number of
        blocks of every tensor.
        """
        send = [
            [part for i in self.mine for part in (wholes[i][boxes[i].place], numbers[i])]
            for boxes in self._boxes
        ]
        own = self._entries(self._rank, range(len(self._shapes)))
        sizes = [[size for i in owned for size in (own[i], counts[i])] for owned in self._owned]
        parts, each = {}, {}
        for rank, chunk in enumerate(self._all_to_all(send, list(map(sum, sizes)))):
            pieces = iter(chunk.split(sizes[rank]))
            for i in self._owned[rank]:
                size, dtype = self._boxes[self._rank][i].size, self._dtypes[i]
                parts[i], each[i] = next(pieces).view(size).to(dtype), next(pieces).to(dtype)
        order = range(len(self._shapes))
        return [parts[i] for i in order], [each[i] for i in order]


def _shared_out(sizes: Sequence[int], ranks: int) -> list[list[int]]:
    """The tensors of each rank: the largest first, to the rank with the fewest entries so far."""
    loads = [0] * ranks
    owned: list[list[int]] = [[] for _ in loads]
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        owner = loads.index(min(loads))
        loads[owner] += sizes[i]
        owned[owner].append(i)
    return list(map(sorted, owned))
