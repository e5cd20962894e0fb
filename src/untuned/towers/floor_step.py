"""Towers: the floors above move the hyperparameters of those below, step by step.

Chandra, Xie, Ragan-Kelley, Meijer (2022), "Gradient Descent: The Ultimate Optimizer",
arXiv:1909.13371. With w the weights, h1 the hyperparameters of the rule that moves them, h2 those
of the rule that moves h1, and so on, and with g the gradient at w:

    w' = w + step1(g; h1)        so  dloss/dh1 = <g', d step1(g; h1) / dh1>     (g': at w')
    h1' = h1 + step2(dloss/dh1; h2)   so  dloss/dh2 = <dloss/dh1', d step2 / dh2>  ...

Nothing is kept of the model's graph: the last step is replayed as a function of its
hyperparameters, and its product with the new gradient is differentiated (`execution/kernels.py` and
`execution/blockwise.py` say how). Hyperparameters move before they are used: the top floor's are
constants, and each floor below takes its step with what the floor above has just made of its own.
In the first step nothing is known yet, and zeros go up.

All floors move raw numbers on charts (`charts.py`). A step that a chart cuts short is
differentiated as if it had not been, so that a floor that goes too far hears of it.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from untuned.execution import Executor, StepInputs, executor_of
from untuned.execution.network_state import plan_step, write_network_state_
from untuned.execution.stochastic_rounding import Write
from untuned.geometry.layers import Vector
from untuned.rule import State
from untuned.tower import Tower
from untuned.towers.state import FloorState, RawNumber, raw_gradients

NOTHING = StepInputs({})  # the last inputs of a floor that is not tuned: no replay reads them


class FloorStep:
    """One floor of a group's tower: its executor's measures, and how its hyperparameters move.

    On the ground floor, level 0, an executor moves weights; on a higher one the raw hyperparameters
    of the floor below. The parameter group holds those of all floors.
    """

    def __init__(self, tower: Tower, level: int, group: dict[str, Any], executor: Executor) -> None:
        self.tower: Tower = tower
        self.level: int = level
        self.group: dict[str, Any] = group
        self.executor: Executor = executor
        self.state: FloorState = FloorState(tower, level, group, executor.weights)
        self._above: FloorStep | None = None
        # the states that the floor above has of this one's raw numbers, and how many entries each
        self._below: list[State] = []
        self._lengths: list[int] = []

    def begin(self, states: Sequence[State]) -> None:
        """Meet tensors, or their states, that are new; local ones where they are sharded."""
        self.executor.begin(states)
        self.state.begin(self.executor.rule, states)

    def read_last(self) -> StepInputs:
        """The inputs of the last step, as `executor.measure` and `executor.apply` want them."""
        state = self.state
        return state.last(state.values(self.executor.rule)) if state.charts else NOTHING

    def climb(self, hypergradients: Mapping[str, Tensor], finite: bool | Tensor) -> None:
        """Let the floor above move this one's raw numbers, once those above it have moved its own.

        Hypergradients by name are 0-d, or (tensors,) where each tensor has its own.
        """
        raws = self.state.raws
        if not raws:
            return
        found: list[Tensor] = []
        for each in hypergradients.values():
            each = -each if self.level == 0 and self.group["maximize"] else each
            found += each.unbind() if each.ndim else (each,)
        above, before = self._floor_above(raws), [raw.before_step() for raw in raws]
        grads, last = raw_gradients(raws, found), above.read_last()
        found_above = above.executor.measure(grads, last, norms=None)
        step = plan_step([above.executor], self.group, above.level)
        write_network_state_(self.group, above.level, step.network_state, finite)
        above.climb(found_above, finite)
        now = above.inputs(step.eta, step.L, finite)
        above.executor.apply(last, now, Write(finite))
        for raw, number in zip(raws, before, strict=True):
            if number is not None:
                raw.number.copy_(raw.chart.step(number, raw.number))
        self._store_states(raws)

    def inputs(self, scale: Tensor | float, L: Tensor | int, finite: bool | Tensor) -> StepInputs:
        """The inputs of the coming step (`StepInputs`), noted for its replay."""
        now = StepInputs(self.state.values(self.executor.rule), scale, L)
        if self.state.charts:
            self.state.note(now, finite)
        return now

    def drop_record(self) -> None:
        """Drop the records of tensors that take no part in a step, and of their own numbers."""
        self.executor.drop_record(self.read_last())
        own = [raw for raw in self.state.raws if raw.store is not self.group]
        if own:
            self._floor_above(own).drop_record()
            self._store_states(own)

    def _floor_above(self, raws: Sequence[RawNumber]) -> FloorStep:
        """The floor that moves raw numbers, made anew when these are other tensors."""
        numbers = [raw.number for raw in raws]
        above = self._above
        if above is not None and all(map(operator.is_, numbers, above.executor.weights)):
            return above
        level = self.level + 1
        rule, tuned = self.tower.floors[level].rule, list(self.tower.tuned(level))
        count = len(numbers)
        executor = executor_of(rule, tuned, numbers, [None] * count, [Vector()] * count, False)
        above = self._above = FloorStep(self.tower, level, self.group, executor)
        self._below = [raw.state() for raw in raws]
        self._lengths = list(map(len, self._below))
        above.begin(self._below)
        return above

    def _store_states(self, raws: Sequence[RawNumber]) -> None:
        """Store what the floor above remembers of raw numbers, where its entries changed."""
        lengths = list(map(len, self._below))
        if lengths != self._lengths:
            for raw, state in zip(raws, self._below, strict=True):
                raw.store_state(state)
            self._lengths = lengths
            self._floor_above(raws).begin(self._below)
