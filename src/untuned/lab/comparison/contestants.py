"""Contestants of a comparison: a name, and the candidates from which its setting is chosen.

A contestant that is not tuned has one candidate. A tuned one has a grid: learning rates half a
decade apart, over three decades, each constant and with warm-up and the decay that its users
favour.
"""

import dataclasses
import fnmatch
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from untuned.lab.baselines.methods import method_of
from untuned.lab.errors import UnknownNameError, unknown


class Candidate(NamedTuple):
    """An optimizer as text, and its schedule."""

    optimizer: str
    schedule: str

    @property
    def text(self) -> str:
        """The optimizer, and its schedule if it is not constant."""
        return ", ".join(self if self.schedule != "constant" else self[:1])


@dataclass(frozen=True)
class Contestant:
    """An optimizer in a comparison."""

    name: str  # of the contestant
    text: str  # of the optimizer, with {lr} for a learning rate to be tuned
    schedules: tuple[str, ...] = ("constant",)  # of the grid
    low: int = 0  # lowest learning rate, as an exponent of the square root of 10
    high: int = -1  # highest learning rate; below `low`: nothing is tuned

    @property
    def tuned(self) -> bool:
        return self.high >= self.low

    def candidates(self, low: int, high: int) -> list[Candidate]:
        """The grid, small learning rates first.

        Args:
            low: its lowest exponent.
            high: its highest exponent.
        """
        texts = [self.text.replace("{lr}", half_decade(k)) for k in range(low, high + 1)]
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
    """Names that match any glob, in their order, then the patterns that match none.

    Args:
        patterns: globs.
        names: known names.
        other: called with each pattern that matches none; may raise.
    """
    for pattern in (others := [p for p in patterns if not fnmatch.filter(names, p)]):
        other(pattern)
    return [n for n in names if any(fnmatch.fnmatch(n, p) for p in patterns)] + others


def contestant_of(name: str) -> Contestant:
    """A contestant of the table, or an optimizer as text, tuned as AdamW is if it has an {lr}.

    Raises:
        UntunedError: an unknown name (lists the nearest), or an invalid optimizer.
    """
    table = {contestant.name: contestant for contestant in CONTESTANTS}
    if name in table:
        return table[name]
    grid = dataclasses.replace(table[REFERENCE], name=name, text=name)
    own = grid if "{lr}" in name else Contestant(name, name)
    try:
        method_of(own.candidates(own.low, own.high)[0].optimizer)
    except UnknownNameError:
        if re.fullmatch(r"[\w -]+", name):
            raise unknown("optimizer", name, table) from None
        raise
    return own
