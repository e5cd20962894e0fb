"""The domains of hyperparameters, declared once beside each field of a rule."""

import ctypes
import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from untuned.errors import DomainError


@dataclass(frozen=True)
class Interval:
    """The real numbers in (low, high), and `low` itself if `closed_low`.

    Args:
        low: the lower end.
        high: the upper end, never included.
        closed_low: whether `low` is included.
    """

    low: float
    high: float
    closed_low: bool

    def __contains__(self, value: float) -> bool:
        return self.low < value < self.high or (self.closed_low and value == self.low)

    def __str__(self) -> str:
        return f"{'(['[self.closed_low]}{self.low:g}, {self.high:g})"

    def check(self, name: str, value: Any) -> None:
        """Check that a value is a number in the interval, also once rounded to float32.

        Args:
            name: of the hyperparameter, for the message.
            value: anything that a user may have given.

        Raises:
            DomainError: if it is not.
        """
        try:
            inside = not isinstance(value, str) and float(value) in self
            inside = inside and ctypes.c_float(float(value)).value < self.high
        except (TypeError, ValueError, RuntimeError):
            inside = False
        if not inside:
            raise DomainError(f"{name}={value!r}: give a number in {self}")


POSITIVE = Interval(0.0, math.inf, closed_low=False)
NON_NEGATIVE = Interval(0.0, math.inf, closed_low=True)
UNIT = Interval(0.0, 1.0, closed_low=True)


def plain_number(value: Any) -> Any:
    """A hyperparameter as a number of Python's, or a tensor: those of numpy are neither."""
    return value if type(value) in (int, float) or isinstance(value, Tensor) else float(value)


def hyperparameter(default: Any, domain: Interval, names: tuple[str, ...] = ()) -> Any:
    """A dataclass field of a rule.

    Args:
        default: the initial value; a tuple for several hyperparameters in one field.
        domain: the interval that each value must stay in.
        names: of the hyperparameters in a tuple, such as Adam's betas.
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
