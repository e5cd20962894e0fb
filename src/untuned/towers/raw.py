"""Raw numbers: what a tower moves, where it is kept, and its derivatives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from untuned.charts import Chart
from untuned.execution.kernels import derivatives
from untuned.rule import State

HUGE = 1e15  # beyond this a hypergradient says no more than its sign; its square must stay finite


def place_of(level: int, name: str) -> str:
    """Under what a floor's hyperparameter is kept."""
    return f"floor{level}.{name}"


class Raw(NamedTuple):
    """A hyperparameter's raw number, and where it is kept with what the floor above remembers."""

    store: dict[str, Any]
    key: str
    chart: Chart

    @property
    def number(self) -> Tensor:
        """The number itself, 0-d."""
        return self.store[self.key]  # type: ignore[no-any-return]

    def begin(self, value: float, dtype: torch.dtype, device: torch.device) -> None:
        """Start at a value, or go on where the store says, on this device."""
        if self.key not in self.store:
            number = torch.tensor(self.chart.raw(value), dtype=dtype)
            self.store[self.key] = number.to(device)
        elif self.number.device != device:  # the model moved, or its state was loaded
            self.store[self.key] = self.number.to(device)
            self.keep({name: value.to(device) for name, value in self.state().items()})

    def state(self) -> State:
        """What is remembered about it, by name."""
        start = f"{self.key}/"
        return {k.removeprefix(start): v for k, v in self.store.items() if k.startswith(start)}

    def keep(self, state: State) -> None:
        """Remember this about it, and nothing else."""
        for name in self.state().keys() - state.keys():
            del self.store[f"{self.key}/{name}"]
        self.store.update({f"{self.key}/{name}": value for name, value in state.items()})


def slopes_of(raws: Sequence[Raw], pulls: Sequence[Tensor]) -> list[Tensor]:
    """The derivatives by raw numbers, given those by hyperparameters: always finite."""

    def gain(*numbers: Tensor) -> tuple[Tensor, Tensor]:
        values = [raw.chart.value(number) for raw, number in zip(raws, numbers, strict=True)]
        each = [value * pull.to(value.dtype) for value, pull in zip(values, pulls, strict=True)]
        return torch.stack(each).sum(), each[0]

    slopes = torch.stack(derivatives(gain, tuple(raw.number for raw in raws))[0])
    return list(slopes.nan_to_num(nan=0.0).clamp(-HUGE, HUGE).unbind())
