"""What is kept of a floor of a tower from step to step.

The raw numbers of its hyperparameters; what the last step was taken with, which a replay needs; and
what its rule remembers of the network. All of it is in the group, under names that start with the
floor's, except for hyperparameters that each tensor has of its own: they are in its state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from untuned._tensors import shared_dtype
from untuned.charts import Chart
from untuned.rule import Rule, State
from untuned.tower import Tower
from untuned.towers.raw import Raw, place_of


class FloorState:
    """What is kept of one floor of a group's tower, for some tensors that it moves.

    `states` are those of the tensors, opened where they are sharded. Numbers are kept where the
    tensors are, and in the precision of the arithmetic.
    """

    level: int
    rule: Rule
    group: dict[str, Any]
    states: Sequence[State]
    own: Sequence[str]
    charts: dict[str, Chart]
    raws: dict[str, list[Raw]]

    def __init__(
        self,
        tower: Tower,
        level: int,
        rule: Rule,
        group: dict[str, Any],
        states: Sequence[State],
        weights: Sequence[Tensor],
    ) -> None:
        self.level, self.rule, self.group, self.states = level, rule, group, states
        self.own, self.charts = tower.floors[level].own, tower.tuned(level)
        self._dtype, self._device = shared_dtype(weights), weights[0].device

    def begin(self) -> None:
        """Find the raw numbers of each tuned hyperparameter: one, or one for each tensor."""
        start = self.rule.hyperparameters()
        self.raws = {}
        for name, chart in self.charts.items():
            stores = self.states if name in self.own else [self.group]
            self.raws[name] = [Raw(store, place_of(self.level, name), chart) for store in stores]
            for raw in self.raws[name]:
                raw.begin(float(start[name]), self._dtype, self._device)

    def values(self) -> dict[str, Any]:
        """The hyperparameters by name, the tuned ones as their raw numbers say."""
        values: dict[str, Any] = self.rule.hyperparameters()
        for name, numbers in self.raws.items():
            each = [raw.chart.value(raw.number) for raw in numbers]
            values[name] = torch.stack(each) if name in self.own else each[0]
        return values

    def last(self, name: str, otherwise: Any) -> Any:
        """Of what the last step was taken with, that of a name, if it was noted."""
        return self.group.get(self._last(name), otherwise)

    def _last(self, name: str) -> str:
        return f"floor{self.level}/last.{name}"

    def last_values(self) -> dict[str, Any]:
        """The values that the last step was taken with."""
        return {name: self.last(name, value) for name, value in self.values().items()}

    def note(self, values: Mapping[str, Tensor | float], finite: bool | Tensor) -> None:
        """Keep what a step was taken with, if it was taken."""
        for name, value in values.items():
            new = value.clone() if isinstance(value, Tensor) else value
            if isinstance(finite, Tensor):
                old = self.last(name, 0.0 if name == "scale" else value)
                new = torch.where(finite, self.tensor(new), self.tensor(old))
            self.group[self._last(name)] = new

    def memory(self, group: dict[str, Any]) -> dict[str, Tensor]:
        """What the rule remembers of the network, kept with one group, moving or not.

        It comes to where the weights are: the model may have moved, or its state been loaded.
        """
        start = self._network("")
        here = {k: v.to(self._device) for k, v in group.items() if k.startswith(start)}
        group.update(here)
        return {k.removeprefix(start): v for k, v in here.items()}

    def remember(
        self, group: dict[str, Any], memory: Mapping[str, Tensor], finite: bool | Tensor
    ) -> None:
        """Keep it, if a step is taken; in place, for a captured step knows only that."""
        for name, new in memory.items():
            old = group.setdefault(self._network(name), torch.zeros_like(new))
            old.copy_(torch.where(finite, new, old) if isinstance(finite, Tensor) else new)

    def _network(self, name: str) -> str:
        return f"floor{self.level}/network.{name}"

    def tensors(self, values: Mapping[str, Tensor | float]) -> dict[str, Tensor]:
        """Numbers by name as tensors."""
        return {name: self.tensor(value) for name, value in values.items()}

    def tensor(self, value: Tensor | float) -> Tensor:
        """A number as a tensor where the weights are, in the precision of the arithmetic."""
        if isinstance(value, Tensor):
            return value.to(self._device, self._dtype)
        return torch.full((), value, dtype=self._dtype, device=self._device)
