"""What a run is: everything that decides its numbers, and where it is kept."""

from __future__ import annotations

import dataclasses
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from untuned.lab.errors import ConfigError
from untuned.lab.schedules import Schedule

Size = Literal["small", "full"]
Precision = Literal["32-true", "bf16-mixed", "bf16-true", "16-mixed"]

# What may differ between a run and its resumption
ELSEWHERE = ("folder", "resume", "tensorboard", "wandb")


@dataclass(frozen=True)
class Config:
    """One run of a workload with an optimizer."""

    workload: tyro.conf.Positional[str]
    """Which, by name; `--list` shows all."""
    optimizer: str = "agd"
    """As text: agd, nero, "adam / sgd(lr=1e-5)", "adamw(lr=3e-4)", muon, prodigy ..."""
    size: Size = "small"
    """small: half a minute on one core at most; full: the published setting, for a GPU."""
    schedule: Schedule = "constant"
    """Of the learning rate; cosine and linear warm up for 5% of the steps and decay to zero,
    the others are the Nero paper's."""
    seed: int = 0
    """Of the weights, the order of the data, and dropout."""
    steps: int | None = None
    """How many; None: the workload's budget."""
    accelerator: str = "auto"
    """Such as cpu, cuda, mps."""
    devices: int = 1
    """How many processes, one to a device; torchrun's number takes precedence."""
    precision: Precision = "32-true"
    """In which numbers to compute."""
    compile: bool = False
    """Compile the network."""
    folder: Path | None = None
    """Where the run is kept (config, metrics, checkpoint, picture)."""
    resume: bool = False
    """Go on with the run in the folder, to the numbers that it would have come to."""
    tensorboard: bool = False
    """Log to TensorBoard as well, in the folder."""
    wandb: bool = False
    """Log to Weights & Biases as well, in the folder."""

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise ConfigError(f"steps={self.steps}: a run has at least one step")
        if self.devices < 1:
            raise ConfigError(f"devices={self.devices}: a run needs at least one")

    def numbers(self) -> dict[str, Any]:
        """What decides the numbers of the run, as JSON takes it."""
        fields = dataclasses.asdict(self)
        return {name: value for name, value in fields.items() if name not in ELSEWHERE}

    def command(self) -> str:
        """The command that runs this again."""
        words = ["untuned", "train", self.workload]
        for field in dataclasses.fields(self)[1:]:
            value = getattr(self, field.name)
            if field.name in ELSEWHERE or (value == field.default and field.name != "optimizer"):
                continue
            flag = "--" + field.name.replace("_", "-")
            words += [flag] if value is True else [flag, str(value)]
        return shlex.join(words)
