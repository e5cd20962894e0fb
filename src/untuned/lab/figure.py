"""What a figure of a paper is to the lab."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from rich.console import Console


class Figure(NamedTuple):
    """A figure or table that can be run again, whole ("full") or on one or two cores ("small")."""

    name: str
    source: str
    needs: dict[str, str]  # data, device and hours, by size
    run: Callable[[str, Console, Path], None]  # given the size, and where pictures go
