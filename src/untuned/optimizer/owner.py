"""The module behind parameters that come without it, as every tutorial writes.

A generator that has not begun, `model.parameters()`, still holds the arguments of its function,
`self` among them. Lists of tensors hold nothing of the kind, and torch has no way from a parameter
to its module; but Python's garbage collector knows all modules that are alive.
"""

from __future__ import annotations

import gc
import inspect
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import GeneratorType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from untuned.errors import BareTensorsWarning, warn

WHOLE = (nn.Module.parameters.__code__, nn.Module.named_parameters.__code__)


class Part(NamedTuple):
    """Some of a module's parameters."""

    module: nn.Module
    given: Sequence[Any]  # tensors, or (name, tensor) pairs


def module_of(params: Any) -> nn.Module | None:
    """The module that `params` is, or whose `parameters()` or `named_parameters()` it is."""
    if isinstance(params, nn.Module):
        return params
    if isinstance(params, Part):
        return params.module
    if not isinstance(params, GeneratorType) or params.gi_code not in WHOLE:
        return None
    if inspect.getgeneratorstate(params) != inspect.GEN_CREATED:
        return None
    given = inspect.getgeneratorlocals(params)
    whole = given["recurse"] and not given.get("prefix")
    return given["self"] if whole else None


def with_module(groups: Sequence[Any], present: Iterable[Tensor] = ()) -> list[Any]:
    """Parameter groups in which lists of tensors are parts of the module that has all of them.

    Args:
        groups: as users give them: dicts, or a list of tensors or of (name, tensor) pairs.
        present: other tensors that the module must have.

    Returns:
        The groups as they are, if no list is among them, or if no one module has all tensors.
    """
    if groups and not all(isinstance(group, Mapping) for group in groups):
        groups = [{"params": list(groups)}]
    groups = [_kept(group) for group in groups]
    given = [_given(group) for group in groups]
    pairs = list(zip(groups, given, strict=True))
    if not any(own and module_of(group["params"]) is None for group, own in pairs):
        return groups
    tensors = [tensor_of(each) for own in given for each in own]
    known = all(isinstance(tensor, nn.Parameter) for tensor in tensors)
    module = owner_of([*tensors, *present]) if known else None
    if module is None:
        return groups
    return [{**group, "params": Part(module, own)} if own else group for group, own in pairs]


def _kept(group: Mapping[str, Any]) -> dict[str, Any]:
    """The group, its parameters in a list if they can be looked at only once."""
    params: Any = group.get("params")
    once = isinstance(params, Iterator) and module_of(params) is None
    return {**group, "params": list(params)} if once else dict(group)


def _given(group: Mapping[str, Any]) -> list[Any]:
    """The tensors of a group, or pairs; none if their geometry is stated."""
    params = group.get("params")
    if "layer" in group or isinstance(params, Part):
        return []
    if (module := module_of(params)) is not None:
        return list(module.named_parameters())
    if isinstance(params, Tensor):
        return [params]
    return list(params) if isinstance(params, Sequence) else []


def tensor_of(given: Any) -> Any:
    """The tensor of a (name, tensor) pair, or what is no pair."""
    return given[1] if isinstance(given, tuple) and len(given) == 2 else given


def owner_of(tensors: Iterable[Tensor]) -> nn.Module | None:
    """The innermost module that has all of some parameters, wherever it has them (tied weights).

    Of a module that is compiled it is the compiled one, which alone sees the passes. None if there
    is no such module, or if there are several.
    """
    above: dict[int, list[nn.Module]] = defaultdict(list)  # by id, of modules and of parameters
    for module in [each for each in gc.get_objects() if issubclass(type(each), nn.Module)]:
        if not isinstance(module, torch.jit.ScriptModule):  # which hands out copies
            own = vars(module)
            for each in (*own.get("_modules", {}).values(), *own.get("_parameters", {}).values()):
                above[id(each)].append(module)
    each_has = [above[id(tensor)] for tensor in tensors]
    owners = {id(owner): owner for its in each_has for owner in its} if all(each_has) else {}
    every = [_with_ancestors(owner, above) for owner in owners.values()]
    shared = set.intersection(*map(set, every)) if every else set()
    lowest = [
        module
        for key, module in (every[0] if shared else {}).items()
        if key in shared and not any(id(child) in shared for child in module.children())
    ]
    if len(lowest) != 1:
        return None
    around = (each for each in above[id(lowest[0])] if hasattr(each, "_orig_mod"))
    return next(around, lowest[0])


def _with_ancestors(
    module: nn.Module, above: Mapping[int, Sequence[nn.Module]]
) -> dict[int, nn.Module]:
    """A module and all that have it within them, by id."""
    found: dict[int, nn.Module] = {}
    waiting = [module]
    while waiting:
        each = waiting.pop()
        if id(each) not in found:
            found[id(each)] = each
            waiting += above.get(id(each), ())
    return found


def warn_of_bare(tensors: Iterable[Tensor]) -> bool:
    """Warn of parameters that come without the module that has them; whether there are any."""
    bare = any(isinstance(tensor, nn.Parameter) for tensor in tensors)
    if bare:
        warn(
            "Auto was given parameters without their module: it knows only their shapes, neither "
            "looks at the data nor finds the head, and averages no weights. Give it the module, as "
            "in untuned.Auto(model), or modules in groups, {'params': model.head, 'lr': 0.1}; "
            "groups with and without weight decay are not needed",
            BareTensorsWarning,
        )
    return bare
