"""Who is compared: each contestant is a name and the trainings that it may choose its own from.

A contestant that is used as it comes has one candidate. A tuned one has a grid: learning rates
half a decade apart, over three decades, each with a constant rate and with warm-up and decay, in
the shape that its users favour.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from untuned.lab import methods
from untuned.lab.errors import UnknownNameError, unknown


class Candidate(NamedTuple):
    """An optimizer as it is written, and its schedule."""

    optimizer: str
    schedule: str


@dataclass(frozen=True)
class Contestant:
    """Its text, with {lr} where a learning rate is to be tuned, and that grid."""

    name: str
    text: str
    schedules: tuple[str, ...] = ("constant",)
    low: int = 0  # the grid's ends, as exponents of the square root of 10; both are in it
    high: int = -1  # below `low`: nothing is tuned

    @property
    def tuned(self) -> bool:
        """Whether there is anything to choose."""
        return self.high >= self.low

    def candidates(self, low: int, high: int) -> list[Candidate]:
        """The grid between two exponents, small learning rates first."""
        texts = [self.text.format(lr=half_decade(k)) for k in range(low, high + 1)]
        return [Candidate(text, s) for text in texts or [self.text] for s in self.schedules]


def half_decade(k: int) -> str:
    """10^(k/2) with three digits: 0.000316, 0.001, 0.00316."""
    return f"{10 ** (k / 2):.3g}"


REFERENCE = "adamw-tuned"

CONTESTANTS = [
    Contestant("auto", "auto"),
    Contestant("auto, horizon", "auto", ("horizon",)),
    Contestant("agd", "agd"),
    Contestant("nero", "nero"),
    Contestant("adam / sgd", "adam / sgd(lr=1e-05)"),
    Contestant("adam / adam", "adam / adam(lr=0.05)"),
    Contestant("adamw", "adamw(lr=0.001)"),
    Contestant(REFERENCE, "adamw(lr={lr})", ("constant", "cosine"), -8, -2),
    Contestant("sgd-tuned", "sgdm(lr={lr})", ("constant", "cosine"), -6, 0),
    Contestant("muon", "muon(lr=0.02)", ("linear",)),
    Contestant("muon-tuned", "muon(lr={lr})", ("constant", "linear"), -6, 0),
    Contestant("schedule-free", "schedulefree"),
    Contestant("prodigy", "prodigy"),
    Contestant("dadaptation", "dadaptadam"),
    Contestant("dog", "dog"),
]


def select(
    patterns: Sequence[str], names: Sequence[str], other: Callable[[str], object]
) -> list[str]:
    """The names that any of the globs matches, in the order of the names.

    What matches none is kept as it is, after `other` has had a chance to raise.
    """
    matches = {pattern: fnmatch.filter(names, pattern) for pattern in patterns}
    for pattern, matched in matches.items():
        if not matched:
            other(pattern)
    known = [name for name in names if any(name in matched for matched in matches.values())]
    return known + [pattern for pattern, matched in matches.items() if not matched]


def contestant_of(name: str) -> Contestant:
    """That of the table, or an optimizer as it is written, used as it comes.

    Raises `UnknownNameError` with the nearest names, or what is wrong with what is written.
    """
    table = {contestant.name: contestant for contestant in CONTESTANTS}
    if name in table:
        return table[name]
    try:
        methods.parse(name)
    except UnknownNameError:
        if re.fullmatch(r"[\w -]+", name):
            raise unknown("optimizer", name, table) from None
        raise
    return Contestant(name, name)
