"""Rules that see gradients through geometry, one coefficient for each block of each tensor.

A parameter is a stack of *blocks* (a matrix, the gates of an LSTM, the submatrices of a
convolution), laid side by side by a `Frame` in one vector, so that a rule's arithmetic is a few
operations on that vector, however many tensors there are. What a rule may know of the other
layers passes through `measure`: one number for each block. The optimizer reduces these across
shards and ranks, in one collective, before anybody looks at them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from untuned import assignment
from untuned.frame import Frame, View, matrices
from untuned.rule import Rule, State

# Brings a weight, viewed as blocks, back to where the rule wants it, in place: of its blocks, which
# span the given dimensions, those that the mask says have moved (None: all). The others stay.
Projection = Callable[[Tensor, tuple[int, ...], Tensor | None], None]


class Step(NamedTuple):
    """What becomes of one group: weights gain coefficient times direction, block by block."""

    coefficients: Tensor  # (blocks,)
    directions: Sequence[Tensor]  # one a parameter, of its shape
    states: Sequence[State] = ()  # one a parameter: what changes of it; none if nothing is kept


class Leaves(NamedTuple):
    """The parameters of one group that have a gradient, as a rule sees them."""

    frame: Frame
    grads: Sequence[Tensor]
    sizes: Tensor  # (blocks,): what `measure` found, reduced across shards and ranks
    states: Sequence[State] = ()


@dataclass(frozen=True)
class Blockwise(Rule):
    """The base of blockwise rules; `rule.py` says what the methods are for."""

    view: ClassVar[View] = staticmethod(matrices)  # what a block is to the rule
    project_: ClassVar[Projection | None] = None  # where weights belong, if not anywhere

    def measure(self, frame: Frame, grads: Sequence[Tensor]) -> Tensor:
        """One number for each block, (blocks,): by default the norm of its gradient."""
        return frame.norms(grads)

    def init(self, frame: Frame, weights: Sequence[Tensor]) -> list[State]:
        """What to keep of each parameter before its first step: by default nothing."""
        return [{} for _ in weights]

    def step_size(self, groups: Sequence[Leaves], L: int) -> Tensor | float:
        """How far to go, 0-d, in units of `lr`, given the leaves of all groups and depth `L`.

        A rule that has a learning rate goes just that far. What a rule finds here may not depend on
        a hyperparameter that a tower tunes: it comes before they move.
        """
        return 1.0

    def update(self, leaves: Leaves, eta: Tensor | float, L: int) -> Step:
        """The step of one group: `eta` is `step_size`, times the learning rate.

        A hyperparameter of which each tensor has its own comes as one number a block, (blocks,).
        """
        raise NotImplementedError


class ByShape:
    """Mixed into a rule: geometry by shape alone, as in the authors' code."""

    def assign(self, module: nn.Module) -> Iterator[assignment.Assigned]:
        """Every parameter's geometry by its shape, whoever owns it."""
        return assignment.all_by_shape(module)
