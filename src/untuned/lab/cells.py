"""The cells' file: what came of every training, one line of JSON each, in the order they ended.

`untuned compare` goes on from it, and it is small enough to be committed, so that a matrix begun on
one machine ends on another: numbers have 5 digits, curves stand in columns, and a column that never
changes is one number. A line is written whole and synced before the next cell is counted as done; a
line cut short, by a full disk or a killed writer, is dropped when the file is opened again.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from untuned.lab.measure import Curve

DIGITS = 5
LOSS = "valid_loss"


class Key(NamedTuple):
    """What a cell trains; two cells of one key are the same training."""

    workload: str
    size: str
    optimizer: str
    schedule: str
    seed: int
    steps: int  # the budget


@dataclass(frozen=True)
class Cell:
    """What came of a training."""

    key: Key
    status: str  # "done", "diverged", or "failed" with the error
    stopped_at: int = 0
    metric_name: str = ""
    seconds: float = math.nan  # of training, without evaluation
    ms_per_step: float = math.nan
    state_bytes: float = math.nan
    peak_mb: float = math.nan
    versions: dict[str, str] = field(default_factory=dict)
    command: str = ""
    error: str = ""
    curve: dict[str, list[float]] = field(
        default_factory=dict
    )  # columns; a floor's are "hyper ..."

    @property
    def loss(self) -> Curve:
        """The validation loss over the steps."""
        return Curve(self.curve.get("step", []), self.curve.get(LOSS, []))

    def last(self, column: str) -> float:
        """The end of a column: infinite for the loss of a cell that did not end well, else NaN."""
        values = self.curve.get(column)
        if self.status == "done" and values:
            return values[-1]
        return math.inf if column == LOSS else math.nan

    @classmethod
    def of(cls, result: Mapping[str, Any]) -> Cell:
        """From a result, whose curve is a list of points, or from a line of the file."""
        known = {name: result[name] for name in cls.__dataclass_fields__ if name in result}
        key = Key(*(result[name] for name in Key._fields))
        curve = result.get("curve", {})
        columns = expanded(curve) if isinstance(curve, Mapping) else columns_of(curve)
        numbers = {n: _number(known[n]) for n in NUMBERS if n in known}
        return cls(**{**known, **numbers, "key": key, "curve": columns})

    def line(self) -> str:
        """One line of JSON, without what has nothing to say."""
        rest = asdict(self)
        del rest["key"]
        rest = {**rest, **{name: rounded(rest[name]) for name in NUMBERS}}
        rest["curve"] = {name: shortened(values) for name, values in self.curve.items()}
        said = {name: value for name, value in rest.items() if value not in (None, "", {})}
        line = {**self.key._asdict(), **said}
        return json.dumps(line, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


NUMBERS = ("seconds", "ms_per_step", "state_bytes", "peak_mb")


def _number(value: float | None) -> float:
    """JSON has no NaN: what is not finite is null."""
    return math.nan if value is None else value


def rounded(value: float) -> float | None:
    """To `DIGITS` digits; whole numbers as they are, so that steps stay exact."""
    if not math.isfinite(value):
        return None
    short = float(f"{value:.{DIGITS}g}")
    return int(value) if value == int(value) else short


def shortened(values: Sequence[float]) -> list[float | None]:
    """A column as it is written."""
    out = [rounded(value) for value in values]
    return out[:1] if len(set(out)) == 1 else out


def expanded(curve: Mapping[str, Sequence[float | None]]) -> dict[str, list[float]]:
    """Columns as they were before they were written."""
    length = max(map(len, curve.values()), default=0)
    full = {name: list(c) * length if len(c) == 1 else c for name, c in curve.items()}
    return {name: [_number(value) for value in column] for name, column in full.items()}


def columns_of(points: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """From a list of points; a hyperparameter gets a column of its own."""
    flat = [
        {name: value for name, value in point.items() if name != "hyper"}
        | {f"hyper {name}": value for name, value in point.get("hyper", {}).items()}
        for point in points
    ]
    names = dict.fromkeys(name for point in flat for name in point)
    return {name: [_number(point.get(name)) for point in flat] for name in names}


class InUseError(RuntimeError):
    """Another comparison is writing to the same file."""


class Cells(Mapping[Key, Cell]):
    """All cells of a file, by key; of two with one key the later counts.

    Of several processes that train together only the first `writes`.
    """

    path: Path

    def __init__(self, path: Path, writes: bool = True) -> None:
        self.path, self._writes = path, writes
        self._cells: dict[Key, Cell] = {}
        for cell in _whole_lines(path):
            self._cells[cell.key] = cell

    def __getitem__(self, key: Key) -> Cell:
        return self._cells[key]

    def __iter__(self) -> Iterator[Key]:
        return iter(self._cells)

    def __len__(self) -> int:
        return len(self._cells)

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

    def forget_failed(self) -> None:
        """Have them wanted again; in the file they stay until they ended better."""
        self._cells = {key: cell for key, cell in self.items() if cell.status != "failed"}

    def append(self, cell: Cell) -> None:
        """Write a cell down for good; a line that was cut short goes first."""
        self._cells[cell.key] = cell
        if not self._writes:
            return
        with self.path.open("a+b") as file:
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
            file.write(cell.line().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def _whole_lines(path: Path) -> Iterator[Cell]:
    """The cells of a file. Raises `ValueError` for a whole line that is none."""
    if not path.exists():
        return
    *lines, _ = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        try:
            yield Cell.of(json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}, line {number} is no cell: delete it ({error})") from error
