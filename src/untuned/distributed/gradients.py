"""Local gradients of sharded weights, with pending (partial) sums reduced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from untuned.distributed.shards import is_sharded, local


def local_gradients(weights: Sequence[Tensor]) -> list[Tensor]:
    """The local shards of the weights' gradients, placed as the weights are.

    Where a weight is replicated and its gradient a `Partial` DTensor, the sums of all such
    weights are one all-reduce for each mesh and dtype.
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
    if any(
        has != wants and not (has.is_partial() and wants.is_replicate()) for has, wants in pairs
    ):
        return None
    return tuple(Replicate() if has == wants else has for has, wants in pairs)


def _reduced(parts: Sequence[Tensor], mesh: Any, due: Sequence[Any]) -> list[Tensor]:
    """Tensors of which each rank has a summand, all-reduced together."""
    from torch.distributed.tensor import DTensor, Replicate

    flat = DTensor.from_local(torch.cat([part.flatten() for part in parts]), mesh, due)
    total = local(flat.redistribute(placements=[Replicate()] * mesh.ndim))
    each = total.split([part.numel() for part in parts])
    return [one.view(part.shape) for one, part in zip(each, parts, strict=True)]
