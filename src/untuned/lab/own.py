"""What users have written themselves, by the name of a module and a name in it."""

import importlib
import os
import sys
from typing import Any

from untuned.lab.errors import UnknownNameError, unknown


def imported(kind: str, module: str, name: str) -> Any:
    """What a module calls by a name; modules of the current folder come first.

    Args:
        kind: what the name should denote, such as "workload".
        module: such as "mymodule" or "torch.optim".
        name: in the module.

    Raises:
        UnknownNameError: no such module (or none that it imports in turn), or no such name in it.
    """
    folder = os.getcwd()
    if folder not in sys.path:  # the command `untuned` starts without it
        sys.path.insert(0, folder)
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UnknownNameError(
            f"{kind} '{module}:{name}': there is no module {error.name!r} in {folder}, and none is "
            "installed; start the command in the folder of the module, or install it"
        ) from error
    if not hasattr(found, name):
        known = [f"{module}:{each}" for each in vars(found) if not each.startswith("_")]
        raise unknown(kind, f"{module}:{name}", known)
    return getattr(found, name)
