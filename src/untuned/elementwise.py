"""Rules that treat each entry of each tensor alike: on its own gradient and its own memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from untuned.geometry import assignment
from untuned.rule import Rule, State


class Move(NamedTuple):
    """One tensor's step: weight <- weight + coefficient * direction."""

    coefficient: Tensor | float  # 0-d, or broadcasting as the hyperparameters do
    direction: Tensor  # (*shape)
    state: State = {}  # noqa: RUF012  # with the same keys as before


@dataclass(frozen=True)
class Elementwise(Rule):
    """The base of elementwise rules: write `update`, and `init` if there is a state.

    A learning rate is a hyperparameter called `lr`. Both methods must be plain tensor arithmetic
    without branches on values: the optimizer may run `update` on many tensors end to end, on
    chunks of one, compiled, or differentiated, with hyperparameters as numbers or as tensors that
    broadcast.
    """

    def assign(self, module: nn.Module) -> Iterator[assignment.Assigned]:
        """By shape: these rules use no geometry, so a module's parameters stay one group."""
        return assignment.all_by_shape(module, self.by_shape)

    def init(self, weight: Tensor) -> State:
        """The state before the first step: tensors like the weight (never itself), or 0-d ones."""
        return {}

    def update(self, grad: Tensor, state: State) -> Move:
        """The step of one tensor.

        Args:
            grad: its gradient, (*shape).
            state: its state, by name.
        """
        raise NotImplementedError
