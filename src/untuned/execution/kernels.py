"""What happens to a run of entries in one step of an elementwise rule: three ways to remember.

A kernel is plain tensor arithmetic that ends by writing its results in place, so that one source
runs eagerly on pieces that fit a cache, and compiled, fused into one pass over memory. What a
tower keeps of the last update, its *record*, is the second choice of these:

    lone        nothing is tuned: nothing is kept
    tangent     one hyperparameter h is tuned: d(last step)/dh is kept, and the hypergradient is its
                product with the new gradient
    replay      several are: the last gradient is kept, and the state from *before* the last step;
                the step is replayed, once to be differentiated, once to bring the state up to date

So a tower keeps no more than one tensor of a weight's size beyond what its rule remembers anyway.

A run is a dict of tensors: WEIGHT, GRAD, RECORD, and the rule's own state under its own names.
Hyperparameters come as a tuple in the order of `Rule.hyperparameters`, 0-d or broadcasting to the
entries; `scale` multiplies the step; `how` says on what terms results are written (`rounding.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from untuned._cache import cached
from untuned.domain import names_of
from untuned.elementwise import Elementwise, Move
from untuned.execution.stochastic_rounding import Write
from untuned.rule import State

Values = tuple[Tensor, ...]
Run = dict[str, Tensor]

# The names with a dot are ours: a rule's own have none.
WEIGHT, GRAD, RECORD = "tower.weight", "tower.grad", "tower.record"
# 0-d: 1 once there is a last step, for the first may have been skipped
MOVED = "tower.moved"


def own(state: State) -> State:
    """What the rule itself remembers, of all that is kept of a tensor."""
    return {name: value for name, value in state.items() if "." not in name}


def forget_(state: State) -> None:
    """Drop what a tower keeps of the last step of a tensor."""
    for name in [name for name in state if name.startswith("tower.")]:
        del state[name]


def _put_(run: Run, new: State, how: Write) -> None:
    """Write new values over those of a run."""
    for name, value in new.items():
        old = run[name]
        value = how.rounded(value, old.dtype) if name == WEIGHT else value
        old.copy_(how.over(old, value))


class Kernels:
    """The kernels of one class of rules, given the places of the tuned among its values."""

    rule: type[Elementwise]
    tuned: tuple[int, ...]
    layout: list[tuple[str, int]]

    def __init__(self, rule: type[Elementwise], tuned: tuple[int, ...]) -> None:
        self.rule, self.tuned = rule, tuned
        self.layout = [(field, len(names)) for field, names in names_of(rule).items()]

    def lone(self, values: Values, scale: Tensor, how: Write, run: Run) -> None:
        """One step; nothing is recorded."""
        move = self._update(values, run[GRAD].to(scale.dtype), own(run))
        _put_(run, {WEIGHT: _moved(run, scale, move), **move.state}, how)

    def tangent(self, values: Values, scale: Tensor, how: Write, run: Run) -> None:
        """One step; its derivative by the one hyperparameter that is tuned is recorded."""
        grad, state = run[GRAD].to(scale.dtype), own(run)

        def length(h: Tensor) -> tuple[Tensor, Tensor]:
            move = self._update(self._replacing(values, (h,)), grad, state)
            return ((scale * move.coefficient) * move.direction).sum(), h

        each = values[self.tuned[0]].expand(grad.shape)  # each entry moves by a copy of its own
        (derivative,), _ = derivatives(length, (each,))
        move = self._update(values, grad, state)
        new = {WEIGHT: _moved(run, scale, move), **move.state, RECORD: derivative}
        _put_(run, new, how)

    def replay(self, before: Values, values: Values, scale: Tensor, how: Write, run: Run) -> None:
        """One step, after bringing the state up to date by the last, whose values were `before`."""
        grad, state = run[GRAD].to(scale.dtype), self._current(before, run)
        move = self._update(values, grad, state)
        new = {WEIGHT: _moved(run, scale, move), **state, RECORD: grad}
        if MOVED in run:
            new[MOVED] = torch.ones_like(run[MOVED])
        _put_(run, new, how)

    def first(self, values: Values, scale: Tensor, how: Write, run: Run) -> None:
        """A step that `replay` can follow: the state stays as it is before it."""
        grad = run[GRAD].to(scale.dtype)
        move = self._update(values, grad, own(run))
        _put_(run, {WEIGHT: _moved(run, scale, move), RECORD: grad}, how)

    def settle(self, values: Values, run: Run) -> None:
        """Bring the state up to date by the last step."""
        _put_(run, self._current(values, run), Write())

    def pull(
        self, values: Values, leaves: Values, scale: Tensor, run: Run
    ) -> tuple[list[Tensor], Tensor]:
        """The hypergradients, of <last step, gradient> by `leaves`, which are the tuned values.

        Each has its leaf's shape: expanded leaves give sums over the entries that see them. Beside
        them the squared norm of the gradient, of its last dimension, which costs nothing here.
        """
        grad, state = run[GRAD].to(scale.dtype), own(run)

        def gain(*leaves: Tensor) -> tuple[Tensor, Tensor]:
            move = self._update(self._replacing(values, leaves), run[RECORD], state)
            each = (scale * move.coefficient) * move.direction * grad
            return each.sum(), grad.square().sum(-1)

        return derivatives(gain, leaves)

    def _current(self, before: Values, run: Run) -> State:
        """The state as the last step left it, if there was one."""
        state = own(run)
        after = {**state, **self._update(before, run[RECORD], state).state}
        if MOVED not in run:
            return after
        return {name: torch.where(run[MOVED] > 0, after[name], state[name]) for name in state}

    def _update(self, values: Values, grad: Tensor, state: State) -> Move:
        """The rule's update, with these hyperparameters."""
        rule = object.__new__(self.rule)  # its fields were checked where they came from
        start = 0
        for field, count in self.layout:
            value: Any = values[start] if count == 1 else values[start : start + count]
            object.__setattr__(rule, field, value)
            start += count
        return rule.update(grad, state)

    def _replacing(self, values: Values, tuned: Values) -> Values:
        """All values, the tuned ones anew."""
        every = list(values)
        for place, value in zip(self.tuned, tuned, strict=True):
            every[place] = value
        return tuple(every)


def derivatives(
    function: Callable[..., tuple[Tensor, Tensor]], leaves: Values
) -> tuple[list[Tensor], Tensor]:
    """The derivatives of a function's first result by its arguments; and its second result."""
    if torch.compiler.is_compiling():
        each, rest = torch.func.grad(function, argnums=tuple(range(len(leaves))), has_aux=True)(
            *leaves
        )
        return list(each), rest
    with torch.enable_grad():  # the same in half the time, where nothing fuses it
        leaves = tuple(leaf.detach().requires_grad_() for leaf in leaves)
        result, rest = function(*leaves)
        found = torch.autograd.grad(result, leaves, materialize_grads=True)
    return list(found), rest.detach()


def _moved(run: Run, scale: Tensor, move: Move) -> Tensor:
    """Where a run's weights come to stand."""
    return torch.addcmul(run[WEIGHT], scale * move.coefficient, move.direction)


@cached(64)
def kernels(rule: type[Elementwise], tuned: tuple[int, ...]) -> Kernels:
    """The kernels of a class of rules; made once."""
    return Kernels(rule, tuned)
