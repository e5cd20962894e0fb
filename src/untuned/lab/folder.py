"""The folder of a run: config.json, metrics.jsonl, checkpoint.pt, result.json, picture.png.

A point of the curve is on the disk before the checkpoint that follows it, and a checkpoint takes
its place in one move: whenever the process dies, the last checkpoint is whole, and every point up
to it is there.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric

from untuned.lab.config import Config
from untuned.lab.errors import RunFolderError

Point = dict[str, Any]


def plain(value: Any) -> Any:
    """As strict JSON has it: no NaN, no infinity; null instead."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    fresh = path.with_name(path.name + ".new")
    with fresh.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


class RunFolder:
    """Where a run is kept; only the first process writes."""

    path: Path
    fabric: Fabric
    checkpoint: Path

    def __init__(self, config: Config, fabric: Fabric) -> None:
        assert config.folder is not None
        self.path, self.fabric = config.folder, fabric
        self.checkpoint = self.path / "checkpoint.pt"
        self._config = self.path / "config.json"
        self._metrics = self.path / "metrics.jsonl"
        self._check(config)
        fabric.barrier()  # all have looked before the first writes
        if fabric.is_global_zero and not config.resume:
            self.path.mkdir(parents=True, exist_ok=True)
            write(self._config, json.dumps(config.numbers(), indent=2) + "\n")
            write(self._metrics, "")

    def _check(self, config: Config) -> None:
        """Raise `RunFolderError` if the folder is not as this run needs it."""
        if not config.resume:
            if self._config.exists():
                raise RunFolderError(
                    f"{self.path} holds a run: go on with it by --resume, or give another --folder"
                )
            return
        if not self._config.exists():
            raise RunFolderError(f"{self.path} holds no run to go on with: leave out --resume")
        old, new = json.loads(self._config.read_text()), config.numbers()
        other = [f"{name}={old.get(name)!r}" for name in new if new[name] != old.get(name)]
        if other:
            raise RunFolderError(f"the run in {self.path} has {', '.join(other)}: ask for the same")

    def append(self, point: Point) -> None:
        """Add a point to the curve."""
        if self.fabric.is_global_zero:
            with self._metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(point) + "\n")
                file.flush()
                os.fsync(file.fileno())

    def save(self, state: dict[str, Any]) -> None:
        """Keep what to go on from."""
        fresh = self.checkpoint.with_suffix(".new")
        self.fabric.save(fresh, state)
        if self.fabric.is_global_zero:
            fresh.replace(self.checkpoint)

    def load(self) -> tuple[dict[str, Any] | None, list[Point]]:
        """What to go on from, if there is any, and the curve up to there."""
        state = None
        if self.checkpoint.exists():
            state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        reached = -1 if state is None else state["step"]
        curve = []
        for line in self._metrics.read_text(encoding="utf-8").splitlines():
            point = json.loads(line) if line.endswith("}") else {"step": math.inf}  # torn
            if point["step"] <= reached:
                curve.append(point)
        self.fabric.barrier()
        if self.fabric.is_global_zero:
            write(self._metrics, "".join(json.dumps(point) + "\n" for point in curve))
        return state, curve

    def finish(self, result: dict[str, Any]) -> None:
        """Keep what came of the run."""
        if self.fabric.is_global_zero:
            write(self.path / "result.json", json.dumps(result, indent=2) + "\n")
