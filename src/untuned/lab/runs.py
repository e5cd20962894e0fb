"""One run: a workload trained with an optimizer, its curve, and what it cost."""

from __future__ import annotations

import dataclasses
import math
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from lightning.fabric import Fabric
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

import untuned
from untuned.lab.config import Config
from untuned.lab.folder import Point, RunFolder, plain
from untuned.lab.footprint import hyper, peak_mb, state_bytes
from untuned.lab.logs import loggers
from untuned.lab.methods import Group, parse
from untuned.lab.task import Learner, Task
from untuned.lab.workloads import find

POINTS = 40  # of a curve, beside the first and the last
HUGE = 1e6  # a loss above this many times the first has diverged

Watch = Callable[[int, int, Point], None]  # sees the step, of how many, and the last point


@dataclass(frozen=True)
class Result:
    """What came of a run. A number that is not finite is None."""

    workload: str
    size: str
    optimizer: str
    schedule: str
    seed: int
    steps: int  # the budget
    status: Literal["done", "diverged"]
    stopped_at: int  # the last step
    curve: list[Point]  # step, train_loss (since the last point), valid_loss, metric, lr, hyper
    seconds: float  # of training, without evaluation
    ms_per_step: float
    state_bytes: int  # of the optimizer
    peak_mb: float  # of the process, or on its GPU
    metric_name: str
    versions: dict[str, str]
    command: str

    def json(self) -> dict[str, Any]:
        """As JSON takes it."""
        return dataclasses.asdict(self)


def run(config: Config, watch: Watch | None = None) -> Result:
    """Train in this process; what the run's folder holds is there too, if it has one.

    Sets torch's global seed.

    Raises:
        UnknownNameError, MissingDataError, RunFolderError, ConfigError: before any step.
    """
    return Run(config, watch or (lambda step, steps, point: None)).train()


def fabric_of(config: Config) -> Fabric:
    """Device, precision and processes."""
    local = int(os.environ.get("LOCAL_WORLD_SIZE", config.devices))  # what torchrun has started
    nodes = int(os.environ.get("WORLD_SIZE", local)) // local
    return Fabric(
        accelerator=config.accelerator,
        devices=local,
        num_nodes=nodes,
        strategy="ddp" if local * nodes > 1 else "auto",
        precision=config.precision,
        loggers=loggers(config),
    )


class Run:
    """A run under way."""

    config: Config
    watch: Watch
    task: Task
    rate: Callable[[Group], float]
    fabric: Fabric
    learner: Learner
    steps: int
    every: int
    optimizer: Optimizer
    scheduler: LRScheduler | None
    folder: RunFolder | None
    step: int
    seconds: float

    def __init__(self, config: Config, watch: Watch) -> None:
        self.config, self.watch = config, watch
        method = parse(config.optimizer)
        self.task = find(config.workload).at(config.size)
        self.rate = method.rate
        self.fabric = fabric_of(config)
        self.fabric.launch()
        self.learner = self.task.learner(self.fabric, config)
        stride = self.learner.stride
        self.steps = math.ceil((config.steps or self.task.steps) / stride) * stride
        self.every = max(1, round(self.steps / POINTS / stride)) * stride
        self.optimizer, self.scheduler = method.build(
            self.learner.model, self.steps, config.schedule
        )
        self.learner.attach(self.optimizer, self.scheduler)
        self.folder = RunFolder(config, self.fabric) if config.folder else None
        self.curve: list[Point] = []
        self.step, self.seconds = 0, 0.0

    def train(self) -> Result:
        """From the last checkpoint, or the start, to the end."""
        if self.config.resume:
            self._resume()
        if not self.curve:
            self._look(None)
        while self.step < self.steps and not self._diverged():
            self._mode("train")
            self._look(self._advance(min(self.step + self.every, self.steps)))
        result = self._result()
        if self.folder:
            self.folder.finish(result.json())
        return result

    def _advance(self, end: int) -> float:
        """Take the steps up to `end`; their mean training loss."""
        began = time.perf_counter()
        losses: list[Tensor] = []
        while self.step < end:
            losses.append(self.learner.advance(self.step))
            self.step += self.learner.stride
            self.watch(self.step, self.steps, self.curve[-1])
        mean: Any = self.fabric.all_reduce(torch.stack(losses).double().mean(), reduce_op="mean")
        train_loss = float(mean)  # waits for the device
        self.seconds += time.perf_counter() - began
        return train_loss

    def _look(self, train_loss: float | None) -> None:
        """Add a point to the curve, and a checkpoint."""
        self._mode("eval")
        valid_loss, metric = self.learner.evaluate()
        point = plain(
            {
                "step": self.step,
                "train_loss": train_loss,
                "valid_loss": valid_loss,
                "metric": metric,
                "lr": self.rate(self.optimizer.param_groups[0]),
                "hyper": hyper(self.optimizer),
            }
        )
        self.curve.append(point)
        self.watch(self.step, self.steps, point)
        if self.folder:
            self.folder.append(point)
            self.folder.save(self._state())
            numbers = {name: value for name, value in point.items() if isinstance(value, float)}
            self.fabric.log_dict({**numbers, **point["hyper"]}, self.step)

    def _mode(self, mode: Literal["train", "eval"]) -> None:
        """Tell an optimizer that averages where it is to be: its state is saved as for `eval`."""
        getattr(self.optimizer, mode, lambda: None)()

    def _state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "seconds": self.seconds,
            "learner": self.learner.state(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict() if self.scheduler else None,
        }

    def _resume(self) -> None:
        assert self.folder is not None
        state, self.curve = self.folder.load()
        if state is None:
            return
        self.step, self.seconds = state["step"], state["seconds"]
        self.learner.load(state["learner"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler:
            self.scheduler.load_state_dict(state["scheduler"])

    def _diverged(self) -> bool:
        """Whether the loss is not finite any more, or far beyond where it began."""
        bound = HUGE * (1 + abs(self.curve[0]["valid_loss"] or 0.0))
        losses = [self.curve[-1][name] for name in ("train_loss", "valid_loss")]
        if self.step == 0:
            losses = losses[1:]  # there is no training loss yet
        return any(loss is None or loss > bound for loss in losses)

    def _result(self) -> Result:
        c = self.config
        return Result(
            c.workload, c.size, c.optimizer, c.schedule, c.seed, self.steps,
            status="diverged" if self._diverged() else "done",
            stopped_at=self.step,
            curve=self.curve,
            seconds=self.seconds,
            ms_per_step=1e3 * self.seconds / max(self.step, 1),
            state_bytes=state_bytes(self.optimizer),
            peak_mb=peak_mb(self.fabric.device),
            metric_name=self.task.metric_name,
            versions={
                "torch": torch.__version__,
                "untuned": untuned.__version__,
                "python": platform.python_version(),
            },
            command=c.command(),
        )  # fmt: skip
