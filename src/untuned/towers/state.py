"""What a floor of a tower remembers from step to step.

The raw numbers of its hyperparameters, with what the floor above remembers of each; and the inputs
of the last step, which a replay needs. All of it is in the parameter group, under names that start
with the floor's; hyperparameters that each tensor has of its own are in the tensor's state.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from untuned._tensors import derivatives, shared_dtype
from untuned.charts import Chart
from untuned.domain import names_of
from untuned.execution import StepInputs
from untuned.rule import State
from untuned.tower import Tower, store_key
from untuned.tunable import Tunable

HUGE = 1e15  # beyond this a hypergradient says no more than its sign; its square must stay finite


class RawNumber(NamedTuple):
    """A hyperparameter's raw number, and where it is stored with what the floor above remembers."""

    store: dict[str, Any]
    key: str
    chart: Chart

    @property
    def number(self) -> Tensor:
        """The number itself, 0-d."""
        return self.store[self.key]  # type: ignore[no-any-return]

    def begin(self, value: float, dtype: torch.dtype, device: torch.device) -> None:
        """Start at a hyperparameter's `value`, or go on with the stored number, on this device."""
        if self.key not in self.store:
            number = torch.tensor(self.chart.raw(value), dtype=dtype)
            self.store[self.key] = number.to(device)
        elif self.number.device != device:  # the model moved, or its state was loaded
            self.store[self.key] = self.number.to(device)
            self.keep({name: value.to(device) for name, value in self.state().items()})

    def state(self) -> State:
        """The state that the rule above has of the number, by name."""
        start = f"{self.key}/"
        return {k.removeprefix(start): v for k, v in self.store.items() if k.startswith(start)}

    def keep(self, state: State) -> None:
        """Store this state of the number, and no other."""
        for name in self.state().keys() - state.keys():
            del self.store[f"{self.key}/{name}"]
        self.store.update({f"{self.key}/{name}": value for name, value in state.items()})


def raw_gradients(raws: Sequence[RawNumber], hypergradients: Sequence[Tensor]) -> list[Tensor]:
    """Derivatives by raw numbers, 0-d each, from those by hyperparameters: always finite."""

    def gain(*numbers: Tensor) -> tuple[Tensor, Tensor]:
        values = [raw.chart.value(number) for raw, number in zip(raws, numbers, strict=True)]
        pairs = zip(values, hypergradients, strict=True)
        each = [value * hypergradient.to(value.dtype) for value, hypergradient in pairs]
        return torch.stack(each).sum(), each[0]

    found = torch.stack(derivatives(gain, tuple([raw.number for raw in raws]))[0])
    return list(found.nan_to_num(nan=0.0).clamp(-HUGE, HUGE).unbind())


class FloorState:
    """What one floor of a group's tower remembers, for the tensors that it moves.

    Args:
        tower: the tower.
        level: the floor's, 0 on the ground.
        group: the parameter group that stores it.
        weights: the tensors that the floor moves: numbers lie on their device, in their dtype.
    """

    def __init__(
        self, tower: Tower, level: int, group: dict[str, Any], weights: Sequence[Tensor]
    ) -> None:
        self.level, self.group = level, group
        self.own, self.charts = tower.floors[level].own, tower.tuned(level)
        self.dtype, self.device = shared_dtype(weights), weights[0].device
        self._last = {name: f"floor{level}/last.{name}" for name in ("scale", "depth")}

    def begin(self, rule: Tunable, states: Sequence[State]) -> None:
        """Find the raw numbers of each tuned hyperparameter: one, or one for each tensor.

        Args:
            rule: its values are where numbers start that are not stored yet.
            states: of the tensors; local ones where they are sharded.
        """
        start = rule.hyperparameters()
        self._last |= {name: f"floor{self.level}/last.{name}" for name in start}
        self.raws: list[RawNumber] = []
        self.counts: dict[str, int] = {}
        for name, chart in self.charts.items():
            stores = states if name in self.own else [self.group]
            self.counts[name] = len(stores)
            for store in stores:
                raw = RawNumber(store, store_key(self.level, name), chart)
                raw.begin(float(start[name]), self.dtype, self.device)
                self.raws.append(raw)

    def values(self, rule: Tunable) -> dict[str, Any]:
        """The rule's hyperparameters by name, the tuned ones from their raw numbers."""
        values: dict[str, Any] = rule.hyperparameters()
        raws = iter(self.raws)
        for name, count in self.counts.items():
            each = [raw.chart.value(raw.number) for raw in itertools.islice(raws, count)]
            values[name] = torch.stack(each) if name in self.own else each[0]
        return values

    def last(self, values: Mapping[str, Any]) -> StepInputs:
        """The inputs of the last step; `values` where there was none."""
        get, keys = self.group.get, self._last
        noted = {name: get(keys[name], value) for name, value in values.items()}
        return StepInputs(noted, get(keys["scale"], 0.0), get(keys["depth"], 1))

    def note(self, inputs: StepInputs, finite: bool | Tensor) -> None:
        """Store the inputs of a step, if it is taken."""
        noted: dict[str, Any] = {"scale": inputs.scale, "depth": inputs.L}
        if self.level == 0:  # those that are not tuned are a schedule's, or a user's, to change
            noted |= {n: v for n, v in inputs.values.items() if n not in self.charts}
        for name, value in noted.items():
            new = value.clone() if isinstance(value, Tensor) else value
            if isinstance(finite, Tensor):
                old = self.group.get(self._last[name], 0.0 if name == "scale" else value)
                new = torch.where(finite, self._tensor(new), self._tensor(old))
            self.group[self._last[name]] = new

    def _tensor(self, value: Tensor | float) -> Tensor:
        if isinstance(value, Tensor):
            return value.to(self.device, self.dtype)
        return torch.full((), value, dtype=self.dtype, device=self.device)


def begin(tower: Tower, group: dict[str, Any]) -> None:
    """Start the hyperparameters that all tensors of a new group share, where the tower says.

    From then on the group's options of those names would say nothing: they are removed.
    """
    weights = group["params"] or [torch.zeros(())]
    rule = tower.of_group(group).floors[0].rule
    names = names_of(type(rule))
    shared = [name for name in tower.tuned(0) if name not in tower.floors[0].own]
    for name in shared:
        raw = RawNumber(group, store_key(0, name), tower.tuned(0)[name])
        raw.begin(float(rule.hyperparameters()[name]), shared_dtype(weights), weights[0].device)
    for field in names:
        if field != "lr" and set(names[field]) <= set(shared):
            group.pop(field, None)
