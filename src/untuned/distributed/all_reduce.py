"""Cross-process reductions of one optimizer step, fused into a single all-reduce.

What a rule must know of whole tensors (norms of blocks, hypergradients, moments of neurons) are
sums, of which each rank has a part. Every rank then holds the same numbers, bit for bit, and
decides alike.

Ranks that hold copies of one shard each contribute their share of it, so that meshes of any
dimensions, and plain tensors beside sharded ones, are all one sum over the ranks.
"""

import itertools
import math
import operator
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from untuned._tensors import cached
from untuned.distributed.shards import Shard, Shards, is_sharded, local
from untuned.errors import ParameterError


class Summand(Protocol):
    """An object whose numbers are sums over ranks."""

    @property
    def shards(self) -> Shards:
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
    """The process groups to reduce over, one after the other, and the number of ranks in them all.

    Shards come in the order of the parameters, so that all ranks agree on that of the groups.
    Ranks that hold `copies` of one shard may take part.
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


@cached(16)
def united(*groups: Any) -> Any:
    """One process group of all ranks in `process_groups`; cached, the first call a collective."""
    if len(groups) == 1:
        return groups[0]
    ranks = [dist.get_rank()]
    for group in groups:
        every: list[Any] = [None] * dist.get_world_size(group)
        dist.all_gather_object(every, ranks, group)
        ranks = sorted(itertools.chain(*every))
    return dist.new_group(ranks, use_local_synchronization=True)  # the world need not know


def local_gradients(weights: Sequence[Tensor]) -> list[Tensor]:
    """The local shards of the weights' gradients, placed as the weights are.

    `Partial` gradients of replicated weights are one all-reduce for each mesh and dtype.
    """
    grads: list[Any] = [weight.grad for weight in weights]
    if {*map(type, grads)} == {Tensor} or not any(map(is_sharded, grads)):
        return grads
    partial: dict[tuple[Any, ...], list[int]] = {}
    for i, (grad, weight) in enumerate(zip(grads, weights, strict=True)):
        if is_sharded(grad) and grad.placements != weight.placements:  # type: ignore[attr-defined]
            due = _partial_placements(grad, weight)
            if due is None:
                grads[i] = grad.redistribute(placements=weight.placements)  # type: ignore[attr-defined]
            else:
                partial.setdefault((grad.device_mesh, due, grad.dtype), []).append(i)
    parts = list(map(local, grads))
    for (mesh, due, _), indices in partial.items():
        totals = _reduced([parts[i] for i in indices], mesh, due)
        for i, total in zip(indices, totals, strict=True):
            parts[i] = total
    return parts


def _partial_placements(grad: Any, weight: Any) -> tuple[Any, ...] | None:
    """The gradient's `Partial` placements, `Replicate` elsewhere; None if sums are not enough."""
    from torch.distributed.tensor import Replicate

    pairs = list(zip(grad.placements, weight.placements, strict=True))
    differ = [(has, wants) for has, wants in pairs if has != wants]
    if not all(has.is_partial() and wants.is_replicate() for has, wants in differ):
        return None
    return tuple(Replicate() if has == wants else has for has, wants in pairs)


def _reduced(parts: Sequence[Tensor], mesh: Any, due: Sequence[Any]) -> list[Tensor]:
    """Tensors of which each rank has a summand, all-reduced together."""
    from torch.distributed.tensor import DTensor, Replicate

    flat = DTensor.from_local(torch.cat([part.flatten() for part in parts]), mesh, due)
    total = local(flat.redistribute(placements=[Replicate()] * mesh.ndim))
    each = total.split([part.numel() for part in parts])
    return [one.view(part.shape) for one, part in zip(each, parts, strict=True)]
