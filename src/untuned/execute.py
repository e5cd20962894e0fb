"""How steps run: the one place where gradients are read off parameters and weights are written."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch
from torch import Tensor

from untuned.blockwise import Leaves, Projection, Step
from untuned.frame import Frame
from untuned.guard import peek
from untuned.rule import State

SHORT = (torch.float16, torch.bfloat16)


def is_sharded(tensor: Tensor) -> bool:
    """Whether a tensor is a DTensor, without the half second that importing the class costs."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def reduce(measures: Sequence[Tensor]) -> list[Tensor]:
    """The measures of the whole tensors, given those of each rank's shards: one collective."""
    if not any(map(is_sharded, measures)):
        return list(measures)
    everything = torch.cat(list(measures)).full_tensor()  # type: ignore[attr-defined]
    return list(everything.split([len(measure) for measure in measures]))


def write_(
    weights: Sequence[Tensor],
    step: Step,
    leaves: Leaves,
    finite: bool | Tensor,
    project_: Projection | None,
) -> None:
    """Add the step to weights and states, in place, if `finite` (0-d); else leave them be."""
    if isinstance(finite, Tensor):  # only the device knows: step by nothing if it says no
        step = step._replace(coefficients=torch.where(finite, step.coefficients, 0.0))
    if project_ is None and finite is True:
        _add_(weights, step, leaves.frame)
    else:
        _add_one_by_one_(weights, step, leaves, finite, project_)
    if step.states:
        keep_(step.states, leaves.states, finite)


def _add_(weights: Sequence[Tensor], step: Step, frame: Frame) -> None:
    """All weights at once."""
    views, along = frame.views(weights), frame.views(step.directions)
    each = _coefficients(step, frame, views)
    for i in frame.parted:
        views[i], along[i], each[i] = _in_rows(views[i], along[i], each[i])
    torch._foreach_addcmul_(views, along, each)


def _add_one_by_one_(
    weights: Sequence[Tensor],
    step: Step,
    leaves: Leaves,
    finite: bool | Tensor,
    project_: Projection | None,
) -> None:
    """One by one: a single copy at a time, and a weight is projected while it is in the cache."""
    frame = leaves.frame
    views, along = frame.views(weights), frame.views(step.directions)
    each = _coefficients(step, frame, views)
    masks: Sequence[Tensor | None] = [None] * len(views)
    if project_ is not None:
        moved = (step.coefficients != 0) & (leaves.sizes > 0)
        masks = masks if finite is True and peek(moved.all()) else frame.spread(moved)
    for i, (view, blocks) in enumerate(zip(views, frame.blocks, strict=True)):
        sane = torch.where(finite, along[i], 0.0) if isinstance(finite, Tensor) else along[i]
        view.addcmul_(sane, each[i])
        if project_ is not None:
            project_(view, blocks.dims, masks[i])


def _coefficients(step: Step, frame: Frame, views: Sequence[Tensor]) -> list[Tensor]:
    """The step's coefficients, as one tensor for each view that broadcasts to it."""
    each = frame.spread(step.coefficients)
    for i in frame.whole:
        if views[i].dtype in SHORT:
            # in its own 32 bits: a tensor without dimensions would be rounded first, or overflow
            each[i] = each[i].view((1,) * views[i].ndim)
    return each


def keep_(after: Sequence[State], before: Sequence[State], finite: bool | Tensor) -> None:
    """Write what changes of the states, in place, if `finite`."""
    new = [value for state in after for value in state.values()]
    old = [kept[name] for state, kept in zip(after, before, strict=True) for name in state]
    if isinstance(finite, Tensor):
        new = [torch.where(finite, one, other) for one, other in zip(new, old, strict=True)]
    if old:
        torch._foreach_copy_(old, new)


def _in_rows(
    weight: Tensor, direction: Tensor, coefficient: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The same sum over long rows: a coefficient for each of a kernel's few offsets, repeated.

    Loops over the nine entries of a kernel would take twice as long.
    """
    short = coefficient.shape[:2] == (1, 1) and weight.ndim > 2
    if not (short and weight.is_contiguous() and direction.is_contiguous()):
        return weight, direction, coefficient
    row = coefficient.expand(1, *weight.shape[1:]).reshape(1, -1)
    return weight.flatten(1), direction.flatten(1), row


@torch.no_grad()
def project_all_(weights: Sequence[Tensor], frame: Frame, project_: Projection | None) -> None:
    """Bring every block of the weights to where the rule wants it, if it wants it anywhere."""
    if project_ is not None:
        for view, blocks in zip(frame.views(weights), frame.blocks, strict=True):
            project_(view, blocks.dims, None)
