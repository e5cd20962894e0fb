"""Blockwise steps written to weights and states, in place."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from untuned._tensors import peek
from untuned.blockwise import Leaves, Projection, Step
from untuned.distributed.shards import Shard
from untuned.execution.project import PieceWriter
from untuned.execution.stochastic_rounding import Write
from untuned.geometry.block_norms import RowBatch
from untuned.geometry.block_vector import BlockVector
from untuned.rule import State


def write_(
    weights: Sequence[Tensor],
    shards: Sequence[Shard | None],
    step: Step,
    leaves: Leaves,
    how: Write,
    projection: Projection | None,
) -> PieceWriter | None:
    """Add a step to weights, or local shards, and states.

    Returns the pieces that wait for the all-reduced moments of blocks that ranks share, if any.
    """
    if step.moving and step.decay is None:  # both paths below apply the two together
        step = step._replace(decay=torch.ones_like(step.coefficients))
    if isinstance(how.finite, Tensor):  # only the device knows: the step is zero if it is skipped
        step = step._replace(coefficients=torch.where(how.finite, step.coefficients, 0.0))
        if step.decay is not None:
            step = step._replace(decay=torch.where(how.finite, step.decay, 1.0))
    writer = None
    if projection is None and how.finite is True and how.key is None:
        _add_(weights, step, leaves.blocks)
    else:
        writer = PieceWriter(leaves.blocks, shards, how, projection)
        _add_in_pieces_(weights, step, leaves, writer)
    if step.states:
        write_states_(step.states, leaves.states, how)
    return writer if writer is not None and writer.waiting else None


def write_states_(new: Sequence[State], states: Sequence[State], how: Write) -> None:
    """Overwrite entries of some tensors' states by new ones."""
    values: list[Tensor] = []
    old: list[Tensor] = []
    for after, before in zip(new, states, strict=True):
        for name, value in after.items():
            values.append(value if how.finite is True else how.over(before[name], value))
            old.append(before[name])
    if old:
        torch._foreach_copy_(old, values)


def _add_(weights: Sequence[Tensor], step: Step, blocks: BlockVector) -> None:
    """All weights at once."""
    stay = [i for i, direction in enumerate(step.directions) if direction is None]
    if len(stay) == len(weights):
        return
    views, along = blocks.views(weights), blocks.views(_directions(weights, step))
    each = blocks.per_view(step.coefficients)
    if step.decay is not None:
        decays = blocks.per_view(step.decay)
        if step.moving:
            decays, along = _held(blocks, step, decays, along)
        torch._foreach_mul_(*_without(stay, views, decays))
    for i in blocks.parted:
        views[i], along[i], each[i] = _in_rows(views[i], along[i], each[i])
    views, along, each = _without(stay, views, along, each)
    torch._foreach_addcmul_(views, along, each)


def _directions(weights: Sequence[Tensor], step: Step) -> list[Tensor]:
    """A step's directions, with weights in the place of those that are None."""
    return [w if d is None else d for w, d in zip(weights, step.directions, strict=True)]


def _without(indices: Sequence[int], *lists: list[Tensor]) -> tuple[list[Tensor], ...]:
    """Lists without the entries at some indices."""
    if not indices:
        return lists
    return tuple([[x for i, x in enumerate(each) if i not in indices] for each in lists])


def _held(
    blocks: BlockVector, step: Step, decays: Sequence[Tensor], along: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """Decays and directions, by view, that leave entries where `Step.moving` is zero."""
    decays, along = list(decays), list(along)
    for i, moving in enumerate(step.moving):
        if moving is not None:
            moves = blocks.view(i, moving) != 0
            decays[i], along[i] = _where_moving(moves, decays[i], along[i])
    return decays, along


def _where_moving(moves: Tensor, decay: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """A decay and a direction that leave entries where they are, but those that move."""
    return torch.where(moves, decay, 1.0), direction * moves


def _add_in_pieces_(
    weights: Sequence[Tensor], step: Step, leaves: Leaves, writer: PieceWriter
) -> None:
    """Piece by piece: a single copy at a time, projected while it is in the cache."""
    blocks, how = leaves.blocks, writer.how
    moved: Tensor | None = None
    if writer.projection is not None:
        moved = (step.coefficients != 0) & (leaves.sizes > 0)
        moved = None if how.finite is True and peek(moved.all()) else moved
    directions = _directions(weights, step)
    alone = {i for i, direction in enumerate(step.directions) if direction is not None}
    for batch in blocks.runs:
        together = alone.issuperset(batch.indices) and step.decay is None
        if len(batch.indices) > 1 and how.key is None and together:
            _add_batch_(writer, batch, weights, directions, step.coefficients, moved)
            alone.difference_update(batch.indices)
    if not alone:
        return
    each = blocks.per_view(step.coefficients)
    decays = None if step.decay is None else blocks.per_view(step.decay)
    masks = None if moved is None else blocks.per_view(moved)
    for i in sorted(alone):
        view, along = blocks.view(i, weights[i]), blocks.view(i, directions[i])
        for piece in writer.pieces(i, view, None if masks is None else masks[i]):
            direction = how.sane(along[piece.place])
            if decays is not None:
                decay = piece.of(decays[i])
                moving = step.moving[i] if step.moving else None
                if moving is not None:
                    moves = blocks.view(i, moving)[piece.place] != 0
                    decay, direction = _where_moving(moves, decay, direction)
                piece.exact.mul_(decay)
            piece.exact.addcmul_(direction, piece.of(each[i]))
            writer.close(piece)


def _add_batch_(
    writer: PieceWriter,
    batch: RowBatch,
    weights: Sequence[Tensor],
    directions: Sequence[Tensor],
    coefficients: Tensor,
    moved: Tensor | None,
) -> None:
    """Small tensors, side by side."""
    rows = batch.rows(weights)
    rows.addcmul_(writer.how.sane(batch.rows(directions)), batch.of(coefficients))
    if writer.projection is not None and batch.length > 1:
        sums = writer.projection.moments(rows, (1,))
        mask = None if moved is None else batch.of(moved)
        writer.projection.restore_(rows, sums, batch.length, mask)
    batch.put_(rows, weights)


def _in_rows(
    weight: Tensor, direction: Tensor, coefficient: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The same sum over longer rows: a coefficient for each of a kernel's few offsets, repeated.

    Without this a step of AGD takes 1.25 times as long on 20 convolutions of (256, 256, 3, 3), on a
    CPU; so it would with rows of coefficients that do not stay in the innermost cache.
    """
    short = coefficient.shape[:2] == (1, 1) and weight.ndim > 2
    if not (short and weight.is_contiguous() and direction.is_contiguous() and weight.numel()):
        return weight, direction, coefficient
    offsets = coefficient.expand(1, 1, *weight.shape[2:]).reshape(1, -1)
    row = offsets.repeat(1, math.gcd(weight.numel() // offsets.numel(), 64))
    return weight.view(-1, row.numel()), direction.view(-1, row.numel()), row
