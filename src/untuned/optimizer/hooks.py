"""Hooks that stay with one module: its copies, also those that are pickled, have inert ones."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any


class Hook:
    """A module's hook, which calls a method with what is given here, then with what torch gives.

    Args:
        call: the method.
        given: its first arguments.
    """

    def __init__(self, call: Callable[..., None], *given: Any) -> None:
        self._call, self._given = call, given

    def __call__(self, *args: Any) -> None:
        self._call(*self._given, *args)

    def __reduce__(self) -> tuple[Any, ...]:
        # of the standard library, so that a pickled module needs no untuned
        return getattr, (contextlib.nullcontext(), "__exit__")

    def __deepcopy__(self, memo: Any) -> Any:
        return contextlib.nullcontext().__exit__
