"""Errors of the lab. Each message says how to correct the call."""

import difflib
from collections.abc import Iterable

from untuned.errors import UntunedError


class UnknownNameError(UntunedError, ValueError):
    """No workload, optimizer or setting of this name."""


class MissingDataError(UntunedError, FileNotFoundError):
    """A data set is neither in the folder UNTUNED_DATA nor available from the hub."""


class RunFolderError(UntunedError, FileExistsError):
    """A folder holds another run, or no run to resume."""


class ConfigError(UntunedError, ValueError):
    """Options that contradict each other or the workload."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """An error for an unknown name that lists the nearest known ones.

    Args:
        kind: what the name should denote, such as "workload".
        name: the unknown name.
        known: all valid names.
    """
    names = list(known)
    near = difflib.get_close_matches(name.lower(), names, n=5, cutoff=0.4) or names
    return UnknownNameError(f"{kind} {name!r} is unknown; the nearest: {', '.join(near)}")
