"""The interface of executors: one rule's steps on a list of tensors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

from untuned.distributed.shards import Layout, Shard
from untuned.execution.project import PieceWriter
from untuned.execution.record import RECORD, Record
from untuned.execution.stochastic_rounding import Write
from untuned.geometry.layer import Layer
from untuned.rule import State

Numbers = Mapping[str, Tensor | float]


class StepInputs(NamedTuple):
    """The numbers that a step is taken with.

    values: hyperparameters by name, 0-d, or (tensors,) where each tensor has its own.
    scale: factor of the step, 0-d: how far, times the multiplier `lr`, signed.
    L: the network's depth, for blockwise rules.
    turn: how many steps were begun before, plus the group's number, for rules that take turns.
    """

    values: Numbers
    scale: Tensor | float = 0.0
    L: Tensor | int = 1
    turn: int = 0


@dataclass(eq=False)
class Executor:
    """Steps of one rule on some tensors.

    Args:
        rule: may be replaced by one of the same type between steps.
        tuned: the names of the hyperparameters that a floor above tunes.
        weights: the tensors, or this rank's local shards.
        shards: of each tensor its shard, None of a plain one.
        layers: the geometry of each tensor.
        compile: whether kernels of elementwise rules run compiled; None: where that pays.
    """

    rule: Any
    tuned: Sequence[str]
    weights: Sequence[Tensor]
    shards: Sequence[Shard | None]
    layers: Sequence[Layer]
    compile: bool | None
    grads: Sequence[Tensor] = field(init=False)
    states: Sequence[State] = field(init=False)
    recorded: list[int] = field(init=False)  # the tensors that have a record of a last step
    sizes: Tensor = field(init=False)  # of `measure`: finite if all gradients are

    def begin(self, states: Sequence[State]) -> None:
        """Meet tensors, or their states, that are new."""
        self.states = states
        self.recorded = [i for i, state in enumerate(states) if RECORD in state]

    def measure(
        self, grads: Sequence[Tensor], last: StepInputs, norms: bool | None
    ) -> dict[str, Tensor]:
        """Measure the gradients, and pull hypergradients back through the last step.

        Args:
            grads: the gradients, or this rank's local shards of them.
            last: the inputs of the last step.
            norms: whether `sizes` must be norms; else any numbers that are finite if norms are;
                None: they are not read.

        Returns:
            The derivative of <last step, gradients> by each tuned value, of its shape; of sharded
            tensors this rank's partial sum.
        """
        raise NotImplementedError

    def release(self) -> None:
        """Let go of the gradients: their memory is the next forward pass's."""
        self.grads = ()

    def partial_sums(self) -> list[Tensor]:
        """This rank's parts of the measures, pre-scaled for the all-reduce."""
        raise NotImplementedError

    def receive_sums(self, totals: list[Tensor]) -> None:
        """Replace the measures by those of whole tensors, given the all-reduced `partial_sums`."""
        raise NotImplementedError

    def owner(self, index: int) -> int:
        """The tensor that `sizes[index]` belongs to."""
        return index

    def apply(self, last: StepInputs, now: StepInputs, how: Write) -> PieceWriter | None:
        """Take a step; returns the pieces that wait for moments of blocks that ranks share, if any.

        Args:
            last: the inputs of the last step.
            now: those of this one.
            how: whether the step is taken, and the rounding key.
        """
        raise NotImplementedError

    def drop_record(self, last: StepInputs) -> None:
        """Drop the record of the last step, once the state is up to date."""
        for i in self.recorded:
            Record.drop(self.states[i])

    def layout(self, index: int, name: str) -> Layout:
        """How a sharded tensor's state lies across ranks: by default like the tensor.

        Args:
            index: of the tensor.
            name: of the state.
        """
        shard = self.shards[index]
        assert shard is not None
        return shard.layout
