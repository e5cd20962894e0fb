"""Trials, and the file cells.jsonl: one training each, a line of JSON, in the order they ended.

The file resumes a comparison, on another machine too, and is small enough to be committed: numbers
have 5 digits, curves are columns, and a constant column is one number.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from untuned.lab.comparison.lines import Lines
from untuned.lab.comparison.measure import Curve
from untuned.lab.config import Config, has_run

DIGITS = 5
LOSS = "valid_loss"


class TrialKey(NamedTuple):
    """What a trial trains; trials of equal keys are the same training."""

    workload: str
    size: str
    optimizer: str
    schedule: str
    seed: int
    steps: int  # the budget


@dataclass(frozen=True)
class Trial:
    """The result of a training."""

    key: TrialKey
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
    curve: dict[str, list[float]] = field(default_factory=dict)  # columns; a floor's: "hyper ..."

    @property
    def loss(self) -> Curve:
        """The validation loss over the steps."""
        return Curve(self.curve.get("step", []), self.curve.get(LOSS, []))

    def last(self, column: str) -> float:
        """The last value of a column. If the trial is not done: infinite for the loss, else NaN."""
        values = self.curve.get(column)
        if self.status == "done" and values:
            return values[-1]
        return math.inf if column == LOSS else math.nan

    @classmethod
    def of(cls, result: Mapping[str, Any]) -> Trial:
        """From a run's result, whose curve is a list of points, or from a line of the file."""
        known = {name: result[name] for name in cls.__dataclass_fields__ if name in result}
        numbers = {name: _number(known[name]) for name in _NUMBERS if name in known}
        curve = result.get("curve", {})
        columns = _expanded(curve) if isinstance(curve, Mapping) else _columns_of(curve)
        key = TrialKey(*(result[name] for name in TrialKey._fields))
        return cls(**{**known, **numbers, "key": key, "curve": columns})

    def line(self) -> str:
        """One line of JSON, without empty fields."""
        fields = {name: value for name, value in asdict(self).items() if name != "key"}
        fields |= {name: rounded(fields[name]) for name in _NUMBERS}
        columns = {name: list(map(rounded, values)) for name, values in self.curve.items()}
        fields["curve"] = {n: c[:1] if len(set(c)) == 1 else c for n, c in columns.items()}
        said = {name: value for name, value in fields.items() if value not in (None, "", {})}
        line = {**self.key._asdict(), **said}
        return json.dumps(line, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


_NUMBERS = ("seconds", "ms_per_step", "state_bytes", "peak_mb")


def train_trial(key: TrialKey, checkpoints: Path | None = None) -> Trial:
    """Train in this process; an exception becomes a failed trial.

    Args:
        key: of the trial.
        checkpoints: a folder for those of all trials under way: the trial goes on from its last
            one, and removes it at its end. None: it starts anew, and keeps none.
    """
    from untuned.lab.training.run import run  # slow to import

    folder = checkpoints / _folder_name(key) if checkpoints else None
    try:
        config = Config(**key._asdict(), folder=folder, resume=has_run(folder))
        trial = Trial.of({**vars(run(config)), **key._asdict()})
    except Exception as error:
        return Trial(key, "failed", error=f"{type(error).__name__}: {error}")
    if folder and os.environ.get("RANK", "0") == "0":
        shutil.rmtree(folder)
    return trial


def _folder_name(key: TrialKey) -> str:
    """Unique, whatever letters the names have."""
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:12]
    return re.sub(r"\W+", "-", f"{key.workload} {key.optimizer}")[:60] + f"-{digest}"


def _number(value: float | None) -> float:
    """JSON has no NaN: null stands for numbers that are not finite."""
    return math.nan if value is None else value


def rounded(value: float) -> float | None:
    """To `DIGITS` digits; integers are exact; None if not finite."""
    if not math.isfinite(value):
        return None
    short = float(f"{value:.{DIGITS}g}")
    return int(value) if value == int(value) else short


def _expanded(curve: Mapping[str, Sequence[float | None]]) -> dict[str, list[float]]:
    length = max(map(len, curve.values()), default=0)
    full = {name: list(c) * length if len(c) == 1 else c for name, c in curve.items()}
    return {name: [_number(value) for value in column] for name, column in full.items()}


def _columns_of(points: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """From points to columns; each hyperparameter has a column."""
    flat = [
        {name: value for name, value in point.items() if name != "hyper"}
        | {f"hyper {name}": value for name, value in point.get("hyper", {}).items()}
        for point in points
    ]
    names = dict.fromkeys(name for point in flat for name in point)
    return {name: [_number(point.get(name)) for point in flat] for name in names}


class Trials(Lines[TrialKey, Trial]):
    """All trials of a file, by key; of equal keys the last counts.

    Args:
        path: of the file.
        writes: whether this process writes; of several that train together, the first.

    Raises:
        ValueError: a whole line that is no trial.
    """

    def __init__(self, path: Path, writes: bool = True) -> None:
        super().__init__(path, Trial.of, "trial", writes)

    def adopt(self, others: Mapping[TrialKey, Trial]) -> None:
        """Append trials that are missing here."""
        for key, trial in others.items():
            if key not in self:
                self.append(trial)

    def forget_failed(self) -> None:
        """Remove failed trials, but not from the file, so that they are trained again."""
        for key in [key for key, trial in self.items() if trial.status == "failed"]:
            del self[key]
