"""Things made once and looked up from then on."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

Made = TypeVar("Made")


def cached(size: int) -> Callable[[Callable[..., Made]], Callable[..., Made]]:
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


class TensorCache(dict[Any, Tensor]):
    """Tensors made once for each key; where tensors are fake ones, made each time."""

    def found(self, key: Any, make: Callable[[], Tensor]) -> Tensor:
        """The tensor of a key."""
        if type(torch.empty(0)) is not Tensor:
            return make()
        if key not in self:
            self[key] = make()
        return self[key]


_integers = TensorCache()


def integers(numbers: Sequence[int], device: torch.device) -> Tensor:
    """Whole numbers as a tensor on a device, (numbers,), to which they are sent once."""
    key = (tuple(numbers), device)
    return _integers.found(key, lambda: torch.tensor(key[0], dtype=torch.int64).to(device))
