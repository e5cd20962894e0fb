"""What processes tell each other in a step, in as few collectives as can be.

What a rule must know of whole tensors (the norms of blocks, hypergradients, the moments of neurons)
are sums, of which each process has a part; those of all parameters are added up in one collective.
Every process then holds the same numbers, bit for bit, and decides alike.

Processes that hold copies of the same part each bring their share of it, so that meshes of any
dimensions, and plain tensors beside sharded ones, are all one sum over the processes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from untuned._tensors import cached
from untuned.distributed.shards import Shard
from untuned.errors import ParameterError


class Summand(Protocol):
    """What has numbers to add up over processes."""

    @property
    def shards(self) -> Sequence[Shard | None]:
        """Of each tensor that it is about."""

    def partial_sums(self) -> list[Tensor]:
        """Its parts of the sums: what each tensor adds, times the number of that one's parts."""

    def receive_sums(self, totals: list[Tensor]) -> None:
        """Go on with the sums, of the same shapes."""


def sum_over_ranks(summands: Sequence[Summand]) -> None:
    """Add up what processes have, in one collective, if any parameter is sharded at all."""
    every = (shard for summand in summands for shard in summand.shards)
    shards = list(dict.fromkeys(shard for shard in every if shard is not None))
    if not shards:
        return
    numbers = [summand.partial_sums() for summand in summands]
    device = shards[0].mesh.device_type
    flat = [number.double().flatten() for each in numbers for number in each]
    everything = torch.cat([number.to(device) for number in flat])
    groups, copies = process_groups(shards)
    everything /= copies  # in 64 bits: squares do not overflow, and halves are exact
    for group in groups:
        dist.all_reduce(everything, group=group)
    totals = iter(everything.split([number.numel() for number in flat]))
    for summand, each in zip(summands, numbers, strict=True):
        summand.receive_sums([next(totals).view(number.shape).to(number) for number in each])


def process_groups(shards: Iterable[Shard], copies: bool = False) -> tuple[list[Any], int]:
    """The processes to add up over, as groups one after the other; and how many they are.

    Those that hold parts, and if asked for also those that hold copies. In an order that all
    processes agree on: that of the parameters. Raises `ParameterError`.
    """
    every = ((s.mesh, range(s.mesh.ndim) if copies else s.axes) for s in shards)
    axes = dict.fromkeys((mesh, axis) for mesh, own in every for axis in own)
    groups: dict[frozenset[int], Any] = {}
    for mesh, axis in axes:
        group = mesh.get_group(axis)
        groups.setdefault(frozenset(dist.get_process_group_ranks(group)), group)
    maximal = [ranks for ranks in groups if not any(ranks < other for other in groups)]
    count = math.prod(map(len, maximal))
    if any(len(one & other) > 1 for one, other in itertools.combinations(maximal, 2)):
        raise ParameterError(
            "the parameters are sharded over meshes of which one is no dimension of the other: "
            "give each mesh's an optimizer of its own"
        )
    if len(maximal) > 1 and count == dist.get_world_size():
        return [dist.group.WORLD], count
    return [groups[ranks] for ranks in maximal], count


def shard_group(shards: Iterable[Shard]) -> Any:
    """The processes that hold different parts, as one group; each must ask for it."""
    return _together(*process_groups(shards)[0])


@cached(16)
def _together(*groups: Any) -> Any:
    """All processes of groups that lie across each other, as one; made once."""
    if len(groups) == 1:
        return groups[0]
    ranks = [dist.get_rank()]
    for group in groups:
        every: list[Any] = [None] * dist.get_world_size(group)
        dist.all_gather_object(every, ranks, group)
        ranks = sorted(itertools.chain(*every))
    return dist.new_group(ranks, use_local_synchronization=True)  # the world need not know
