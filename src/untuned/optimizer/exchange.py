"""Exchanges tensors in a module with others of the optimizer's, in place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from untuned.execution.stochastic_rounding import SHORT, dithered

TOGETHER = 2**20  # entries that are exchanged at once: their copy is all the extra memory


class Part(NamedTuple):
    """The part of the way that an average goes towards its iterate.

    share: of the way, 0-d where the host must not read it.
    key: 0-d int32, of the stochastic rounding of 16-bit weights; None: there are none.
    """

    share: float | Tensor
    key: Tensor | None

    def of(self, average: Tensor, iterate: Tensor) -> Tensor:
        """Where the average arrives."""
        if average.dtype not in SHORT:
            share = self.share
            at = share.to(average.dtype) if isinstance(share, Tensor) else share
            return torch.lerp(average, iterate, at)
        assert self.key is not None  # rounded to nearest, small changes would be lost
        exact = torch.lerp(average.float(), iterate.float(), self.share)
        return dithered(exact, average.dtype, self.key)


def exchange_(
    weights: Sequence[Tensor], others: Sequence[Tensor], parts: Sequence[Part | None]
) -> None:
    """Exchange tensors, unseen by autograd: a pass may be under way.

    Args:
        weights: local shards in the module.
        others: of the same shapes, which come into the module.
        parts: how far these go towards the weights before they do; None: nowhere.
    """
    for start, end in _together(weights):
        here = [weight.data for weight in weights[start:end]]
        there = list(others[start:end])
        each = zip(there, here, parts[start:end], strict=True)
        arriving = [o.clone() if part is None else part.of(o, w) for o, w, part in each]
        torch._foreach_copy_(there, here)
        torch._foreach_copy_(here, arriving)


def _together(tensors: Sequence[Tensor]) -> Iterator[tuple[int, int]]:
    """Ranges of tensors that have about `TOGETHER` entries in all."""
    start, entries = 0, 0
    for end, tensor in enumerate(tensors):
        if entries and entries + tensor.numel() > TOGETHER:
            yield start, end
            start, entries = end, 0
        entries += tensor.numel()
    if tensors:
        yield start, len(tensors)
