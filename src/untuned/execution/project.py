"""Projections and rounding: weights written piece by piece, while a piece is in the cache."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import EllipsisType
from typing import NamedTuple

import torch
from torch import Tensor

from untuned.blockwise import Projection
from untuned.distributed.all_reduce import sum_over_ranks
from untuned.distributed.shards import Shard, shard_index
from untuned.execution.stochastic_rounding import SHORT, Write
from untuned.geometry.block_vector import BlockVector

PIECES = {"cpu": 2**20}  # entries to work on at once: they stay in the cache
LARGEST = 2**26  # elsewhere: intermediate results should not be large


class Piece(NamedTuple):
    """Some rows of a weight, viewed as blocks."""

    weight: int  # its index
    place: slice | EllipsisType  # its rows in the view
    view: Tensor
    exact: Tensor  # the same in the compute dtype
    moved: Tensor | None  # which blocks have moved; None: all

    def of(self, numbers: Tensor) -> Tensor:
        """Of numbers that broadcast to the whole view, those that broadcast to the piece."""
        return numbers[self.place] if numbers.ndim and len(numbers) != 1 else numbers


@dataclass(eq=False)
class PieceWriter:
    """Writes pieces of weights: projects, then rounds them.

    A piece whose blocks are divided between ranks waits for the moments of whole blocks, which are
    all-reduced for all groups together (`all_reduce.Summand`).
    """

    blocks: BlockVector
    shards: Sequence[Shard | None]
    how: Write
    projection: Projection | None
    waiting: list[Piece] = field(default_factory=list)

    def pieces(self, index: int, view: Tensor, moved: Tensor | None) -> Iterator[Piece]:
        """The pieces of a weight that fit the cache; one, if its blocks are needed whole."""
        size = PIECES.get(view.device.type, LARGEST)
        spans = self.projection is not None and (
            0 in self.blocks.blocks[index].dims or self._waits(index)
        )
        places: list[slice | EllipsisType] = [...]
        if view.numel() > size and not spans:
            rows = max(1, size // view[0].numel())
            places = [slice(start, start + rows) for start in range(0, len(view), rows)]
        for place in places:
            part = view[place]
            exact = part.float() if part.dtype in SHORT else part
            piece = Piece(index, place, part, exact, None)
            yield piece if moved is None else piece._replace(moved=piece.of(moved))

    def close(self, piece: Piece) -> None:
        """Project a piece and round it, or have it wait."""
        if self.projection is not None and self._waits(piece.weight):
            self.waiting.append(piece)
            return
        if self.projection is not None and self.blocks.entries(piece.weight) > 1:
            dims = self.blocks.blocks[piece.weight].dims
            self._project_(piece, self.projection, self.projection.moments(piece.exact, dims))
        self._round_(piece)

    def _waits(self, index: int) -> bool:
        return self.blocks.entries(index) > 1 and self.blocks.is_divided(index)

    def _project_(self, piece: Piece, projection: Projection, sums: Sequence[Tensor]) -> None:
        projection.restore_(piece.exact, sums, self.blocks.entries(piece.weight), piece.moved)

    def _round_(self, piece: Piece) -> None:
        if piece.exact is not piece.view:
            row = piece.place.start if isinstance(piece.place, slice) else 0
            how = self.how.fold_in(piece.weight, row, shard_index(self.shards[piece.weight]))
            piece.view.copy_(how.rounded(piece.exact, piece.view.dtype))

    def partial_sums(self) -> list[Tensor]:
        """This rank's moments of the pieces that wait, (all blocks,) each."""
        assert self.projection is not None
        found, blocks = {}, self.blocks
        for piece in self.waiting:
            sums = self.projection.moments(piece.exact, blocks.blocks[piece.weight].dims)
            found[piece.weight] = [blocks.sum_cells(piece.weight, s.flatten()) for s in sums]
        zeros = blocks.spread(sums[0].new_zeros(len(blocks.whole) + sum(blocks.counts)))
        each = [found.get(i, [zero] * len(sums)) for i, zero in enumerate(zeros)]
        return [blocks.scatter(blocks.gather(kind)) for kind in zip(*each, strict=True)]

    def receive_sums(self, totals: list[Tensor]) -> None:
        """Project and round the pieces that waited, given the moments of whole blocks."""
        assert self.projection is not None
        kinds = [self.blocks.per_view(self.blocks.local_entries(total)) for total in totals]
        for piece in self.waiting:
            self._project_(piece, self.projection, [kind[piece.weight] for kind in kinds])
            self._round_(piece)


class InitialProjection(PieceWriter):
    """Projects weights as the optimizer is given them; balanced ones stay, as after a resume."""

    def _project_(self, piece: Piece, projection: Projection, sums: Sequence[Tensor]) -> None:
        entries, eps = self.blocks.entries(piece.weight), torch.finfo(piece.view.dtype).eps
        moved = projection.astray(sums, entries, eps)
        super()._project_(piece._replace(moved=moved), projection, sums)


@torch.no_grad()
def project_all_(
    weights: Sequence[Tensor],
    blocks: BlockVector,
    shards: Sequence[Shard | None],
    key: Tensor | None,
    projection: Projection,
) -> None:
    """Project every block of some weights, or local shards; `key`: of stochastic rounding."""
    for turn in range(2):  # the first may be rough
        writer = InitialProjection(blocks, shards, Write(key=key).fold_in(turn), projection)
        for i, view in enumerate(blocks.views(weights)):
            for piece in writer.pieces(i, view, None):
                writer.close(piece)
        if writer.waiting:
            sum_over_ranks([writer])
