"""How blockwise rules run: one step for all tensors of a group at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from untuned.blockwise import Blockwise, Leaves, Step
from untuned.execute import keep_, write_
from untuned.frame import Frame, frame_of
from untuned.kernels import RECORD, forget_, own
from untuned.layer import Layer
from untuned.rule import State

# What a tower keeps of the last step beside its gradient: the measures, and the state before it
SIZES, BEFORE = "tower.sizes", "tower.before."

Values = Mapping[str, Tensor | float]


def frame_for(rule: Blockwise, layer: Layer | None, weights: Sequence[Tensor]) -> Frame:
    """The blocks of weights of one layer, or each by its shape, as the rule sees them."""
    return frame_of(layer, tuple(weight.shape for weight in weights), type(rule).view)


class Blocks:
    """Some tensors of one geometry that a blockwise rule moves, in one step.

    Values of hyperparameters are 0-d, or one a tensor, (tensors,); `tuned` names those that a floor
    above moves.
    """

    def __init__(
        self,
        rule: Blockwise,
        tuned: Sequence[str],
        weights: Sequence[Tensor],
        grads: Sequence[Tensor],
        states: Sequence[State],
        layer: Layer | None,
    ) -> None:
        self.rule, self.tuned, self.layer = rule, list(tuned), layer
        self.weights, self.grads, self.states = weights, grads, states
        everything = range(len(weights))
        self.frame = self._frame(everything)
        fresh = [i for i in everything if not own(states[i])]
        initial = rule.init(self._frame(fresh), [weights[i] for i in fresh]) if fresh else []
        for i, state in zip(fresh, initial, strict=True):
            states[i].update(state)
        self.recorded = [i for i in everything if RECORD in states[i]]

    def _frame(self, indices: Sequence[int]) -> Frame:
        """The blocks of some of the tensors."""
        return frame_for(self.rule, self.layer, [self.weights[i] for i in indices])

    def look(
        self, values: Values, scale: Tensor | float, L: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The rule's measures, (blocks,); and the hypergradients.

        These are, of each tuned value, the derivative of <last step, gradients>; `values`, `scale`
        and `L` are what the last step was taken with.
        """
        sizes = self.rule.measure(self.frame, self.grads)
        return sizes, self._pull(values, scale, L) if self.tuned else {}

    def owner(self, block: int) -> int:
        """The index of the tensor that one of `sizes` belongs to."""
        return int(self.frame.owner(torch.device("cpu"))[block])

    def leaves(self, sizes: Tensor) -> Leaves:
        """What the rule sees, given its measures."""
        return Leaves(self.frame, self.grads, sizes, self.states)

    def _pull(self, values: Values, scale: Tensor | float, L: int) -> dict[str, Tensor]:
        """The hypergradients, by replaying the last step."""
        given = {name: torch.as_tensor(values[name]).detach() for name in self.tuned}
        if not self.recorded:
            return {name: torch.zeros_like(value) for name, value in given.items()}
        states = [self.states[i] for i in self.recorded]
        frame = self._frame(self.recorded)
        leaves = Leaves(
            frame,
            [state[RECORD] for state in states],
            frame.gather([state[SIZES] for state in states]),
            [{name: state[BEFORE + name] for name in own(state)} for state in states],
        )
        with torch.enable_grad():
            given = {name: value.requires_grad_() for name, value in given.items()}
            step = self._step({**values, **given}, leaves, scale, L, self.recorded)
            dots = frame.dots(step.directions, [self.grads[i] for i in self.recorded])
            gain = torch.dot(step.coefficients, dots.to(step.coefficients.dtype))
            pulls = torch.autograd.grad(gain, list(given.values()), materialize_grads=True)
        return dict(zip(given, pulls, strict=True))

    def move(
        self, values: Values, scale: Tensor | float, L: int, sizes: Tensor, finite: bool | Tensor
    ) -> None:
        """Take the step, `scale` times as long."""
        leaves = self.leaves(sizes)
        records = self._records(sizes) if self.tuned else []
        step = self._step(values, leaves, scale, L, range(len(self.weights)))
        write_(self.weights, step, leaves, finite, type(self.rule).project_)
        for state, record in zip(self.states, records, strict=False):
            state.update({k: torch.zeros_like(v) for k, v in record.items() if k not in state})
        if records:
            keep_(records, self.states, finite)

    def _records(self, sizes: Tensor) -> list[State]:
        """What a replay of the coming step needs to know."""
        return [
            {RECORD: grad, SIZES: size, **{BEFORE + n: v.clone() for n, v in own(state).items()}}
            for grad, size, state in zip(
                self.grads, self.frame.spread(sizes), self.states, strict=True
            )
        ]

    def _step(
        self,
        values: Values,
        leaves: Leaves,
        scale: Tensor | float,
        L: int,
        indices: Sequence[int],
    ) -> Step:
        """The rule's step; a value that each tensor has of its own reaches each of its blocks."""
        rule = self.rule
        if self.tuned:
            owner = leaves.frame.owner(leaves.sizes.device)
            rule = rule.replacing(
                {
                    name: value[list(indices)][owner]
                    if isinstance(value, Tensor) and value.ndim
                    else value
                    for name, value in values.items()
                }
            )
        return rule.update(leaves, scale * getattr(rule, "lr", 1.0), L)

    def settle(self) -> None:
        """Forget the last step."""
        for i in self.recorded:
            forget_(self.states[i])
