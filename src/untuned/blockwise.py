"""Rules that see gradients through geometry, one coefficient for each block of each tensor.

A parameter is a stack of *blocks* (a matrix, the gates of an LSTM, the submatrices of a
convolution), laid side by side in one `BlockVector`, so that a rule's arithmetic is a few
operations on that vector, however many tensors there are. A rule learns of the other
layers through `measure`: one number for each block. Of sharded tensors a rule sees this
rank's local shards; measures are all-reduced before `plan_step` and `update` see them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from untuned.geometry import assignment
from untuned.geometry.block_vector import BlockVector, View, matrices
from untuned.geometry.layer import Layer, Shape
from untuned.geometry.orthogonal import Duals
from untuned.rule import Rule, State


class Projection(NamedTuple):
    """The set that weights belong to, block by block; blocks of a single entry are left alone.

    moments: weight (blocks' view), dims that a block spans -> sums over `dims`, kept as size one.
    astray: moments, entries a block, eps of the weights' dtype -> blocks (*stack) outside the set.
    restore_: weight, its moments, entries a block, which blocks (*stack) have moved (None: all) ->
        projects these in place.
    """

    moments: Callable[[Tensor, tuple[int, ...]], Sequence[Tensor]]
    astray: Callable[[Sequence[Tensor], int, float], Tensor]
    restore_: Callable[[Tensor, Sequence[Tensor], int, Tensor | None], None]


class Step(NamedTuple):
    """One group's step: weights <- decay * weights + coefficient * direction, block by block."""

    coefficients: Tensor  # (blocks,)
    directions: Sequence[Tensor | None]  # one a parameter, (*shape); None: it stays as it is
    states: Sequence[State] = ()  # one a parameter: the entries that change
    decay: Tensor | None = None  # (blocks,); None: one
    # one a parameter, (*shape): entries stay where they are where this is zero; None: none do
    moving: Sequence[Tensor | None] = ()


class Leaves(NamedTuple):
    """The parameters of one group that have a gradient, as a rule sees them."""

    blocks: BlockVector
    grads: Sequence[Tensor]
    sizes: Tensor  # (blocks,): `measure` of whole blocks
    states: Sequence[State] = ()
    radial: Tensor | None = None  # (blocks,): <gradient, weights>, if `measures_radial`
    counter: Tensor | None = None  # (blocks,): the state named by `Blockwise.counter`
    # (blocks,): the gradient's projection on the state named by `measures_along`, in its length
    along: Tensor | None = None
    turn: int = 0  # how many steps were begun before, plus the group's number
    # indices, tensors -> U V^T of each of their blocks, and the blocks' norms
    orthogonalise: Callable[[Sequence[int], Sequence[Tensor]], Duals] | None = None

    @property
    def frame(self) -> BlockVector:
        """`blocks`, under its name before 0.2."""
        return self.blocks


class NetworkStep(NamedTuple):
    """The result of `plan_step`, for the whole network."""

    eta: Tensor | float  # how far to go, 0-d, in units of `lr`
    L: Tensor | int  # how deep the network is
    network_state: Mapping[str, Tensor] = {}  # to remember of the network, 0-d each


@dataclass(frozen=True)
class Blockwise(Rule):
    """The base of blockwise rules; the essay in `rule.py` has all methods with their shapes."""

    view: ClassVar[View] = staticmethod(matrices)  # what a block is to the rule
    projection: ClassVar[Projection | None] = None  # the set that weights belong to
    measures_radial: ClassVar[bool] = False  # whether `plan_step` wants <gradient, weights>
    counter: ClassVar[str | None] = None  # the state that `plan_step` wants of each block
    measures_along: ClassVar[str | None] = None  # the state that it wants gradients projected on

    def measure(self, blocks: BlockVector, grads: Sequence[Tensor]) -> Tensor:
        """One number for each block, (blocks,): by default the norm of its gradient.

        Args:
            blocks: the blocks of the gradients.
            grads: one a parameter; of sharded ones the local shard. Partial measures of a block
                are all-reduced as norms are: the root of the sum of their squares.
        """
        return blocks.norms(grads)

    def init(self, blocks: BlockVector, norms: Tensor) -> list[State]:
        """The initial state of each parameter: by default none.

        Args:
            blocks: the blocks of the weights.
            norms: of the weights' blocks, (blocks,).

        Returns:
            For each parameter 0-d tensors, or numbers of its blocks (*stack), by name.
        """
        return [{} for _ in blocks.shapes]

    def state_like_weight(self, layer: Layer, shape: Shape) -> tuple[str, ...]:
        """Names of further states of the parameter's own shape, which start at zero.

        Args:
            layer: the parameter's geometry.
            shape: the parameter's, also where it is sharded.
        """
        return ()

    def plan_step(
        self, groups: Sequence[Leaves], L: int, network_state: Mapping[str, Tensor]
    ) -> NetworkStep:
        """How far to go, and how deep the network is: by default `step_size` and L.

        Args:
            groups: measures of whole blocks; gradients and states are this rank's local shards.
            L: how many layers have a gradient.
            network_state: as the last step returned it, 0-d each; empty at first.
        """
        return NetworkStep(self.step_size(groups, L), L)

    def step_size(self, groups: Sequence[Leaves], L: int) -> Tensor | float:
        """How far to go, 0-d, in units of `lr`: 1 for a rule that has a learning rate.

        It comes before hyperparameters move, and so may not depend on one that a tower tunes.

        Args:
            groups: as in `plan_step`.
            L: as in `plan_step`.
        """
        return 1.0

    def update(self, leaves: Leaves, eta: Tensor | float, L: Tensor | int) -> Step:
        """The step of one group.

        Args:
            leaves: the group's gradients, measures and states. A hyperparameter of which each
                tensor has its own comes as one number a block, (blocks,), in `self`.
            eta: how far to go, 0-d, times the learning rate.
            L: how deep the network is.
        """
        raise NotImplementedError


class ByShape:
    """Mixed into a rule: geometry by shape alone, as in the authors' code."""

    @staticmethod
    def by_shape(shape: Shape) -> Layer:
        """The layer of a tensor: three dimensions are a convolution's, too."""
        return assignment.by_shape_as_published(shape)

    def assign(self, module: nn.Module) -> Iterator[assignment.Assigned]:
        """The layer of each parameter of a module: by its shape."""
        return assignment.all_by_shape(module, self.by_shape)
