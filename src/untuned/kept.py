"""Things made once and looked up from then on."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeVar

import torch

Made = TypeVar("Made")


def kept(size: int) -> Callable[[Callable[..., Made]], Callable[..., Made]]:
    """A decorator: `functools.lru_cache`, but for compiled steps, which go past it.

    They would warn of it, and trace what it wraps all the same.
    """

    def decorate(make: Callable[..., Made]) -> Callable[..., Made]:
        look_up = functools.lru_cache(maxsize=size)(make)

        @functools.wraps(make)
        def found(*args: object) -> Made:
            return make(*args) if torch.compiler.is_compiling() else look_up(*args)

        return found

    return decorate
