"""The module behind `model.parameters()`, which every tutorial writes.

A generator that has not begun still holds the arguments of its function, `self` among them. Lists
of tensors hold nothing of the kind: torch has no way from a parameter to its module.
"""

import inspect
from collections.abc import Iterable
from types import GeneratorType
from typing import Any

from torch import Tensor, nn

from untuned.errors import BareTensorsWarning, warn

WHOLE = (nn.Module.parameters.__code__, nn.Module.named_parameters.__code__)


def module_of(params: Any) -> nn.Module | None:
    """The module that `params` is, or whose `parameters()` or `named_parameters()` it is."""
    if isinstance(params, nn.Module):
        return params
    if not isinstance(params, GeneratorType) or params.gi_code not in WHOLE:
        return None
    if inspect.getgeneratorstate(params) != inspect.GEN_CREATED:
        return None
    given = inspect.getgeneratorlocals(params)
    whole = given["recurse"] and not given.get("prefix")
    return given["self"] if whole else None


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
