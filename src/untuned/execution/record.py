"""Records: what a replay of the last update needs of one tensor.

Only towers keep records. They lie in the tensor's state beside the rule's entries, under names with
a dot, which a rule's entries have not, so that checkpoints and shards treat both alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from untuned.rule import State

RECORD, MOVED, SIZES, BEFORE = "tower.record", "tower.moved", "tower.sizes", "tower.before."


def rule_state(state: State) -> State:
    """The entries that the rule itself remembers."""
    return {name: value for name, value in state.items() if "." not in name}


class Record(NamedTuple):
    """The inputs of one tensor's last update.

    grad: the gradient, of the tensor's shape, in its compute dtype. Where a floor tunes a single
        hyperparameter h of an elementwise rule, d(step)/dh in its place (`kernels.py`, tangent).
    moved: 0-d, 1 if there was an update, for the first may have been skipped; None: there was.
    sizes: blockwise rules only: the measures of the tensor's blocks, of its stack's shape.
    before: blockwise rules only: the rule's state before the update. An elementwise rule's state
        itself stays at its value before the update, until the next one.
    """

    grad: Tensor
    moved: Tensor | None = None
    sizes: Tensor | None = None
    before: Mapping[str, Tensor] = {}

    @classmethod
    def of(cls, state: State) -> Record:
        """The record in a tensor's state; KeyError without one."""
        before = {k.removeprefix(BEFORE): v for k, v in state.items() if k.startswith(BEFORE)}
        return cls(state[RECORD], state.get(MOVED), state.get(SIZES), before)

    def entries(self) -> State:
        """The record as entries of a tensor's state."""
        named = {RECORD: self.grad, MOVED: self.moved, SIZES: self.sizes}
        named |= {BEFORE + name: value for name, value in self.before.items()}
        return {name: value for name, value in named.items() if value is not None}

    @staticmethod
    def drop(state: State) -> None:
        """Remove the record from a tensor's state."""
        for name in [name for name in state if name.startswith("tower.")]:
            del state[name]
