"""The hyperparameters of a group's tower: where they start, and what they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from untuned._tensors import shared_dtype
from untuned.domain import names_of
from untuned.tower import Tower
from untuned.towers.raw import Raw, place_of


def begin(tower: Tower, group: dict[str, Any]) -> None:
    """Put the hyperparameters that the tensors of a new group share where a tower starts them.

    From then on the group's options of those names would say nothing: they go.
    """
    weights = group["params"] or [torch.zeros(())]
    rule = tower.of_group(group).floors[0].rule
    names = names_of(type(rule))
    shared = [name for name in tower.tuned(0) if name not in tower.floors[0].own]
    for name in shared:
        raw = Raw(group, place_of(0, name), tower.tuned(0)[name])
        raw.begin(float(rule.hyperparameters()[name]), shared_dtype(weights), weights[0].device)
    for field in names:
        if field != "lr" and set(names[field]) <= set(shared):
            group.pop(field, None)


def values_of(
    tower: Tower, group: Mapping[str, Any], states: Sequence[Mapping[str, Any]]
) -> list[dict[str, float]]:
    """The hyperparameters of each floor, by name, as numbers."""
    floors = []
    for level, floor in enumerate(tower.of_group(group).floors):
        values: dict[str, Any] = {}
        for name, value in floor.rule.hyperparameters().items():
            chart, key = tower.tuned(level).get(name), place_of(level, name)
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
    each = iter(torch.stack([number.to(device) for number in numbers]).tolist())  # waits once
    return [{name: next(each) for name in floor} for floor in floors]
