"""The rules, one paper a file."""

from untuned.rules.agd import AGD
from untuned.rules.nero import FreeNero, Nero

__all__ = ["AGD", "FreeNero", "Nero"]
