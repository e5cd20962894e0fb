"""Exchanges tensors in a module with others of the optimizer's, in place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from untuned.execution.stochastic_rounding import SHORT, dithered

TOGETHER = 2**20  # entries that are exchanged at once: their copy is all the extra memory


class Shares(NamedTuple):
    """How far averages go towards their iterates.

    of: of the way, for each tensor; 0-d where the host must not read them.
    keys: 0-d int32, of the stochastic rounding of 16-bit weights; empty: there are none.
    """

    of: Sequence[float | Tensor]
    keys: Sequence[Tensor | None] = ()

    def part(self, start: int, end: int) -> Shares:
        """Those of a range of the tensors."""
        return Shares(self.of[start:end], self.keys[start:end])

    def apply(self, averages: list[Tensor], iterates: list[Tensor]) -> Sequence[Tensor]:
        """Where the averages arrive."""
        first = self.of[0]
        if not self.keys and isinstance(first, float) and self.of.count(first) == len(self.of):
            return torch._foreach_lerp(averages, iterates, first)
        keys = self.keys or [None] * len(averages)
        return list(map(_towards, averages, iterates, self.of, keys))


def _towards(average: Tensor, iterate: Tensor, share: float | Tensor, key: Tensor | None) -> Tensor:
    if key is not None and average.dtype in SHORT:  # to nearest, small changes would be lost
        exact = torch.lerp(average.float(), iterate.float(), share)
        return dithered(exact, average.dtype, key)
    same = share.to(average.dtype) if isinstance(share, Tensor) else share
    return torch.lerp(average, iterate, same)


def exchange_(
    weights: Sequence[Tensor], others: Sequence[Tensor], shares: Shares | None = None
) -> None:
    """Exchange tensors, unseen by autograd: a pass may be under way.

    Args:
        weights: local shards in the module.
        others: of the same shapes, which come into the module.
        shares: how far these go towards the weights before they do; None: nowhere.
    """
    for start, end in _together(weights):
        here = [weight.data for weight in weights[start:end]]
        there = list(others[start:end])
        if shares is None:
            arriving: Sequence[Tensor] = [other.clone() for other in there]
        else:
            arriving = shares.part(start, end).apply(there, here)
        torch._foreach_copy_(there, here)
        torch._foreach_copy_(here, list(arriving))


def _together(tensors: Sequence[Tensor]) -> Iterator[tuple[int, int]]:
    """Ranges of tensors that have about `TOGETHER` entries in all."""
    start, entries = 0, 0
    for end, tensor in enumerate(tensors):
        size = tensor.numel()
        if entries and entries + size > TOGETHER:
            yield start, end
            start, entries = end, 0
        entries += size
    if tensors:
        yield start, len(tensors)
