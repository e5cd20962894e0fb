"""How blockwise steps are written: the one place where they reach weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from untuned.blockwise import Leaves, Projection, Step
from untuned.collectives import join
from untuned.frame import Frame, Run
from untuned.guard import peek
from untuned.rounding import SHORT, Write
from untuned.rule import State
from untuned.shards import part_of

if TYPE_CHECKING:
    from types import EllipsisType  # Python 3.10 has it

    Place = slice | EllipsisType

PIECES = {"cpu": 2**20}  # entries to work on at once: they stay in the cache
LARGEST = 2**26  # elsewhere: what is made on the way should not be large


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
    finish = None
    if projection is None and how.finite is True and how.key is None:
        _add_(weights, step, leaves.frame)
    else:
        finish = _add_one_by_one_(weights, step, leaves, how, projection)
    if step.states:
        keep_(step.states, leaves.states, how)
    return finish


def _add_(weights: Sequence[Tensor], step: Step, frame: Frame) -> None:
    """All weights at once."""
    views, along = frame.views(weights), frame.views(step.directions)
    each = frame.over_views(step.coefficients)
    for i in frame.parted:
        views[i], along[i], each[i] = _in_rows(views[i], along[i], each[i])
    torch._foreach_addcmul_(views, along, each)


def _add_one_by_one_(
    weights: Sequence[Tensor],
    step: Step,
    leaves: Leaves,
    how: Write,
    projection: Projection | None,
) -> Finish | None:
    """Piece by piece: a single copy at a time, and projected while it is in the cache."""
    frame = leaves.frame
    moved: Tensor | None = None
    if projection is not None:
        moved = (step.coefficients != 0) & (leaves.sizes > 0)
        moved = None if how.finite is True and peek(moved.all()) else moved
    finish = Finish(frame, how, projection)
    alone = set(range(len(weights)))
    for run in frame.runs:
        if len(run.indices) > 1 and how.key is None:
            _add_run_(finish, run, weights, step, moved)
            alone.difference_update(run.indices)
    if not alone:
        return None
    each = frame.over_views(step.coefficients)
    masks = [None] * len(weights) if moved is None else frame.over_views(moved)
    for i in sorted(alone):
        view, along = frame.view(i, weights[i]), frame.view(i, step.directions[i])
        for place in finish.places(i, view):
            piece = finish.open(i, view, place, masks[i])
            sane = how.sane(along[place])
            piece.exact.addcmul_(sane, _within(each[i], place, piece.exact))
            finish.close(piece)
    return finish if finish.waiting else None


def _add_run_(
    finish: Finish, run: Run, weights: Sequence[Tensor], step: Step, moved: Tensor | None
) -> None:
    """Small tensors, side by side."""
    rows = run.rows(weights)
    rows.addcmul_(finish.how.sane(run.rows(step.directions)), run.of(step.coefficients))
    finish.restore_(rows, None if moved is None else run.of(moved))
    run.put_(rows, weights)


class Piece(NamedTuple):
    """Some rows of a weight, viewed as blocks."""

    tensor: int  # its index
    row: int  # the first
    view: Tensor
    exact: Tensor  # the same, in at least 32 bits
    moved: Tensor | None  # which blocks have moved; None: all


class Finish:
    """What is done to weights after a step: they are projected and rounded.

    Where a block is divided between processes its piece waits until all have theirs: it is then a
    summand (`collectives.py`).
    """

    def __init__(self, frame: Frame, how: Write, projection: Projection | None) -> None:
        self.frame, self.how, self.projection = frame, how, projection
        self.shards = frame.shards
        self.waiting: list[Piece] = []

    def _waits(self, index: int) -> bool:
        alone = self.projection is None or self.frame.entries(index) < 2
        return not alone and self.frame.divided(index)

    def places(self, index: int, view: Tensor) -> Iterator[Place]:
        """Where the pieces of a tensor are that fit the cache, if blocks do not need it whole."""
        size = PIECES.get(view.device.type, LARGEST)
        spans = self.projection is not None and 0 in self.frame.blocks[index].dims
        if view.numel() <= size or spans or self._waits(index):
            yield ...
            return
        rows = max(1, size // view[0].numel())
        for start in range(0, len(view), rows):
            yield slice(start, start + rows)

    def open(self, index: int, view: Tensor, place: Place, mask: Tensor | None) -> Piece:
        """A piece to be written, exactly."""
        part = view[place]
        exact = part.float() if part.dtype in SHORT else part
        start = place.start if isinstance(place, slice) else 0
        return Piece(
            index, start, part, exact, None if mask is None else _within(mask, place, part)
        )

    def close(self, piece: Piece) -> None:
        """Project a piece and round it, or have it wait."""
        if self._waits(piece.tensor):
            self.waiting.append(piece)
            return
        if self.projection is not None and self.frame.entries(piece.tensor) > 1:
            dims = self.frame.blocks[piece.tensor].dims
            self._restore_(piece, self.projection.moments(piece.exact, dims))
        self._round_(piece)

    def restore_(self, rows: Tensor, moved: Tensor | None) -> None:
        """Project blocks that are the rows of a matrix."""
        if self.projection is not None and rows.shape[1] > 1:
            sums = self.projection.moments(rows, (1,))
            self.projection.restore_(rows, sums, rows.shape[1], moved)

    def _restore_(self, piece: Piece, sums: Sequence[Tensor]) -> None:
        assert self.projection is not None
        entries = self.frame.entries(piece.tensor)
        self.projection.restore_(piece.exact, sums, entries, piece.moved)

    def _round_(self, piece: Piece) -> None:
        if piece.exact is not piece.view:
            part = part_of(self.shards[piece.tensor])
            how = self.how.turn(piece.tensor, piece.row, part)
            piece.view.copy_(how.rounded(piece.exact, piece.view.dtype))

    def additive(self) -> list[Tensor]:
        """The moments of the pieces that wait."""
        assert self.projection is not None
        return [self.frame.everywhere(sums) for sums in self._sums(self.projection)]

    def _sums(self, projection: Projection) -> list[Tensor]:
        found = {}
        for piece in self.waiting:
            sums = projection.moments(piece.exact, self.frame.blocks[piece.tensor].dims)
            found[piece.tensor] = [self.frame.of_blocks(piece.tensor, s.flatten()) for s in sums]
        kinds = range(len(next(iter(found.values()))))
        like = self.waiting[0].exact
        nothing = [like.new_zeros(stack) for stack in self.frame.stacks]
        for i in self.frame.whole:
            nothing[i] = like.new_zeros(())
        return [
            self.frame.gather(
                [found[i][kind] if i in found else zeros for i, zeros in enumerate(nothing)]
            )
            for kind in kinds
        ]

    def take(self, totals: list[Tensor]) -> None:
        """Go on with the pieces that waited, given the moments of whole blocks."""
        kinds = [self.frame.over_views(self.frame.part(total)) for total in totals]
        for piece in self.waiting:
            self._restore_(piece, [kind[piece.tensor] for kind in kinds])
            self._round_(piece)


class Arrival(Finish):
    """The same of weights as they come; what already is where it belongs stays, bit for bit.

    So an optimizer built anew on weights that another left, as after a resume, changes none.
    """

    def _restore_(self, piece: Piece, sums: Sequence[Tensor]) -> None:
        assert self.projection is not None
        entries, eps = self.frame.entries(piece.tensor), torch.finfo(piece.view.dtype).eps
        astray = self.projection.astray(sums, entries, eps)
        super()._restore_(piece._replace(moved=astray), sums)


def _within(numbers: Tensor, place: Place, piece: Tensor) -> Tensor:
    """Of numbers that broadcast to a tensor, those that broadcast to a piece of it."""
    return numbers[place] if numbers.ndim and len(numbers) != 1 else numbers


def keep_(after: Sequence[State], before: Sequence[State], how: Write) -> None:
    """Write what changes of the states, in place."""
    new = [value for state in after for value in state.values()]
    old = [kept[name] for state, kept in zip(after, before, strict=True) for name in state]
    if old:
        torch._foreach_copy_(old, list(map(how.over, old, new)))


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
    weights: Sequence[Tensor], frame: Frame, how: Write, projection: Projection | None
) -> None:
    """Bring every block of the weights to where the rule wants it, if it wants it anywhere."""
    for turn in range(2 if projection is not None else 0):  # the first may be rough
        finish = Arrival(frame, how.turn(turn), projection)
        for i, view in enumerate(frame.views(weights)):
            for place in finish.places(i, view):
                finish.close(finish.open(i, view, place, None))
        if finish.waiting:
            join([finish])
