"""Hooks that only the module runs that they were registered on.

Copies and pickles of a module hold idle ones, scripted modules none, and compiled code none: a
graph that `torch.compile` makes has no trace of them.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import operator
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

SCRIPTED = "__prepare_scriptable__"  # what `torch.jit.script` asks a module for

_silent = False


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """A context in which no hook of ours runs: for passes of our own."""
    global _silent
    _silent = True
    try:
        yield
    finally:
        _silent = False


class Hook:
    """A module's hook, which calls a function with what is given here, then with what torch gives.

    Args:
        call: the function; None: idle.
        given: its first arguments.
    """

    def __init__(self, call: Callable[..., None] | None, *given: Any) -> None:
        self._call = None if call is None else torch.compiler.disable(call)
        self._given = given

    def __call__(self, *args: Any) -> None:
        # compiled code inlines this and finds nothing to do
        absent = torch.compiler.is_compiling() or torch._C._get_tracing_state() or _silent
        if not absent and self._call is not None:
            self._call(*self._given, *args)

    def __deepcopy__(self, memo: dict[int, Any]) -> Hook:
        return Hook(None)

    def __reduce__(self) -> tuple[Any, ...]:
        """An unpickled hook is a built-in that does nothing, so that a pickle needs no untuned."""
        return getattr, (contextlib.nullcontext(), "__exit__")


class Bare:
    """Gives `torch.jit.script`, which takes no hooks, a shallow copy of a module without ours."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    def __call__(self) -> nn.Module:
        bare = copy.copy(self._module)
        bare.__dict__.pop(SCRIPTED, None)
        bare._modules = dict(bare._modules)  # it replaces children in place
        for name in ("_forward_hooks", "_forward_pre_hooks"):
            others = {i: h for i, h in getattr(bare, name).items() if not isinstance(h, Hook)}
            bare.__dict__[name] = OrderedDict(others)
        return bare

    def __deepcopy__(self, memo: dict[int, Any]) -> Bare:
        return Bare(copy.deepcopy(self._module, memo))

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial, (operator.itemgetter(0), (self._module,))


class Hooks:
    """The hooks on the modules of a tree."""

    def __init__(self) -> None:
        self._handles: list[Any] = []
        self._prepared: list[nn.Module] = []
        _run_hooks_eagerly()

    def __bool__(self) -> bool:
        return bool(self._handles)

    def prepare(self, module: nn.Module) -> None:
        """Let `torch.jit.script` see a module of the tree without its hooks."""
        if not hasattr(module, SCRIPTED):
            module.__dict__[SCRIPTED] = Bare(module)
            self._prepared.append(module)

    def before(self, module: nn.Module, call: Callable[..., None]) -> None:
        """Register a call, (module, args, kwargs), before a module's forward pass."""
        handle = module.register_forward_pre_hook(Hook(call), with_kwargs=True)
        self._handles.append(handle)

    def after(self, module: nn.Module, call: Callable[..., None]) -> None:
        """Register a call, (module, args, kwargs, output), after a module's forward pass."""
        self._handles.append(module.register_forward_hook(Hook(call), with_kwargs=True))

    def remove(self) -> None:
        """Remove all."""
        for handle in self._handles:
            handle.remove()
        for module in self._prepared:
            module.__dict__.pop(SCRIPTED, None)
        self._handles, self._prepared = [], []


@functools.cache
def _run_hooks_eagerly() -> None:
    """Have dynamo leave `Hook.__call__` alone where it is no part of a larger frame.

    It would compile that frame, in which `is_compiling()` holds, and the hook would do nothing.
    """
    from torch._dynamo.eval_frame import skip_code

    skip_code(Hook.__call__.__code__)
