"""The folder of a run: config.json, metrics.jsonl, checkpoint.pt, result.json, picture.png.

A point of the curve is synced to disk before the checkpoint that follows it, and a checkpoint
replaces the last one atomically: whenever the process dies, the last checkpoint is whole, and every
point up to it is there.
"""

import json
import math
import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric

from untuned.lab.config import CONFIG, Config, has_run
from untuned.lab.errors import RunFolderError

CurvePoint = dict[str, Any]


def strict(value: Any) -> Any:
    """A value as strict JSON allows it: NaN and infinity become None."""
    if isinstance(value, dict):
        return {key: strict(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [strict(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write(path: Path, text: str, mode: str = "w") -> None:
    """Write and sync a file."""
    with path.open(mode, encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _replace(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    fresh = path.with_name(path.name + ".new")
    _write(fresh, text)
    fresh.replace(path)


class RunFolder:
    """The folder of a run; only the first rank writes.

    Args:
        config: of the run.
        fabric: its processes.

    Raises:
        RunFolderError: the folder holds another run, or none to resume.
    """

    def __init__(self, config: Config, fabric: Fabric) -> None:
        assert config.folder is not None
        self._path, self._fabric = config.folder, fabric
        self._checkpoint = self._path / "checkpoint.pt"
        self._config = self._path / CONFIG
        self._metrics = self._path / "metrics.jsonl"
        self._check(config)
        fabric.barrier()  # all have checked before the first writes
        if fabric.is_global_zero and not config.resume:
            self._path.mkdir(parents=True, exist_ok=True)
            _replace(self._metrics, "")
            # last: with its configuration the folder holds a run
            _replace(self._config, json.dumps(config.numbers(), indent=2) + "\n")

    def _check(self, config: Config) -> None:
        if not config.resume:
            if has_run(self._path):
                raise RunFolderError(
                    f"{self._path} holds a run: go on with it by --resume, or give another --folder"
                )
            return
        if not has_run(self._path):
            raise RunFolderError(f"{self._path} holds no run to go on with: leave out --resume")
        old, new = json.loads(self._config.read_text()), config.numbers()
        other = [f"{name}={old.get(name)!r}" for name in new if new[name] != old.get(name)]
        if other:
            raise RunFolderError(
                f"the run in {self._path} has {', '.join(other)}: ask for the same"
            )

    def append(self, point: CurvePoint) -> None:
        """Append a point to the curve."""
        if self._fabric.is_global_zero:
            _write(self._metrics, json.dumps(point) + "\n", "a")

    def save(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint."""
        fresh = self._checkpoint.with_suffix(".new")
        self._fabric.save(fresh, state)
        if self._fabric.is_global_zero:
            fresh.replace(self._checkpoint)

    def load(self) -> tuple[dict[str, Any] | None, list[CurvePoint]]:
        """The last checkpoint, if any, and the curve up to it; later points are dropped."""
        state = None
        if self._checkpoint.exists():
            state = torch.load(self._checkpoint, map_location="cpu", weights_only=True)
        reached = -1 if state is None else state["step"]
        curve = []
        for line in self._metrics.read_text(encoding="utf-8").splitlines():
            point = json.loads(line) if line.endswith("}") else {"step": math.inf}  # torn
            if point["step"] <= reached:
                curve.append(point)
        self._fabric.barrier()
        if self._fabric.is_global_zero:
            _replace(self._metrics, "".join(json.dumps(point) + "\n" for point in curve))
        return state, curve

    def finish(self, result: dict[str, Any]) -> None:
        """Write the result."""
        if self._fabric.is_global_zero:
            _replace(self._path / "result.json", json.dumps(result, indent=2) + "\n")
