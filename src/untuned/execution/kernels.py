"""One update of an elementwise rule on one bucket of entries: three ways to remember it.

A kernel is plain tensor arithmetic that ends by writing its results in place, so that one source
runs eagerly on pieces that fit a cache, and compiled, fused into one pass over memory. What a
tower keeps of the last update, its *record*, is the second choice of these:

    lone        no hyperparameter is tuned: no record
    tangent     one hyperparameter h is tuned: the record is d(last step)/dh, and the hypergradient
                its product with the new gradient. It saves the second pass over the state
    replay      several are: the record is the last gradient, and the state stays at its value from
                *before* the last step; the step is replayed, once to be differentiated, once to
                bring the state up to date

So a tower keeps no more than one tensor of a weight's size beyond what its rule remembers anyway.

`Buffers` is a dict of tensors: WEIGHT, GRAD, RECORD, and the rule's own state under its own names.
Hyperparameters come as a tuple in the order of `Tunable.hyperparameters`, 0-d or broadcasting to
the entries; `scale` multiplies the step; `how` is the terms of writing (`stochastic_rounding.py`).
"""

import functools
from typing import Any

import torch
from torch import Tensor

from untuned._tensors import cached, derivatives, pull_back
from untuned.domain import names_of
from untuned.elementwise import Elementwise, Move
from untuned.execution.record import MOVED, RECORD, rule_state
from untuned.execution.stochastic_rounding import Write
from untuned.rule import State

Values = tuple[Tensor, ...]
Buffers = dict[str, Tensor]

WEIGHT, GRAD = "tower.weight", "tower.grad"


class Kernels:
    """The kernels of one class of rules, given the positions of the tuned among its values."""

    def __init__(self, rule: type[Elementwise], tuned: tuple[int, ...]) -> None:
        self.rule: type[Elementwise] = rule
        self.tuned: tuple[int, ...] = tuned
        self.fields: list[tuple[str, int]] = [
            (field, len(names)) for field, names in names_of(rule).items()
        ]

    def lone(self, values: Values, scale: Tensor, how: Write, buffers: Buffers) -> None:
        """One step; nothing is recorded."""
        grad = buffers[GRAD].to(scale.dtype)
        move = self._with(values).update(grad, rule_state(buffers))
        _write_(buffers, {WEIGHT: _moved(buffers, scale, move), **move.state}, how)

    def tangent(self, values: Values, scale: Tensor, how: Write, buffers: Buffers) -> None:
        """One step; its derivative by the one tuned hyperparameter is recorded."""
        grad, state = buffers[GRAD].to(scale.dtype), rule_state(buffers)

        def step(h: Tensor) -> tuple[Tensor]:
            move = self._with(self._replacing(values, (h,))).update(grad, state)
            return ((scale * move.coefficient) * move.direction,)

        each = values[self.tuned[0]].expand(grad.shape)  # each entry moves by a copy of its own
        (derivative,) = pull_back(step, (each,), (torch.ones_like(scale).expand(grad.shape),))
        move = self._with(values).update(grad, state)
        new = {WEIGHT: _moved(buffers, scale, move), **move.state, RECORD: derivative}
        _write_(buffers, new, how)

    def replay(
        self, before: Values, values: Values, scale: Tensor, how: Write, buffers: Buffers
    ) -> None:
        """One step, after bringing the state up to date by the last, taken with `before`."""
        grad, state = buffers[GRAD].to(scale.dtype), self._current(before, buffers)
        move = self._with(values).update(grad, state)
        new = {WEIGHT: _moved(buffers, scale, move), **state, RECORD: grad}
        if MOVED in buffers:
            new[MOVED] = torch.ones_like(buffers[MOVED])
        _write_(buffers, new, how)

    def first(self, values: Values, scale: Tensor, how: Write, buffers: Buffers) -> None:
        """First recorded step: weights move, the state stays at its value before, for `replay`."""
        grad = buffers[GRAD].to(scale.dtype)
        move = self._with(values).update(grad, rule_state(buffers))
        _write_(buffers, {WEIGHT: _moved(buffers, scale, move), RECORD: grad}, how)

    def settle(self, values: Values, buffers: Buffers) -> None:
        """Bring the state up to date by the last step."""
        _write_(buffers, self._current(values, buffers), Write())

    def hypergradients(
        self, values: Values, scale: Tensor, buffers: Buffers, *tuned: Tensor
    ) -> tuple[list[Tensor], Tensor]:
        """Derivatives of `gain` by the tuned values, each of its value's shape, and its squares."""
        return derivatives(functools.partial(self.gain, values, scale, buffers), tuned)

    def gain(
        self, values: Values, scale: Tensor, buffers: Buffers, *tuned: Tensor
    ) -> tuple[Tensor, Tensor]:
        """<last step, gradient>, 0-d, by replaying the last step with these tuned values.

        Beside it the squared norm of the gradient over its last dimension, free in this pass.
        """
        grad = buffers[GRAD].to(scale.dtype)
        rule = self._with(self._replacing(values, tuned))
        move = rule.update(buffers[RECORD], rule_state(buffers))
        each = (scale * move.coefficient) * move.direction * grad
        return each.sum(), grad.square().sum(-1)

    def _current(self, before: Values, buffers: Buffers) -> State:
        """The state as the last step left it, if there was one."""
        state = rule_state(buffers)
        after = {**state, **self._with(before).update(buffers[RECORD], state).state}
        if MOVED not in buffers:
            return after
        return {name: torch.where(buffers[MOVED] > 0, after[name], state[name]) for name in state}

    def _with(self, values: Values) -> Elementwise:
        """The rule with these hyperparameters."""
        rule = object.__new__(self.rule)  # its fields were checked where they came from
        start = 0
        for field, count in self.fields:
            value: Any = values[start] if count == 1 else values[start : start + count]
            object.__setattr__(rule, field, value)
            start += count
        return rule

    def _replacing(self, values: Values, tuned: Values) -> Values:
        """All values, the tuned ones replaced."""
        every = list(values)
        for position, value in zip(self.tuned, tuned, strict=True):
            every[position] = value
        return tuple(every)


def _moved(buffers: Buffers, scale: Tensor, move: Move) -> Tensor:
    """The weights after a move."""
    return torch.addcmul(buffers[WEIGHT], scale * move.coefficient, move.direction)


def _write_(buffers: Buffers, new: State, how: Write) -> None:
    """Write new values over those in the buffers."""
    for name, value in new.items():
        old = buffers[name]
        if how.key is not None and name == WEIGHT:
            value = how.rounded(value, old.dtype)
        old.copy_(value if how.finite is True else how.over(old, value))


@cached(64)
def kernels(rule: type[Elementwise], tuned: tuple[int, ...]) -> Kernels:
    """The kernels of a class of rules; made once."""
    return Kernels(rule, tuned)
