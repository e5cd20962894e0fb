"""Which calls of layers count in a step, and their means over ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from untuned.distributed.all_reduce import process_groups
from untuned.distributed.shards import shard_of
from untuned.inference.calls import Call


def by_weight(calls: Sequence[Call]) -> dict[int, list[Call]]:
    """Calls that saw data, by the weight's number."""
    found: dict[int, list[Call]] = {}
    for call in calls:
        for number in call.squares:
            found.setdefault(number, []).append(call)
    return found


def counting(calls: Sequence[Call], weight: Tensor) -> list[Call]:
    """The calls that count: those that the gradient is of, rather in training mode.

    Of a frozen weight all in training mode, for the step that thaws it.
    """
    if weight.grad is None:
        return [] if weight.requires_grad else [call for call in calls if call.training]
    arrived = [call for call in calls if call.arrived]
    return [call for call in arrived if call.training] or arrived


def joined(
    squares: Mapping[int, Tensor], weights: Mapping[int, Tensor], copies: Sequence[Any]
) -> Tensor | None:
    """Mean squares over the ranks that measured each weight's inputs, (weights,); 0 where none did.

    All-reduces over ranks that certainly step together: those that hold shards of the weights, or
    DDP's copies. Other ranks may train apart, or average gradients by hand: then no scale is used
    (None), so that copies stay equal.
    """
    groups = groups_of_copies(list(weights.values()), copies)
    if groups is None or not (squares or groups):
        return None
    zero = torch.zeros((), device=device_of(list(weights.values())))
    one = torch.ones_like(zero)
    both = torch.stack([squares.get(number, zero).to(zero) for number in weights])
    seen = torch.stack([one if number in squares else zero for number in weights])
    both = torch.stack([both, seen])
    for group in groups:
        dist.all_reduce(both, group=group)
    return both[0] / both[1].clamp(min=1)


def joined_marks(
    marked: set[int], weights: Mapping[int, Tensor], groups: Sequence[Any]
) -> Sequence[Tensor]:
    """One for each weight whose number is marked on any rank, zero for the others; 0-d each."""
    zero = torch.zeros((), device=device_of(list(weights.values())))
    one = torch.ones_like(zero)
    marks = torch.stack([one if number in marked else zero for number in weights])
    for group in groups:
        dist.all_reduce(marks, dist.ReduceOp.MAX, group=group)
    return marks.unbind()


def groups_of_copies(weights: Sequence[Tensor], copies: Sequence[Any]) -> list[Any] | None:
    """The groups of ranks that certainly step together; empty for a process on its own.

    None where there are several processes, and no telling.
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return []
    shards = [shard for weight in weights if (shard := shard_of(weight)) is not None]
    return [*process_groups(shards, copies=True)[0], *copies] or None


def device_of(weights: Sequence[Tensor]) -> torch.device:
    """Where numbers of weights are reduced: their mesh's device, if they are sharded."""
    kinds = [shard.mesh.device_type for weight in weights if (shard := shard_of(weight))]
    return torch.device(kinds[0]) if kinds else weights[0].device
