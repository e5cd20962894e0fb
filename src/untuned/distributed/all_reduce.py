"""Cross-process reductions of one optimizer step, fused into a single all-reduce.

What a rule must know of whole tensors (norms of blocks, hypergradients, moments of neurons) are
sums, of which each rank has a part. Every rank then holds the same numbers, bit for bit, and
decides alike.

Ranks that hold copies of one shard each contribute their share of it, so that meshes of any
dimensions, and plain tensors beside sharded ones, are all one sum over the ranks.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from untuned._tensors import cached
from untuned.distributed.shards import Shard
from untuned.errors import ParameterError


class Summand(Protocol):
    """An object whose numbers are sums over ranks."""

    @property
    def shards(self) -> Sequence[Shard | None]:
        """The local shard of each of its tensors; None for a plain tensor."""

    def partial_sums(self) -> list[Tensor]:
        """This rank's sums, those of each tensor times the number of its shards."""

    def receive_sums(self, totals: list[Tensor]) -> None:
        """Replace the partial sums by the all-reduced ones, of the same order and shapes."""


def sum_over_ranks(summands: Sequence[Summand]) -> None:
    """All-reduce the partial sums of all summands together; no collective if none is sharded."""
    every = itertools.chain.from_iterable(map(operator.attrgetter("shards"), summands))
    shards = list(dict.fromkeys(filter(None, every)))
    if not shards:
        return
    numbers = [summand.partial_sums() for summand in summands]
    device = shards[0].mesh.device_type
    flat = [number.double().flatten() for each in numbers for number in each]
    everything = torch.cat([number.to(device) for number in flat])
    groups, ranks = process_groups(shards)
    everything /= ranks  # in float64: squares do not overflow, and halves are exact
    for group in groups:
        dist.all_reduce(everything, group=group)
    totals = iter(everything.split([number.numel() for number in flat]))
    for summand, each in zip(summands, numbers, strict=True):
        summand.receive_sums([next(totals).view(number.shape).to(number) for number in each])


def process_groups(shards: Iterable[Shard], copies: bool = False) -> tuple[list[Any], int]:
    """The process groups to reduce over, one after the other.

    Args:
        shards: in the order of the parameters, so that all ranks agree on that of the groups.
        copies: also reduce over ranks that hold copies of one shard.

    Returns:
        The groups, and the number of ranks in all of them.

    Raises:
        ParameterError: if meshes overlap and none is a dimension of the other.
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
    """One process group of all ranks that hold different shards; a collective call."""
    return _united(*process_groups(shards)[0])


@cached(16)
def _united(*groups: Any) -> Any:
    """The union of process groups along different axes of a mesh, as one group; cached."""
    if len(groups) == 1:
        return groups[0]
    ranks = [dist.get_rank()]
    for group in groups:
        every: list[Any] = [None] * dist.get_world_size(group)
        dist.all_gather_object(every, ranks, group)
        ranks = sorted(itertools.chain(*every))
    return dist.new_group(ranks, use_local_synchronization=True)  # the world need not know
