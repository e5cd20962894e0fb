"""The rules, one paper a file, and the notation in which they may be written as text."""

from untuned.rules.agd import AGD

__all__ = ["AGD"]
