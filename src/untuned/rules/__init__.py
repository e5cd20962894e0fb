"""The rules, one paper a file, and the notation in which they may be written as text."""

from untuned.rules.agd import AGD
from untuned.rules.nero import FreeNero, Nero

__all__ = ["AGD", "FreeNero", "Nero"]
