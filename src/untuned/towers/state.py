"""The state of a floor of a tower.

The raw numbers of its hyperparameters, with the state that the floor above has of each; and the
inputs of the last step, which a replay needs. All of it is in the parameter group, under names that
start with the floor's; hyperparameters that each tensor has of its own are in the tensor's state.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from untuned._tensors import pull_back, shared_dtype
from untuned.charts import Chart
from untuned.domain import names_of
from untuned.execution import StepInputs
from untuned.rule import State
from untuned.tower import STORE_KEY, Tower
from untuned.tunable import Tunable

HUGE = 1e15  # beyond this a hypergradient says no more than its sign; its square must stay finite


class RawNumber(NamedTuple):
    """A hyperparameter's raw number, in the dict that also stores its state."""

    store: dict[str, Any]
    key: str
    chart: Chart

    @property
    def number(self) -> Tensor:
        """The number itself, 0-d."""
        return self.store[self.key]  # type: ignore[no-any-return]

    def before_step(self) -> Tensor | None:
        """A copy of the number, for a chart that limits steps; None for one that limits none."""
        return self.number.clone() if self.chart.reach < math.inf else None

    def begin(self, value: float, dtype: torch.dtype, device: torch.device) -> None:
        """Start at a hyperparameter's `value`, or go on with the stored number, on this device."""
        if self.key not in self.store:
            self.store[self.key] = torch.tensor(self.chart.raw(value), dtype=dtype).to(device)
        elif self.number.device != device:  # the model moved, or its state was loaded
            self.store[self.key] = self.number.to(device)
            self.store_state({name: value.to(device) for name, value in self.state().items()})

    def state(self) -> State:
        """The state that the rule above has of the number, by name."""
        start = f"{self.key}/"
        return {k.removeprefix(start): v for k, v in self.store.items() if k.startswith(start)}

    def store_state(self, state: State) -> None:
        """Store this state of the number, and no other."""
        for name in self.state().keys() - state.keys():
            del self.store[f"{self.key}/{name}"]
        self.store.update({f"{self.key}/{name}": value for name, value in state.items()})


def raw_gradients(raws: Sequence[RawNumber], hypergradients: Sequence[Tensor]) -> list[Tensor]:
    """Derivatives by raw numbers, 0-d each, from those by hyperparameters: always finite."""

    def values(*numbers: Tensor) -> tuple[Tensor, ...]:
        return tuple([raw.chart.value(each) for raw, each in zip(raws, numbers, strict=True)])

    numbers = [raw.number for raw in raws]
    given = [h.to(number.dtype) for h, number in zip(hypergradients, numbers, strict=True)]
    found = torch.stack(pull_back(values, numbers, tuple(given)))
    return list(found.nan_to_num(nan=0.0).clamp(-HUGE, HUGE).unbind())


class FloorState:
    """The state of one floor of a group's tower, on the device and in the dtype of `weights`."""

    def __init__(
        self, tower: Tower, level: int, group: dict[str, Any], weights: Sequence[Tensor]
    ) -> None:
        self.level: int = level
        self.group: dict[str, Any] = group
        self.own: tuple[str, ...] = tower.floors[level].own
        self.charts: dict[str, Chart] = tower.tuned(level)
        self._dtype, self._device = shared_dtype(weights), weights[0].device
        self._last = f"floor{level}/last."

    def begin(self, rule: Tunable, states: Sequence[State]) -> None:
        """Find the raw numbers of each tuned hyperparameter: one, or one for each tensor's state.

        Those not stored yet start at the rule's values.
        """
        start = rule.hyperparameters()
        self._tuned: dict[str, list[RawNumber]] = {}
        for name, chart in self.charts.items():
            stores = states if name in self.own else [self.group]
            key = STORE_KEY.format(self.level, name)
            self._tuned[name] = [RawNumber(store, key, chart) for store in stores]
            for raw in self._tuned[name]:
                raw.begin(float(start[name]), self._dtype, self._device)
        self.raws: list[RawNumber] = [raw for raws in self._tuned.values() for raw in raws]

    def values(self, rule: Tunable) -> dict[str, Any]:
        """The rule's hyperparameters by name, the tuned ones from their raw numbers."""
        values: dict[str, Any] = rule.hyperparameters()
        for name, raws in self._tuned.items():
            each = [raw.chart.value(raw.number) for raw in raws]
            values[name] = torch.stack(each) if name in self.own else each[0]
        return values

    def last(self, values: Mapping[str, Any]) -> StepInputs:
        """The inputs of the last step; `values` where there was none."""
        get, start = self.group.get, self._last
        noted = {name: get(start + name, value) for name, value in values.items()}
        return StepInputs(noted, get(start + "scale", 0.0), get(start + "depth", 1))

    def note(self, inputs: StepInputs, finite: bool | Tensor) -> None:
        """Store the inputs of a step, if it is taken."""
        noted: dict[str, Any] = {"scale": inputs.scale, "depth": inputs.L}
        if self.level == 0:  # those that are not tuned are a schedule's, or a user's, to change
            noted |= {n: v for n, v in inputs.values.items() if n not in self.charts}
        for name, value in noted.items():
            new = value.clone() if isinstance(value, Tensor) else value
            if isinstance(finite, Tensor):
                old = self.group.get(self._last + name, 0.0 if name == "scale" else value)
                new = torch.where(finite, self._tensor(new), self._tensor(old))
            self.group[self._last + name] = new

    def _tensor(self, value: Tensor | float) -> Tensor:
        if isinstance(value, Tensor):
            return value.to(self._device, self._dtype)
        return torch.full((), value, dtype=self._dtype, device=self._device)


def begin(tower: Tower, group: dict[str, Any]) -> None:
    """Start the hyperparameters that all tensors of a new group share; remove these options."""
    weights = group["params"] or [torch.zeros(())]
    rule, own = tower.of_group(group).floors[0].rule, tower.floors[0].own
    shared = {name: chart for name, chart in tower.tuned(0).items() if name not in own}
    for name, chart in shared.items():
        raw = RawNumber(group, STORE_KEY.format(0, name), chart)
        raw.begin(float(rule.hyperparameters()[name]), shared_dtype(weights), weights[0].device)
    for field, names in names_of(type(rule)).items():
        if field != "lr" and set(names) <= shared.keys():
            group.pop(field, None)
