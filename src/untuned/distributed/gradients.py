"""Local gradients of sharded weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from untuned.distributed.shards import is_sharded, local

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import Placement


def local_gradients(weights: Sequence[Tensor]) -> list[Tensor]:
    """What lies here of the weights' gradients, wherever each weight's part is.

    Where processes hold copies of weights, and each a summand of their gradients, the summands of
    all weights are added up together.
    """
    grads: list[Any] = [weight.grad for weight in weights]
    if not any(map(is_sharded, grads)):
        return grads
    summands: dict[tuple[Any, ...], list[int]] = {}
    for i, weight in enumerate(weights):
        if is_sharded(grads[i]) and grads[i].placements != weight.placements:  # type: ignore[attr-defined]
            due = _due(grads[i], weight)
            if due is None:
                grads[i] = grads[i].redistribute(placements=weight.placements)  # type: ignore[attr-defined]
            else:
                summands.setdefault((grads[i].device_mesh, due, grads[i].dtype), []).append(i)
    parts = list(map(local, grads))
    for (mesh, due, _), indices in summands.items():
        totals = _added_up([parts[i] for i in indices], mesh, due)
        for i, total in zip(indices, totals, strict=True):
            parts[i] = total
    return parts


def _due(grad: Any, weight: Any) -> tuple[Placement, ...] | None:
    """The sums that make a gradient lie as its weight does, for each dimension of the mesh.

    None if it takes more than sums.
    """
    from torch.distributed.tensor import Replicate

    pairs = list(zip(grad.placements, weight.placements, strict=True))
    if any(
        has != wants and not (has.is_partial() and wants.is_replicate()) for has, wants in pairs
    ):
        return None
    return tuple(Replicate() if has == wants else has for has, wants in pairs)


def _added_up(parts: Sequence[Tensor], mesh: DeviceMesh, due: Sequence[Placement]) -> list[Tensor]:
    """The sums of tensors of which each process has a summand, in one collective."""
    from torch.distributed.tensor import DTensor, Replicate

    flat = DTensor.from_local(torch.cat([part.flatten() for part in parts]), mesh, due)
    total = local(flat.redistribute(placements=[Replicate()] * mesh.ndim))
    each = total.split([part.numel() for part in parts])
    return [one.view(part.shape) for one, part in zip(each, parts, strict=True)]
