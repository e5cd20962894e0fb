"""Optimizers of one tensor each that take turns: of one network, no doubt, which none of them sees.

Nero and elementwise rules need not see it. AGD and Auto ask how all tensors move together.
"""

import weakref
from typing import Any

import torch

from untuned.blockwise import Blockwise
from untuned.errors import TurnsWarning, warn

TAKING_TURNS = 3  # optimizers in turn: two may be of problems that are compared
KEPT = 1000  # optimizers to remember


class Turns:
    """The order in which optimizers of one tensor each have stepped."""

    def __init__(self) -> None:
        self.warned: bool = False  # once is enough
        self._order: list[weakref.ref[Any]] = []  # each where it stepped last

    def take(self, who: Any) -> None:
        """Note a step; warn if so many others have stepped since the last one.

        Args:
            who: stands for the optimizer.
        """
        place = next((i for i, each in enumerate(self._order) if each() is who), None)
        others = [] if place is None else self._order[place + 1 :]
        known = [each for each in self._order if each() is not None and each() is not who]
        self._order = [*known, weakref.ref(who)][-KEPT:]
        if len(others) >= TAKING_TURNS - 1:
            self.warned, self._order = True, []
            warn(
                "optimizers of one tensor each take turns, and each takes its tensor for a whole "
                "network: steps are as long as if no other tensor moved. If they are of one "
                "network, give one optimizer all of it; for steps within the backward pass choose "
                "untuned.Nero, or an elementwise rule, which look at one tensor at a time",
                TurnsWarning,
            )


turns: Turns = Turns()


def note_turn(who: Any, rule: Any) -> None:
    """Note a step of an optimizer of a single tensor, if its rule looks at the network.

    Args:
        who: stands for the optimizer.
        rule: that moves the tensor.
    """
    if turns.warned or torch.compiler.is_compiling() or not isinstance(rule, Blockwise):
        return
    kind = type(rule)
    asks = kind.plan_step is not Blockwise.plan_step or kind.step_size is not Blockwise.step_size
    if asks:
        turns.take(who)
