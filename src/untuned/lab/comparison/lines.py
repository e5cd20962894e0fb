"""Files of JSON lines that resume a comparison: one record a line, in the order they came.

A line is synced before its record counts as done; a line cut short, by a full disk or a killed
writer, is dropped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from filelock import FileLock, Timeout


class InUseError(RuntimeError):
    """Another comparison writes to the same file."""


class Record(Protocol):
    """What a line holds."""

    @property
    def key(self) -> Any:
        """Records of equal keys are the same measurement."""

    def line(self) -> str:
        """One line of JSON."""


K = TypeVar("K")
R = TypeVar("R", bound=Record)


class Lines(dict[K, R], Generic[K, R]):
    """All records of a file, by key; of equal keys the last counts.

    Args:
        path: of the file.
        read: from the fields of a line to its record.
        kind: what a record is, in a word.
        writes: whether this process writes; of several that train together, the first.

    Raises:
        ValueError: a whole line that is no record.
    """

    path: Path

    def __init__(
        self, path: Path, read: Callable[[Mapping[str, Any]], R], kind: str, writes: bool = True
    ) -> None:
        self.path, self._writes = path, writes
        super().__init__((record.key, record) for record in _whole_lines(path, read, kind))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One writer at a time. Raises `InUseError`."""
        if not self._writes:
            yield
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.path.with_suffix(".lock")).acquire(timeout=0):
                yield
        except Timeout:
            raise InUseError(f"another comparison is writing to {self.path}") from None

    def append(self, record: R) -> None:
        """Add a record and sync the file; a line cut short is overwritten."""
        self[record.key] = record
        if not self._writes:
            return
        with self.path.open("a+b") as file:
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
            file.write(record.line().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def _whole_lines(path: Path, read: Callable[[Mapping[str, Any]], R], kind: str) -> Iterator[R]:
    if not path.exists():
        return
    *lines, _ = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        try:
            yield read(json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}, line {number} is no {kind}: delete it ({error})") from error
