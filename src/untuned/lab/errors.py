"""What goes wrong in the lab, by name: each error says how to mend it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from untuned.errors import UntunedError


class UnknownNameError(UntunedError, ValueError):
    """A workload or optimizer was asked for that does not exist."""


class MissingDataError(UntunedError, FileNotFoundError):
    """A data set is neither in the folder that UNTUNED_DATA names nor to be had from the hub."""


class RunFolderError(UntunedError, FileExistsError):
    """A folder holds another run, or none where one was to be resumed."""


class ConfigError(UntunedError, ValueError):
    """A run was asked for in a way that makes no sense."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """The error for a name that is not known, with the nearest of those that are."""
    names = list(known)
    near = difflib.get_close_matches(name.lower(), names, n=5, cutoff=0.4) or names
    return UnknownNameError(f"{kind} {name!r} is unknown; the nearest: {', '.join(near)}")
