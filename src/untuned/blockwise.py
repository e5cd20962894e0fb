"""Rules that see gradients through geometry, one coefficient for each block of each tensor.

A parameter is a stack of *blocks* (a matrix, the gates of an LSTM, the submatrices of a
convolution), laid side by side in one `BlockVector`, so that a rule's arithmetic is a few
operations on that vector, however many tensors there are. What a rule may know of the other
layers passes through `measure`: one number for each block. Of tensors that are spread over several
processes a rule sees the part that is here; the optimizer joins the measures of the parts, in one
collective, before anybody looks at them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from untuned.geometry import assignment
from untuned.geometry.block_vector import BlockVector
from untuned.geometry.layer import Layer, Shape, View, matrices
from untuned.geometry.orthogonal import Duals
from untuned.rule import Rule, State


class Projection(NamedTuple):
    """Where the weights of each block belong, given sums over its entries.

    Blocks of a single entry stay as they are: there is nothing to balance.

    moments: a weight, viewed as blocks, and the dimensions that blocks span ->
        sums over them, one tensor for each kind, in which they are kept as dimensions of one.
    astray: moments; how many entries a block has; the precision of the weights -> which blocks
        (*stack) are not where they belong.
    restore_: the same weight, in place; its moments; how many entries a block has; and which
        blocks have moved (None: all), for the others stay where they are.
    """

    moments: Callable[[Tensor, tuple[int, ...]], Sequence[Tensor]]
    astray: Callable[[Sequence[Tensor], int, float], Tensor]
    restore_: Callable[[Tensor, Sequence[Tensor], int, Tensor | None], None]


class Step(NamedTuple):
    """What becomes of one group: weights gain coefficient times direction, block by block."""

    coefficients: Tensor  # (blocks,)
    directions: Sequence[Tensor]  # one a parameter, of its shape
    states: Sequence[State] = ()  # one a parameter: what changes of it; none if nothing is kept
    decay: Tensor | None = None  # (blocks,): what weights are multiplied with before; None: by one


class Leaves(NamedTuple):
    """The parameters of one group that have a gradient, as a rule sees them."""

    blocks: BlockVector
    grads: Sequence[Tensor]
    sizes: Tensor  # (blocks,): what `measure` found of whole blocks
    states: Sequence[State] = ()
    radial: Tensor | None = None  # (blocks,): <gradient, weights>, for a rule that asks for it
    counter: Tensor | None = (
        None  # (blocks,): the state called `Blockwise.counter`, if there is one
    )
    # indices, tensors -> U V^T of each of their blocks, and the blocks' norms
    orthogonalise: Callable[[Sequence[int], Sequence[Tensor]], Duals] | None = None

    @property
    def frame(self) -> BlockVector:
        """`blocks`, by its name of before 0.2."""
        return self.blocks


class NetworkStep(NamedTuple):
    """What a rule finds by looking at the whole network."""

    eta: Tensor | float  # how far to go, in units of `lr`
    L: Tensor | int  # how deep the network is
    network_state: Mapping[str, Tensor] = {}  # what to remember of the network, 0-d


@dataclass(frozen=True)
class Blockwise(Rule):
    """The base of blockwise rules; `rule.py` says what the methods are for."""

    view: ClassVar[View] = staticmethod(matrices)  # what a block is to the rule
    projection: ClassVar[Projection | None] = None  # where weights belong, if not anywhere

    measures_radial: ClassVar[bool] = (
        False  # whether to measure how the loss changes as blocks grow
    )
    counter: ClassVar[str | None] = None  # what is remembered of each block that `plan_step` sees

    def measure(self, frame: BlockVector, grads: Sequence[Tensor]) -> Tensor:
        """One number for each block, (blocks,): by default the norm of its gradient.

        Parts of a block are joined as norms are: by the root of the sum of their squares.
        """
        return frame.norms(grads)

    def init(self, frame: BlockVector, norms: Tensor) -> list[State]:
        """What to keep of each parameter before its first step: by default nothing.

        Given the norms of the weights' blocks, (blocks,): numbers for the tensor, or its blocks.
        """
        return [{} for _ in frame.shapes]

    def state_like_weight(self, layer: Layer, shape: Shape) -> tuple[str, ...]:
        """The names of what is kept of a parameter that has its shape; it starts at zero."""
        return ()

    def plan_step(
        self, groups: Sequence[Leaves], L: int, network_state: Mapping[str, Tensor]
    ) -> NetworkStep:
        """How far, and how deep, given what was remembered of the network: nothing at first."""
        return NetworkStep(self.step_size(groups, L), L)

    def step_size(self, groups: Sequence[Leaves], L: int) -> Tensor | float:
        """How far to go, 0-d, in units of `lr`, given the leaves of all groups and depth `L`.

        Frames, sizes and so on are those of the whole network, but gradients and states what is
        here of them.

        A rule that has a learning rate goes just that far. What a rule finds here may not depend on
        a hyperparameter that a tower tunes: it comes before they move.
        """
        return 1.0

    def update(self, leaves: Leaves, eta: Tensor | float, L: Tensor | int) -> Step:
        """The step of one group: `eta` is `step_size`, times the learning rate.

        A hyperparameter of which each tensor has its own comes as one number a block, (blocks,).
        """
        raise NotImplementedError


class ByShape:
    """Mixed into a rule: geometry by shape alone, as in the authors' code."""

    def assign(self, module: nn.Module) -> Iterator[assignment.Assigned]:
        """Every parameter's geometry by its shape, whoever owns it."""
        return assignment.all_by_shape(module)
