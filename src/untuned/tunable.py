"""Hyperparameters: named numbers with domains and charts.

All that a tower needs to know of the rule on each of its floors.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from untuned.charts import Chart, chart_of
from untuned.domain import NON_NEGATIVE, domains_of, names_of
from untuned.errors import DomainError, UnknownHyperparameterError

if TYPE_CHECKING:  # Python 3.10 has it only there
    from typing_extensions import Self


@dataclass(frozen=True)
class Tunable:
    """A frozen dataclass whose fields are hyperparameters (`domain.hyperparameter`)."""

    # Which hyperparameters can be tuned, and on which chart; None: all, on their domain's
    charts: ClassVar[Mapping[str, Chart] | None] = None

    def __post_init__(self) -> None:
        self._check_tuples(self.fields())
        # tensors are a group's, and were looked at when it was added: a step waits for none
        own = self.hyperparameters().items()
        self.check({name: value for name, value in own if not isinstance(value, Tensor)})

    def fields(self) -> dict[str, Any]:
        """The rule's arguments by name, as parameter groups hold them."""
        return {name: getattr(self, name) for name in names_of(type(self))}

    def hyperparameters(self) -> dict[str, Any]:
        """The hyperparameters by name: the fields, tuples taken apart (betas: beta1, beta2)."""
        values: dict[str, Any] = {}
        for field, names in names_of(type(self)).items():
            value = getattr(self, field)
            values |= dict(zip(names, value, strict=True)) if len(names) > 1 else {field: value}
        return values

    @classmethod
    def check(cls, values: Mapping[str, Any]) -> None:
        """Raise `DomainError` for the first of `values`, by field or name, outside its domain."""
        if torch.compiler.is_compiling():
            return  # every new value of a schedule would ask for a new graph
        cls._check_tuples(values)
        domains = {"lr": NON_NEGATIVE}
        for field, names in names_of(cls).items():
            domains |= dict.fromkeys(names, domains_of(cls)[field])
            if len(names) > 1 and field in values:
                values = {**values, **dict(zip(names, values[field], strict=True))}
        for name in domains.keys() & values.keys():
            domains[name].check(name, values[name])

    @classmethod
    def _check_tuples(cls, values: Mapping[str, Any]) -> None:
        for field, names in names_of(cls).items():
            value = values.get(field, names)
            if len(names) > 1 and not (isinstance(value, Sequence) and len(value) == len(names)):
                raise DomainError(f"{field}={value!r}: give {len(names)} numbers")

    @classmethod
    def build(cls, *values: Any, **named: Any) -> Self:
        """The rule, from arguments that may be wrong: raises `UnknownHyperparameterError`."""
        names = list(domains_of(cls))
        unknown = [name for name in named if name not in names[len(values) :]]
        if unknown or len(values) > len(names):
            extra = unknown[0] if unknown else values[len(names)]
            known = ", ".join(names) or "none"
            raise UnknownHyperparameterError(
                f"{cls.__name__} has no hyperparameter {extra!r} (or it is given twice); "
                f"it has: {known}"
            )
        return cls(*values, **named)

    def of_group(self, group: Mapping[str, Any]) -> Self:
        """The rule with the hyperparameters of a parameter group; those that it lacks stay."""
        own = self.fields()
        if all(group.get(name, value) is value for name, value in own.items()):
            return self
        return dataclasses.replace(self, **{name: group.get(name, own[name]) for name in own})

    def replacing(self, values: Mapping[str, Any]) -> Self:
        """The rule with some hyperparameters replaced."""
        every = self.hyperparameters() | dict(values)
        fields: dict[str, Any] = {}
        for field, names in names_of(type(self)).items():
            fields[field] = every[field] if len(names) == 1 else tuple(every[n] for n in names)
        return type(self)(**fields)

    def charted(self) -> dict[str, Chart]:
        """The hyperparameters that can be tuned, and the chart of each."""
        if self.charts is not None:
            return dict(self.charts)
        domains = domains_of(type(self))
        names = names_of(type(self)).items()
        return {name: chart_of(domains[field]) for field, own in names for name in own}

    def as_published(self) -> Self:
        """The same as its authors' code computes it."""
        return self
