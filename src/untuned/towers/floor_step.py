"""Towers: the floors above move the hyperparameters of those below, step by step.

Chandra, Xie, Ragan-Kelley, Meijer (2022), "Gradient Descent: The Ultimate Optimizer",
arXiv:1909.13371. With w the weights, h1 the hyperparameters of the rule that moves them, h2 those
of the rule that moves h1, and so on, and with g the gradient at w:

    w' = w + step1(g; h1)        so  dloss/dh1 = <g', d step1(g; h1) / dh1>     (g': at w')
    h1' = h1 + step2(dloss/dh1; h2)   so  dloss/dh2 = <dloss/dh1', d step2 / dh2>  ...

Nothing is kept of the model's graph: the last step is replayed as a function of its
hyperparameters, and its product with the new gradient is differentiated (`kernels.py` and
`blocks.py` say how). Hyperparameters move before they are used: the top floor's are constants, and
each floor below takes its step with what the floor above has just made of its own. In the first
step nothing is known yet, and zeros go up.

All floors move raw numbers on charts (`charts.py`). A step that a chart cuts short is
differentiated as if it had not been, so that a floor that goes too far hears of it.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from untuned.blockwise import Blockwise, NetworkStep
from untuned.charts import Chart
from untuned.distributed.shards import Shard, local, shard_of, to_local
from untuned.elementwise import Elementwise
from untuned.errors import UnknownRuleError
from untuned.execution.blockwise import BlockwiseExecutor
from untuned.execution.elementwise import ElementwiseExecutor
from untuned.execution.project import Finish
from untuned.execution.stochastic_rounding import SHORT, Write, key_of
from untuned.geometry.block_vector import depth
from untuned.geometry.layer import Layer
from untuned.rule import Rule, State
from untuned.tower import Tower
from untuned.towers.raw import slopes_of
from untuned.towers.state import FloorState

STEPS = "rounding.steps"  # under which a group counts the steps of weights that are rounded


class Part:
    """The tensors of a group that move in one step, on one floor of its tower.

    On the ground floor they are weights; on a higher one, the raw hyperparameters of the floor
    below. `group` holds the hyperparameters of all floors; those that each tensor has of its own
    are in its state. `number` is that of the group among all.
    """

    tower: Tower
    level: int
    group: dict[str, Any]
    number: int
    weights: Sequence[Tensor]
    states: Sequence[dict[str, Any]]
    rule: Rule
    floor: FloorState
    charts: dict[str, Chart]
    shards: list[Shard | None]
    runner: ElementwiseExecutor | BlockwiseExecutor
    pulls: dict[str, Tensor]

    def __init__(
        self,
        tower: Tower,
        level: int,
        group: dict[str, Any],
        weights: Sequence[Tensor],
        grads: Sequence[Tensor],
        states: Sequence[dict[str, Any]],
        compile: bool | None = None,
        number: int = 0,
    ) -> None:
        self.tower, self.level, self.group, self.number = tower, level, group, number
        self.weights, self.states = weights, states
        rule = (tower.of_group(group) if level == 0 else tower).floors[level].rule
        assert isinstance(rule, Rule)
        self.rule = rule
        self.given = {name: group.get(name) for name in rule.fields()} if level == 0 else {}
        self.finish: Finish | None = None  # what is left to do once all parts have stepped
        self.shards = [shard_of(weight) for weight in weights]
        self.sharded = any(shard is not None for shard in self.shards)
        self._here = self._opened(states)
        self.floor = FloorState(tower, level, self.rule, group, self._here, weights)
        self.charts = self.floor.charts
        if self.sharded:
            weights = list(map(local, weights))
        self.runner = self._runner(weights, grads, compile)

    def _opened(self, states: Sequence[State]) -> Sequence[State]:
        if not self.sharded:
            return states
        pairs = zip(states, self.shards, strict=True)
        return [state if shard is None else to_local(state) for state, shard in pairs]

    def serves(self, weights: Sequence[Tensor]) -> bool:
        """Whether a step of these tensors may use it again."""
        alike = len(weights) == len(self.weights) and all(map(operator.is_, weights, self.weights))
        group = self.group
        return alike and all(group.get(name) is value for name, value in self.given.items())

    def renew(self, grads: Sequence[Tensor], states: Sequence[State]) -> None:
        """Begin another step."""
        self.states, self.finish = states, None
        self._here = self.floor.states = self._opened(states)
        weights = list(map(local, self.weights)) if self.sharded else self.weights
        self.runner.renew(weights, grads, self._here)

    def _runner(
        self, weights: Sequence[Tensor], grads: Sequence[Tensor], compile: bool | None
    ) -> ElementwiseExecutor | BlockwiseExecutor:
        """What runs the floor's rule on what is here of the tensors."""
        tuned, states, shards = list(self.charts), self._here, self.shards
        if isinstance(self.rule, Elementwise):
            return ElementwiseExecutor(self.rule, tuned, weights, grads, states, shards, compile)
        if isinstance(self.rule, Blockwise):
            layer: Layer | None = self.group["layer"] if self.level == 0 else None
            return BlockwiseExecutor(self.rule, tuned, weights, grads, states, shards, layer)
        raise UnknownRuleError(f"{self.rule!r} must derive from Elementwise or Blockwise")

    def look(self) -> None:
        """Measure the gradients; ask them what they say of the last step's hyperparameters."""
        if not self.charts and isinstance(self.runner, BlockwiseExecutor):  # nothing is tuned
            self._before, self.pulls = {}, self.runner.look({}, 0.0, 1)
            return
        self.floor.begin()
        self._before = self.floor.last_values()
        scale = self.floor.last("scale", 0.0)
        if isinstance(self.runner, ElementwiseExecutor):
            self._before = self.floor.tensors(self._before)
            if self.level > 0 and not self.charts:
                return  # nobody asks
            lr = self.group["lr"]  # if that is zero, it matters whether gradients are, too
            norms = self.level == 0 and (isinstance(lr, Tensor) or lr == 0)
            self.pulls = self.runner.look(self._before, self.floor.tensor(scale), norms)
        else:
            self.pulls = self.runner.look(self._before, scale, self.floor.last("depth", 1))

    def partial_sums(self) -> list[Tensor]:
        """What this process adds to measures and hypergradients."""
        return [*self.runner.partial_sums(), *self.pulls.values()]

    def receive_sums(self, totals: list[Tensor]) -> None:
        """Go on with the sums over all processes."""
        count = len(totals) - len(self.pulls)
        self.runner.receive_sums(totals[:count])
        self.pulls = dict(zip(self.pulls, totals[count:], strict=True))

    def step(self, scale: Tensor | float, L: Tensor | int, finite: bool | Tensor) -> Tensor | float:
        """Move the hyperparameters, then with them the tensors; the learning rate used, if any."""
        before = after = self._before
        if self.charts:
            self._climb(finite)
            after = self.floor.values()
            self.floor.note({"scale": scale, "depth": L}, finite)
            if self.level == 0:  # what nobody tunes is a schedule's, or a user's, to change
                self.floor.note({n: v for n, v in after.items() if n not in self.charts}, finite)
        how = Write(finite, self._key(finite))
        if isinstance(self.runner, ElementwiseExecutor):
            self.runner.move(before, self.floor.tensors(after), self.floor.tensor(scale), how)
        else:
            self.finish = self.runner.move(after, scale, L, how)
        self._keep()
        rate = after.get("lr", getattr(self.rule, "lr", 1.0))
        return rate.mean() if isinstance(rate, Tensor) and rate.ndim else rate

    def _key(self, finite: bool | Tensor) -> Tensor | None:
        """The key of this step's dice, if there are weights that need rounding."""
        if self.level > 0 or {weight.dtype for weight in self.weights}.isdisjoint(SHORT):
            return None
        device = self.weights[0].device
        steps: Tensor = self.group.get(STEPS, torch.zeros((), dtype=torch.int64)).to(device)
        self.group[STEPS] = steps + finite
        return key_of(steps, self.group["seed"], self.number)

    def _keep(self) -> None:
        """Keep what is remembered of sharded tensors as tensors sharded like them."""
        if not self.sharded:
            return
        for i, (shard, state) in enumerate(zip(self.shards, self.states, strict=True)):
            if shard is not None:
                shard.store(state, self._here[i], functools.partial(self.runner.layout, i))

    def _climb(self, finite: bool | Tensor) -> None:
        """Let the floor above move this one's raw numbers."""
        sign = -1.0 if self.level == 0 and self.group["maximize"] else 1.0
        raws = [raw for numbers in self.floor.raws.values() for raw in numbers]
        pulls = [pull for name in self.floor.raws for pull in self.pulls[name].flatten()]
        numbers = [raw.number for raw in raws]
        slopes = slopes_of(raws, [sign * pull for pull in pulls])
        states = [raw.state() for raw in raws]
        old = [number.clone() for number in numbers]
        above = Part(self.tower, self.level + 1, self.group, numbers, slopes, states, False)
        above.look()
        seen = outlook([above], self.group)
        above.floor.remember(self.group, seen.network_state, finite)
        above.step(seen.eta, seen.L, finite)
        for raw, number, state in zip(raws, old, states, strict=True):
            raw.number.copy_(raw.chart.step(number, raw.number))
            raw.keep(state)

    def settle(self) -> None:
        """Forget the last step of tensors that take no part in this one."""
        self.floor.begin()
        if isinstance(self.runner, ElementwiseExecutor):
            self.runner.settle(self.floor.tensors(self.floor.last_values()))
        else:
            self.runner.settle()
        own = [raw for name in self.floor.own for raw in self.floor.raws[name]]
        if own:
            numbers, states = [raw.number for raw in own], [raw.state() for raw in own]
            Part(self.tower, self.level + 1, self.group, numbers, numbers, states, False).settle()
            for raw, state in zip(own, states, strict=True):
                raw.keep(state)
        self._keep()

    def multiplier(self) -> Tensor | float:
        """What a group's `lr` multiplies steps with: 1 where the rule has it as learning rate."""
        lr: Tensor | float = self.group["lr"]
        return lr if "lr" in self.charts or not hasattr(self.rule, "lr") else 1.0


def outlook(parts: Sequence[Part], group: dict[str, Any]) -> NetworkStep:
    """What the rule of some parts that share one finds by looking at all of them.

    What it remembers of the network is in `group`.
    """
    runners = [part.runner for part in parts if isinstance(part.runner, BlockwiseExecutor)]
    if not runners:
        return NetworkStep(1.0, 1)
    L = depth([runner.frame.unsharded for runner in runners])
    groups = [runner.leaves() for runner in runners]
    return runners[0].rule.plan_step(groups, L, parts[0].floor.memory(group))
