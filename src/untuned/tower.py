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
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from untuned.blocks import Blocks
from untuned.charts import Chart
from untuned.elements import Elements, precise
from untuned.elementwise import Elementwise
from untuned.frame import depth
from untuned.layer import Layer
from untuned.rule import State, Tower

HUGE = 1e15  # beyond this a hypergradient says no more than its sign; its square must stay finite


@functools.lru_cache(maxsize=256)
def constant(value: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A number that does not change, as a tensor, 0-d."""
    return torch.tensor(value, dtype=dtype).to(device)


class Raw(NamedTuple):
    """A hyperparameter's raw number, and where it is kept with what the floor above remembers."""

    store: dict[str, Any]
    key: str
    chart: Chart

    @property
    def number(self) -> Tensor:
        return self.store[self.key]  # type: ignore[no-any-return]

    def state(self) -> State:
        """What is remembered about it, by name."""
        start = f"{self.key}/"
        return {k.removeprefix(start): v for k, v in self.store.items() if k.startswith(start)}

    def keep(self, state: State) -> None:
        """Remember this about it."""
        self.store.update({f"{self.key}/{name}": value for name, value in state.items()})


class Part:
    """The tensors of a group that move in one step, on one floor of its tower.

    On the ground floor they are weights; on a higher one, the raw hyperparameters of the floor
    below. `group` holds the hyperparameters of all floors; those that each tensor has of its own
    are in its state.
    """

    def __init__(
        self,
        tower: Tower,
        level: int,
        group: dict[str, Any],
        weights: Sequence[Tensor],
        grads: Sequence[Tensor],
        states: Sequence[dict[str, Any]],
        compile: bool | None = None,
    ) -> None:
        self.tower, self.level, self.group = tower, level, group
        self.weights, self.grads, self.states = weights, grads, states
        self.rule = rule_of_group(tower, level, group)
        self.charts = tower.tuned(level)
        args = (self.rule, list(self.charts), weights, grads, states)
        layer: Layer | None = group["layer"] if level == 0 else None
        self.runner: Elements | Blocks
        if isinstance(self.rule, Elementwise):
            self.runner = Elements(*args, compile)
        else:
            self.runner = Blocks(*args, layer)

    # The scale and depth of the last step are kept by the group: a replay needs them.
    @property
    def _scale(self) -> str:
        return f"floor{self.level}.scale"

    @property
    def _depth(self) -> str:
        return f"floor{self.level}.depth"

    def raws(self) -> dict[str, list[Raw]]:
        """The raw numbers of each tuned hyperparameter: one, or one for each tensor."""
        own = self.tower.floors[self.level].own
        weight = self.weights[0]
        start = self.rule.hyperparameters()
        found: dict[str, list[Raw]] = {}
        for name, chart in self.charts.items():
            stores = self.states if name in own else [self.group]
            found[name] = [Raw(store, f"floor{self.level}.{name}", chart) for store in stores]
            for raw in found[name]:
                if raw.key not in raw.store:
                    number = torch.tensor(chart.raw(float(start[name])), dtype=precise(weight))
                    raw.store[raw.key] = number.to(weight.device)
                elif raw.number.device != weight.device:  # the model moved, or was loaded
                    raw.store[raw.key] = raw.number.to(weight.device)
        return found

    def values(self, raws: Mapping[str, Sequence[Raw]]) -> dict[str, Tensor | float]:
        """The hyperparameters by name, the tuned ones as their raw numbers say."""
        own = self.tower.floors[self.level].own
        values: dict[str, Any] = self.rule.hyperparameters()
        for name, numbers in raws.items():
            each = [raw.chart.value(raw.number) for raw in numbers]
            values[name] = torch.stack(each) if name in own else each[0]
        return values

    def look(self) -> None:
        """Measure the gradients; ask them what they say of the last step's hyperparameters."""
        self._raws = self.raws()
        self._before = self.values(self._raws)
        scale = self.group.get(self._scale, 0.0)
        if isinstance(self.runner, Elements):
            if self.level > 0 and not self.charts:
                return  # nobody asks
            found = self.runner.look(self._tensors(self._before), self._tensor(scale))
        else:
            found = self.runner.look(self._before, scale, self.group.get(self._depth, 1))
        self.sizes, self.pulls = found

    def step(self, scale: Tensor | float, L: int, finite: bool | Tensor) -> Tensor | float:
        """Move the hyperparameters, then with them the tensors; the learning rate used, if any."""
        before = after = self._before
        if self.charts:
            self._climb(finite)
            after = self.values(self._raws)
            last = self.group.get(self._scale, 0.0)
            kept = torch.where(finite, scale, last) if isinstance(finite, Tensor) else scale
            self.group |= {self._scale: kept, self._depth: L}
        if isinstance(self.runner, Elements):
            given = (self._tensors(before), self._tensors(after), self._tensor(scale))
            self.runner.move(*given, None if finite is True else finite)  # type: ignore[arg-type]
        else:
            self.runner.move(after, scale, L, self.sizes, finite)
        rate = after.get("lr", 1.0)
        return rate.mean() if isinstance(rate, Tensor) and rate.ndim else rate

    def _climb(self, finite: bool | Tensor) -> None:
        """Let the floor above move this one's raw numbers."""
        sign = -1.0 if self.level == 0 and self.group["maximize"] else 1.0
        raws = [raw for numbers in self._raws.values() for raw in numbers]
        pulls = [pull for name in self._raws for pull in self.pulls[name].flatten()]
        numbers = [raw.number for raw in raws]
        slopes = slopes_of(raws, [sign * pull for pull in pulls])
        states = [raw.state() for raw in raws]
        old = [number.clone() for number in numbers]
        above = Part(self.tower, self.level + 1, self.group, numbers, slopes, states, False)
        above.look()
        above.step(*how_far([above]), finite)
        for raw, number, state in zip(raws, old, states, strict=True):
            raw.number.copy_(raw.chart.step(number, raw.number))
            raw.keep(state)

    def settle(self) -> None:
        """Forget the last step of tensors that take no part in this one."""
        if isinstance(self.runner, Elements):
            self.runner.settle(self._tensors(self.values(self.raws())))
        else:
            self.runner.settle()

    def _tensors(self, values: Mapping[str, Tensor | float]) -> dict[str, Tensor]:
        return {name: self._tensor(value) for name, value in values.items()}

    def _tensor(self, value: Tensor | float) -> Tensor:
        """A number as a tensor where the weights are, in the precision of the arithmetic."""
        weight = self.weights[0]
        if isinstance(value, Tensor):
            return value.to(weight.device, precise(weight))
        return constant(float(value), precise(weight), weight.device)

    def multiplier(self) -> Tensor | float:
        """What a group's `lr` multiplies steps with: 1 where the rule has it as learning rate."""
        lr: Tensor | float = self.group["lr"]
        return lr if "lr" in self.charts or not hasattr(self.rule, "lr") else 1.0


def slopes_of(raws: Sequence[Raw], pulls: Sequence[Tensor]) -> list[Tensor]:
    """The derivatives by raw numbers, given those by hyperparameters: always finite."""
    with torch.enable_grad():
        numbers = [raw.number.detach().requires_grad_() for raw in raws]
        values = [raw.chart.value(number) for raw, number in zip(raws, numbers, strict=True)]
        cotangents = [pull.to(value.dtype) for pull, value in zip(pulls, values, strict=True)]
        slopes = torch.stack(torch.autograd.grad(values, numbers, cotangents))
    return list(slopes.nan_to_num(nan=0.0).clamp(-HUGE, HUGE).unbind())


def how_far(parts: Sequence[Part]) -> tuple[Tensor | float, int]:
    """What the rule of some parts that share one finds by looking at all of them, and depth L."""
    leaves, frames = [], []
    for part in parts:
        if isinstance(part.runner, Blocks):
            leaves.append(part.runner.leaves(part.sizes))
            frames.append(part.runner.frame)
    if not leaves:
        return 1.0, 1
    L = depth(frames)
    return parts[0].rule.step_size(leaves, L), L


def rule_of_group(tower: Tower, level: int, group: Mapping[str, Any]) -> Any:
    """The rule of a floor, on the ground with the values that a group has."""
    rule = tower.floors[level].rule
    if level > 0:
        return rule
    multiplies = "lr" in tower.tuned(0)
    return rule.of_group({k: v for k, v in group.items() if k != "lr"} if multiplies else group)


def values_of(
    tower: Tower, group: Mapping[str, Any], states: Sequence[Mapping[str, Any]]
) -> list[dict[str, float]]:
    """The hyperparameters of each floor, by name, as numbers."""
    floors = []
    for level, floor in enumerate(tower.floors):
        values: dict[str, Any] = {}
        for name, value in rule_of_group(tower, level, group).hyperparameters().items():
            chart, key = tower.tuned(level).get(name), f"floor{level}.{name}"
            if name in floor.own and chart:
                names = group.get("param_names", range(len(states)))
                for label, state in zip(names, states, strict=True):
                    values[f"{name}[{label}]"] = chart.value(state[key]) if key in state else value
            else:
                values[name] = chart.value(group[key]) if chart and key in group else value
        floors.append(values)
    numbers = [torch.as_tensor(v, dtype=torch.float64) for floor in floors for v in floor.values()]
    device = next((n.device for n in numbers if n.device.type != "cpu"), torch.device("cpu"))
    each = iter(torch.stack([number.to(device) for number in numbers]).tolist())  # waits once
    return [{name: next(each) for name in floor} for floor in floors]
