"""How blockwise steps are written: here, and in `finish.py`, they reach weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from untuned.blockwise import Leaves, Projection, Step
from untuned.distributed.all_reduce import sum_over_ranks
from untuned.execution.project import Arrival, Finish, within
from untuned.execution.stochastic_rounding import Write
from untuned.geometry.block_norms import RowBatch
from untuned.geometry.block_vector import BlockVector
from untuned.optimizer.nonfinite import peek
from untuned.rule import State


def write_(
    weights: Sequence[Tensor],
    step: Step,
    leaves: Leaves,
    how: Write,
    projection: Projection | None,
) -> Finish | None:
    """Add the step to weights and states, in place.

    Returns what is still to be done, for all groups together, where processes share neurons.
    """
    if isinstance(how.finite, Tensor):  # only the device knows: step by nothing if it says no
        step = step._replace(coefficients=torch.where(how.finite, step.coefficients, 0.0))
        if step.decay is not None:
            step = step._replace(decay=torch.where(how.finite, step.decay, 1.0))
    finish = None
    if projection is None and how.finite is True and how.key is None:
        _add_(weights, step, leaves.blocks)
    else:
        finish = _add_one_by_one_(weights, step, leaves, how, projection)
    if step.states:
        keep_(step.states, leaves.states, how)
    return finish


def _add_(weights: Sequence[Tensor], step: Step, frame: BlockVector) -> None:
    """All weights at once."""
    views, along = frame.views(weights), frame.views(step.directions)
    each = frame.per_view(step.coefficients)
    for i in frame.parted:
        views[i], along[i], each[i] = _in_rows(views[i], along[i], each[i])
    if step.decay is not None:
        torch._foreach_mul_(frame.views(weights), frame.per_view(step.decay))
    torch._foreach_addcmul_(views, along, each)


def _add_one_by_one_(
    weights: Sequence[Tensor],
    step: Step,
    leaves: Leaves,
    how: Write,
    projection: Projection | None,
) -> Finish | None:
    """Piece by piece: a single copy at a time, and projected while it is in the cache."""
    frame = leaves.blocks
    moved: Tensor | None = None
    if projection is not None:
        moved = (step.coefficients != 0) & (leaves.sizes > 0)
        moved = None if how.finite is True and peek(moved.all()) else moved
    finish = Finish(frame, how, projection)
    alone = set(range(len(weights)))
    for run in frame.runs:
        if len(run.indices) > 1 and how.key is None and step.decay is None:
            _add_run_(finish, run, weights, step, moved)
            alone.difference_update(run.indices)
    if not alone:
        return None
    each = frame.per_view(step.coefficients)
    keeps = [None] * len(weights) if step.decay is None else frame.per_view(step.decay)
    masks = [None] * len(weights) if moved is None else frame.per_view(moved)
    for i in sorted(alone):
        view, along = frame.view(i, weights[i]), frame.view(i, step.directions[i])
        for place in finish.places(i, view):
            piece = finish.open(i, view, place, masks[i])
            sane = how.sane(along[place])
            if (keep := keeps[i]) is not None:
                piece.exact.mul_(within(keep, place, piece.exact))
            piece.exact.addcmul_(sane, within(each[i], place, piece.exact))
            finish.close(piece)
    return finish if finish.waiting else None


def _add_run_(
    finish: Finish, run: RowBatch, weights: Sequence[Tensor], step: Step, moved: Tensor | None
) -> None:
    """Small tensors, side by side."""
    rows = run.rows(weights)
    rows.addcmul_(finish.how.sane(run.rows(step.directions)), run.of(step.coefficients))
    finish.restore_(rows, None if moved is None else run.of(moved))
    run.put_(rows, weights)


def keep_(after: Sequence[State], before: Sequence[State], how: Write) -> None:
    """Write what changes of the states, in place."""
    new = [value for state in after for value in state.values()]
    old = [kept[name] for state, kept in zip(after, before, strict=True) for name in state]
    if old:
        unsure = isinstance(how.finite, Tensor)
        torch._foreach_copy_(old, list(map(how.over, old, new)) if unsure else new)


def _in_rows(
    weight: Tensor, direction: Tensor, coefficient: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The same sum over longer rows: a coefficient for each of a kernel's few offsets, repeated.

    Loops over the nine entries of a kernel would take twice as long; so would rows of coefficients
    that do not stay in the innermost cache.
    """
    short = coefficient.shape[:2] == (1, 1) and weight.ndim > 2
    if not (short and weight.is_contiguous() and direction.is_contiguous() and weight.numel()):
        return weight, direction, coefficient
    offsets = coefficient.expand(1, 1, *weight.shape[2:]).reshape(1, -1)
    row = offsets.repeat(1, math.gcd(weight.numel() // offsets.numel(), 64))
    return weight.view(-1, row.numel()), direction.view(-1, row.numel()), row


@torch.no_grad()
def project_all_(
    weights: Sequence[Tensor], frame: BlockVector, how: Write, projection: Projection | None
) -> None:
    """Bring every block of the weights to where the rule wants it, if it wants it anywhere."""
    for turn in range(2 if projection is not None else 0):  # the first may be rough
        finish = Arrival(frame, how.turn(turn), projection)
        for i, view in enumerate(frame.views(weights)):
            for place in finish.places(i, view):
                finish.close(finish.open(i, view, place, None))
        if finish.waiting:
            sum_over_ranks([finish])
