"""What is done to weights after a step, piece by piece: they are projected and rounded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from untuned.blockwise import Projection
from untuned.distributed.sharded_blocks import ShardedBlockVector
from untuned.distributed.shards import Shard, shard_index
from untuned.execution.stochastic_rounding import SHORT, Write
from untuned.geometry.block_vector import BlockVector

if TYPE_CHECKING:
    from types import EllipsisType  # Python 3.10 has it

    Place = slice | EllipsisType

PIECES = {"cpu": 2**20}  # entries to work on at once: they stay in the cache
LARGEST = 2**26  # elsewhere: what is made on the way should not be large


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

    frame: BlockVector
    how: Write
    projection: Projection | None
    shards: Sequence[Shard | None]

    def __init__(self, frame: BlockVector, how: Write, projection: Projection | None) -> None:
        self.frame, self.how, self.projection = frame, how, projection
        whole: list[Shard | None] = [None] * len(frame.shapes)
        self.shards = frame.shards if isinstance(frame, ShardedBlockVector) else whole
        self.waiting: list[Piece] = []

    def _waits(self, index: int) -> bool:
        alone = self.projection is None or self.frame.entries(index) < 2
        return not alone and self.frame.is_divided(index)

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
        return Piece(index, start, part, exact, None if mask is None else within(mask, place, part))

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
            part = shard_index(self.shards[piece.tensor])
            how = self.how.turn(piece.tensor, piece.row, part)
            piece.view.copy_(how.rounded(piece.exact, piece.view.dtype))

    def partial_sums(self) -> list[Tensor]:
        """The moments of the pieces that wait."""
        assert self.projection is not None
        return [self.frame.scatter(sums) for sums in self._sums(self.projection)]

    def _sums(self, projection: Projection) -> list[Tensor]:
        found = {}
        for piece in self.waiting:
            sums = projection.moments(piece.exact, self.frame.blocks[piece.tensor].dims)
            found[piece.tensor] = [self.frame.sum_cells(piece.tensor, s.flatten()) for s in sums]
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

    def receive_sums(self, totals: list[Tensor]) -> None:
        """Go on with the pieces that waited, given the moments of whole blocks."""
        kinds = [self.frame.per_view(self.frame.local_entries(total)) for total in totals]
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


def within(numbers: Tensor, place: Place, piece: Tensor) -> Tensor:
    """Of numbers that broadcast to a tensor, those that broadcast to a piece of it."""
    return numbers[place] if numbers.ndim and len(numbers) != 1 else numbers
