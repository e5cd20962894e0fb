"""What an executor is: one rule's steps on some tensors, whatever kind of rule it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from untuned.distributed.shards import Layout, Shard
from untuned.execution.project import PieceWriter
from untuned.execution.stochastic_rounding import Write
from untuned.rule import State

Numbers = Mapping[str, Tensor | float]


class StepInputs(NamedTuple):
    """The numbers that a step is taken with.

    values: hyperparameters by name, 0-d, or (tensors,) where each tensor has its own.
    scale: what the step is multiplied with, 0-d: how far, times the multiplier `lr`, signed.
    L: the network's depth, for blockwise rules.
    """

    values: Numbers
    scale: Tensor | float = 0.0
    L: Tensor | int = 1


class Executor(Protocol):
    """Steps of one rule on some tensors, or on this rank's local shards of them."""

    rule: Any  # may be replaced by one of the same type between steps
    weights: Sequence[Tensor]
    shards: Sequence[Shard | None]
    sizes: Tensor  # what `measure` found, (blocks,) or (tensors,): finite if all gradients are

    def begin(self, states: Sequence[State]) -> None:
        """Meet tensors, or their states, that are new."""

    def measure(
        self, grads: Sequence[Tensor], last: StepInputs, norms: bool | None
    ) -> dict[str, Tensor]:
        """Measure the gradients, and pull hypergradients back through the last step.

        Args:
            grads: the gradients, or this rank's local shards of them.
            last: the inputs of the last step.
            norms: whether `sizes` must be norms; else any numbers that are finite if norms are;
                None: nobody reads them.

        Returns:
            The derivative of <last step, gradients> by each tuned value, of its shape; of sharded
            tensors this rank's partial sum.
        """

    def partial_sums(self) -> list[Tensor]:
        """This rank's parts of the measures, pre-scaled for the all-reduce."""

    def receive_sums(self, totals: list[Tensor]) -> None:
        """Replace the measures by those of whole tensors, given the all-reduced `partial_sums`."""

    def owner(self, index: int) -> int:
        """The tensor that `sizes[index]` belongs to."""

    def apply(self, last: StepInputs, now: StepInputs, how: Write) -> PieceWriter | None:
        """Take a step.

        Args:
            last: the inputs of the last step.
            now: those of this one.
            how: whether the step is taken, and the rounding key.

        Returns:
            The pieces that wait for moments of blocks that ranks share; None: nothing.
        """

    def drop_record(self, last: StepInputs) -> None:
        """Drop the record of the last step, once the state is up to date."""

    def layout(self, index: int, name: str) -> Layout:
        """How the state of a name of a sharded tensor lies across ranks."""
