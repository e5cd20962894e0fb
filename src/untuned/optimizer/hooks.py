"""Hooks that stay with one module: its copies, also those that are pickled, have inert ones."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch


def keep_uncompiled(*functions: Callable[..., Any]) -> None:
    """Let functions run as they are where `torch.compile` would make graphs of them alone.

    So they run just before a compiled graph: the hooks of its root. Within a graph they are traced
    as any others, without the break that `torch.compiler.disable` would be there.
    """
    from torch._dynamo.eval_frame import skip_code  # torch has imported it for any optimizer

    for function in functions:
        skip_code(function.__code__)


class Hook:
    """A module's hook, which calls a method with what is given here, then with what torch gives.

    Args:
        call: the method.
        given: its first arguments.
    """

    def __init__(self, call: Callable[..., None], *given: Any) -> None:
        self._call, self._given = call, given

    def __call__(self, *args: Any) -> None:
        if torch.compiler.is_compiling():
            return  # within a graph, which allows no effects
        self._call(*self._given, *args)

    @property
    def __name__(self) -> str:
        raise AttributeError(
            "torch.jit.script compiles hooks, and this one is no TorchScript: script the network "
            "before its optimizer is made, or take torch.export or torch.jit.trace"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # of the standard library, so that a pickled module needs no untuned
        return getattr, (contextlib.nullcontext(), "__exit__")

    def __deepcopy__(self, memo: Any) -> Any:
        return contextlib.nullcontext().__exit__
