"""Floors and towers, as you write them: which rule tunes which hyperparameters of which.

How the floors then move is in `towers/floor_step.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from untuned.charts import Chart
from untuned.domain import domains_of, names_of
from untuned.errors import DomainError, UnknownHyperparameterError
from untuned.tunable import Tunable

# In a parameter group, or a tensor's state: the raw number of a floor's hyperparameter
STORE_KEY = "floor{}.{}"


@dataclass(frozen=True)
class Floor:
    """A rule in a tower, and which of its hyperparameters the floor above tunes.

    Args:
        rule: the rule.
        names: the hyperparameters that are tuned; None: each that starts inside its domain. One
            that starts on the edge (a momentum of 0) is switched off and stays so.
        own: the hyperparameters of which each tensor has its own.

    Raises:
        UnknownHyperparameterError: the rule has none of that name, or it cannot be tuned.
        DomainError: a hyperparameter to be tuned starts on the edge of its domain.
    """

    rule: Tunable
    names: tuple[str, ...] | None = None
    own: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        charted = self.rule.charted()
        for name in (*(self.names or ()), *self.own):
            if name not in charted:
                known = ", ".join(charted) or "none"
                raise UnknownHyperparameterError(
                    f"{type(self.rule).__name__} cannot have {name!r} tuned; it can: {known}"
                )
        self.check((*(self.names or ()), *self.own))

    def check(self, names: Iterable[str]) -> None:
        """Raise `DomainError` if one of the named hyperparameters starts where it cannot move."""
        for name in names:
            if not self._inside(name):
                raise DomainError(
                    f"{name}={self.rule.hyperparameters()[name]!r} lies on the edge of its domain, "
                    "where it cannot be tuned: start it inside"
                )

    def tuning(self, *names: str) -> Floor:
        """Let the floor above tune these hyperparameters only."""
        if not names:
            raise UnknownHyperparameterError("tuning() names nothing to tune; write tuning('lr')")
        return dataclasses.replace(self, names=tuple(dict.fromkeys((*names, *self.own))))

    def per_tensor(self, *names: str) -> Floor:
        """Let each tensor have its own of these hyperparameters (which are tuned)."""
        own = tuple(dict.fromkeys((*self.own, *names)))
        chosen = self.names if self.names is None else tuple(dict.fromkeys((*self.names, *own)))
        return dataclasses.replace(self, names=chosen, own=own)

    def tuned(self) -> dict[str, Chart]:
        """The hyperparameters that a floor above tunes, and the chart of each."""
        charted = self.rule.charted()
        if self.names is not None:
            return {name: charted[name] for name in self.names}
        return {name: chart for name, chart in charted.items() if self._inside(name)}

    def as_published(self) -> Floor:
        """The floor as the authors' code computes it."""
        return dataclasses.replace(self, rule=self.rule.as_published())

    def _inside(self, name: str) -> bool:
        field = next(f for f, names in names_of(type(self.rule)).items() if name in names)
        domain = domains_of(type(self.rule))[field]
        return domain.low < float(self.rule.hyperparameters()[name]) < domain.high

    def __str__(self) -> str:
        """The kind of floor, without the values of its hyperparameters."""
        calls = [("tuning", self.names), ("per_tensor", self.own)]
        return type(self.rule).__name__ + "".join(f".{n}{v}" for n, v in calls if v)

    def __truediv__(self, above: Tunable | Floor | Tower) -> Tower:
        return Tower((self,)) / above


@dataclass(frozen=True)
class Tower:
    """Rules above one another: each tunes the hyperparameters of the one below it.

    Raises:
        UnknownHyperparameterError: `per_tensor` above the ground floor, where no tensors are.
    """

    floors: tuple[Floor, ...]

    def __post_init__(self) -> None:
        for floor in self.floors[1:]:
            if floor.own:
                raise UnknownHyperparameterError(
                    f"per_tensor{floor.own} is for the ground floor, which moves tensors"
                )

    def __truediv__(self, above: Tunable | Floor | Tower) -> Tower:
        if isinstance(above, Tower):
            return Tower((*self.floors, *above.floors))
        if not isinstance(above, Tunable | Floor):
            return NotImplemented
        return Tower((*self.floors, above if isinstance(above, Floor) else Floor(above)))

    def __str__(self) -> str:
        """The kind of tower: two of a kind can load each other's state."""
        return " / ".join(map(str, self.floors))

    def as_published(self) -> Tower:
        """The tower as the authors' code computes it."""
        return Tower(tuple(floor.as_published() for floor in self.floors))

    def defaults(self) -> dict[str, Any]:
        """The default options of a parameter group: hyperparameters that are not tuned, and `lr`.

        `lr` is a multiplier where the rule has no learning rate, or a floor tunes it.
        """
        tuned = self.tuned(0)
        rule = self.floors[0].rule
        names = names_of(type(rule))
        kept = {f: v for f, v in rule.fields().items() if not set(names[f]) <= tuned.keys()}
        return {"lr": 1.0} | kept

    @property
    def lr_multiplies(self) -> bool:
        """Whether a group's `lr` multiplies steps, and is not the rule's own learning rate."""
        return "lr" in self.tuned(0) or "lr" not in self.floors[0].rule.fields()

    def of_group(self, group: Mapping[str, Any]) -> Tower:
        """The tower whose ground floor has the hyperparameters of one parameter group.

        Where `lr` is tuned, a group's is a multiplier, not where it starts.
        """
        if "lr" in self.tuned(0):
            group = {name: value for name, value in group.items() if name != "lr"}
        ground = dataclasses.replace(self.floors[0], rule=self.floors[0].rule.of_group(group))
        return Tower((ground, *self.floors[1:]))

    def tuned(self, level: int) -> dict[str, Chart]:
        """The hyperparameters of a floor that the one above tunes; the top floor's are fixed."""
        return self.floors[level].tuned() if level + 1 < len(self.floors) else {}


def hyperparameters_of(
    tower: Tower, group: Mapping[str, Any], states: Sequence[Mapping[str, Any]]
) -> list[dict[str, float]]:
    """The hyperparameters of each floor by name, as numbers. Synchronises with the device once.

    Args:
        tower: the tower.
        group: a parameter group: holds the ground floor's options and all floors' raw numbers.
        states: of the group's tensors: hold the raw numbers that each tensor has of its own.
    """
    floors = []
    for level, floor in enumerate(tower.of_group(group).floors):
        values: dict[str, Any] = {}
        for name, value in floor.rule.hyperparameters().items():
            chart, key = tower.tuned(level).get(name), STORE_KEY.format(level, name)
            if name in floor.own and chart:
                names = group.get("param_names", range(len(states)))
                for label, state in zip(names, states, strict=True):
                    values[f"{name}[{label}]"] = chart.value(state[key]) if key in state else value
            else:
                values[name] = chart.value(group[key]) if chart and key in group else value
        floors.append(values)
    if not any(floors):
        return floors
    numbers = [torch.as_tensor(v, dtype=torch.float64) for floor in floors for v in floor.values()]
    device = next((n.device for n in numbers if n.device.type != "cpu"), torch.device("cpu"))
    each = iter(torch.stack([number.to(device) for number in numbers]).tolist())
    return [{name: next(each) for name in floor} for floor in floors]
