"""Rules that treat each entry of each tensor alike: on its own gradient and its own memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from untuned.geometry import assignment
from untuned.rule import Rule, State


class Move(NamedTuple):
    """What becomes of a tensor: it gains coefficient times direction."""

    coefficient: Tensor | float  # 0-d, unless what it is made of is not
    direction: Tensor  # of the tensor's shape
    state: State = {}  # noqa: RUF012  # of the same keys as before; none if nothing is kept


@dataclass(frozen=True)
class Elementwise(Rule):
    """The base of elementwise rules: write `update`, and `init` if anything is remembered.

    A learning rate is a hyperparameter called `lr`. Both methods must be plain tensor arithmetic
    without branches on values: the optimizer may run `update` on many tensors end to end, on
    pieces of one, compiled, or differentiated, and hands it hyperparameters as numbers or as
    tensors that broadcast.
    """

    def assign(self, module: nn.Module) -> Iterator[assignment.Assigned]:
        """Geometry is nothing to these rules: a module's parameters stay one group."""
        return assignment.all_by_shape(module)

    def init(self, weight: Tensor) -> State:
        """What to remember of a weight before its first step: tensors like it, or 0-d ones.

        Not the weight itself, which moves: a clone of it.
        """
        return {}

    def update(self, grad: Tensor, state: State) -> Move:
        """The move of one tensor, given its gradient and what is remembered of it."""
        raise NotImplementedError
