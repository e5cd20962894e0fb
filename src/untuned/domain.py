"""The domains of hyperparameters, declared once beside each field of a rule."""

from __future__ import annotations

import ctypes
import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from untuned.errors import DomainError


@dataclass(frozen=True)
class Interval:
    """The real numbers from `low`, which belongs to it if `closed_low`, to below `high`."""

    low: float
    high: float
    closed_low: bool

    def __contains__(self, value: float) -> bool:
        return self.low < value < self.high or (self.closed_low and value == self.low)

    def __str__(self) -> str:
        return f"{'(['[self.closed_low]}{self.low:g}, {self.high:g})"

    def check(self, name: str, value: Any) -> None:
        """Raise `DomainError`, naming the hyperparameter, unless `value` is a number in here."""
        try:
            # nor may it become the upper end when it is rounded to the 32 bits of most weights
            inside = not isinstance(value, str) and float(value) in self
            inside = inside and ctypes.c_float(float(value)).value < self.high
        except (TypeError, ValueError, RuntimeError):
            inside = False
        if not inside:
            raise DomainError(f"{name}={value!r}: give a number in {self}")


POSITIVE = Interval(0.0, math.inf, closed_low=False)
NON_NEGATIVE = Interval(0.0, math.inf, closed_low=True)
UNIT = Interval(0.0, 1.0, closed_low=True)


def hyperparameter(default: Any, domain: Interval, names: tuple[str, ...] = ()) -> Any:
    """A field of a rule: its initial value, and the domain that it may not leave.

    A tuple of hyperparameters, such as Adam's betas, says the name of each.
    """
    return dataclasses.field(default=default, metadata={"domain": domain, "names": names})


# Looked up here once a rule was built: a compiled step cannot trace `dataclasses.fields`
_DOMAINS: dict[type[Any], dict[str, Interval]] = {}
_NAMES: dict[type[Any], dict[str, tuple[str, ...]]] = {}


def domains_of(rule: type[Any]) -> dict[str, Interval]:
    """The fields of a rule, by name, and the domain of each."""
    if rule not in _DOMAINS:
        fields = dataclasses.fields(rule)
        _DOMAINS[rule] = {field.name: field.metadata["domain"] for field in fields}
    return _DOMAINS[rule]


def names_of(rule: type[Any]) -> dict[str, tuple[str, ...]]:
    """The hyperparameters in each field of a rule: the field itself, or those of its tuple."""
    if rule not in _NAMES:
        fields = dataclasses.fields(rule)
        _NAMES[rule] = {field.name: field.metadata["names"] or (field.name,) for field in fields}
    return _NAMES[rule]
