"""The configuration of one training run: all options that decide its numbers, and its folder."""

import dataclasses
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from untuned.lab.baselines.schedules import Schedule
from untuned.lab.errors import ConfigError

Size = Literal["small", "full"]
Precision = Literal["32-true", "64-true", "bf16-mixed", "bf16-true", "16-mixed"]

# Options that may differ between a run and its resumption
ELSEWHERE = ("folder", "resume", "tensorboard", "wandb")
CONFIG = "config.json"  # makes a folder that of a run


def has_run(folder: Path | None) -> bool:
    """Whether a folder is that of a run, with which `resume` goes on."""
    return folder is not None and (folder / CONFIG).exists()


@dataclass(frozen=True)
class Config:
    """One run of a workload with an optimizer."""

    workload: tyro.conf.Positional[str]  # By name (`--list` shows all), or mymodule:workload
    # As text: auto, agd, "adam / sgd(lr=1e-5)", "adamw(lr=3e-4)", muon, mymodule:factory ...
    optimizer: str = "auto"
    # small: at most half a minute on one core; full: the published setting, for a GPU
    size: Size = "small"
    schedule: Schedule = "constant"
    """Of the learning rate; cosine and linear warm up for 5% of the steps and decay to zero,
    the others are the Nero paper's."""
    seed: int = 0  # Of the weights, the order of the data, and dropout
    steps: int | None = None  # Number of optimizer steps; None: the workload's budget
    accelerator: str = "auto"  # Such as cpu, cuda, mps
    devices: int = 1  # Number of processes, one per device; torchrun's number takes precedence
    precision: Precision = "32-true"  # Compute precision, as in Lightning Fabric
    compile: bool = False  # Compile the network
    folder: Path | None = None  # Folder of the run: config, metrics, checkpoint, picture
    # Resume the run in the folder; the numbers are those of an uninterrupted run
    resume: bool = False
    tensorboard: bool = False  # Also log to TensorBoard, in the folder
    wandb: bool = False  # Also log to Weights & Biases, in the folder

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise ConfigError(f"steps={self.steps}: a run has at least one step")
        if self.devices < 1:
            raise ConfigError(f"devices={self.devices}: a run needs at least one")

    def numbers(self) -> dict[str, Any]:
        """The options that decide the numbers of the run, as JSON values."""
        fields = dataclasses.asdict(self)
        return {name: value for name, value in fields.items() if name not in ELSEWHERE}

    def command(self) -> str:
        """The command that repeats this run."""
        words = ["untuned", "train", self.workload]
        for field in dataclasses.fields(self)[1:]:
            value = getattr(self, field.name)
            if field.name in ELSEWHERE or (value == field.default and field.name != "optimizer"):
                continue
            flag = "--" + field.name.replace("_", "-")
            words += [flag] if value is True else [flag, str(value)]
        return shlex.join(words)
