"""Sharded tensors, made whole on one process each, and what is made of them sent back.

What needs whole matrices (`spectral.py`) would otherwise have every process gather every matrix and
do the work of all. Here each tensor has an owner, the work is shared out evenly, and parts travel
twice: to the owner, and back. Each way is one collective for all tensors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from untuned._tensors import shared_dtype
from untuned.distributed.all_reduce import shard_group
from untuned.distributed.shards import Shard


class Exchange:
    """Which process owns which of some sharded tensors.

    To be made, and used, by all processes that hold parts of them, in step.
    """

    mine: list[int]  # the tensors that this process owns

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._shapes = [shard.layout.shape for shard in shards]
        self._group = shard_group(shards)
        self._device = shards[0].mesh.device_type  # the weights may wait on the host (offloaded)
        self._processes = range(dist.get_world_size(self._group))
        self._here = dist.get_rank(self._group)
        self._boxes: list[Any] = [None for _ in self._processes]
        dist.all_gather_object(self._boxes, [shard.box for shard in shards], self._group)
        self._owners = self._shared_out()
        self.mine = self._of(self._here)

    def _shared_out(self) -> list[int]:
        """The owner of each tensor: the largest first, each to whom has least to do."""
        loads, owners = [0 for _ in self._processes], [0] * len(self._shapes)
        order = sorted(range(len(owners)), key=lambda i: -math.prod(self._shapes[i]))
        for i in order:
            owners[i] = loads.index(min(loads))
            loads[owners[i]] += math.prod(self._shapes[i])
        return owners

    def _of(self, process: int) -> list[int]:
        return [i for i, owner in enumerate(self._owners) if owner == process]

    def _sent(self, send: Sequence[Sequence[Tensor]], sizes: Sequence[int]) -> list[Tensor]:
        """To each process what is meant for it; what comes from each, of these sizes."""
        counts = [sum(part.numel() for part in each) for each in send]
        flat = torch.cat([self._nothing, *(part.flatten() for each in send for part in each)])
        given = flat.to(self._device)
        out = given.new_empty(sum(sizes))
        dist.all_to_all_single(out, given, list(sizes), counts, group=self._group)
        return list(out.to(flat.device).split(list(sizes)))

    def gathered(self, parts: Sequence[Tensor]) -> dict[int, Tensor]:
        """The whole tensors that are `mine`, of which every process has a part."""
        self._dtypes = [part.dtype for part in parts]
        self._nothing = parts[0].new_empty(0, dtype=shared_dtype(parts))  # in which all travel
        send = [[parts[i] for i in self._of(process)] for process in self._processes]
        sizes = [sum(self._entries(process, self.mine)) for process in self._processes]
        wholes = {i: parts[i].new_empty(self._shapes[i]) for i in self.mine}
        for process, chunk in zip(self._processes, self._sent(send, sizes), strict=True):
            pieces = chunk.split(self._entries(process, self.mine))
            for i, piece in zip(self.mine, pieces, strict=True):
                box = self._boxes[process][i]
                wholes[i][box.place] = piece.view(box.size)
        return wholes

    def returned(
        self, wholes: Mapping[int, Tensor], numbers: Mapping[int, Tensor], counts: Sequence[int]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The parts of all tensors that belong here, and some numbers of each, so many.

        Given those that are `mine`.
        """
        send = [
            [
                tensor
                for i in self.mine
                for tensor in (wholes[i][self._boxes[process][i].place], numbers[i])
            ]
            for process in self._processes
        ]
        own = self._entries(self._here, range(len(self._shapes)))
        sizes = [
            [size for i in self._of(process) for size in (own[i], counts[i])]
            for process in self._processes
        ]
        found: dict[int, tuple[Tensor, Tensor]] = {}
        chunks = self._sent(send, [sum(each) for each in sizes])
        for process, chunk in zip(self._processes, chunks, strict=True):
            pieces = iter(chunk.split(sizes[process]))
            for i in self._of(process):
                size, dtype = self._boxes[self._here][i].size, self._dtypes[i]
                found[i] = next(pieces).view(size).to(dtype), next(pieces).to(dtype)
        every = [found[i] for i in range(len(self._shapes))]
        return [part for part, _ in every], [number for _, number in every]

    def _entries(self, process: int, tensors: Sequence[int]) -> list[int]:
        """How many entries of each of some tensors a process has."""
        return [math.prod(self._boxes[process][i].size) for i in tensors]
