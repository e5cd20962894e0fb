"""One training run: a workload, an optimizer, the curve, time and memory."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from untuned.lab.baselines.methods import method_of
from untuned.lab.config import Config
from untuned.lab.training.fabric import fabric_of
from untuned.lab.training.footprint import hyper, peak_mb, state_bytes, versions
from untuned.lab.training.run_folder import CurvePoint, RunFolder, strict
from untuned.lab.workloads.registry import find
from untuned.lab.workloads.task import Learner, Task

POINTS = 40  # of the curve of a whole budget, beside the first and the last
FEWEST = 10  # of a shorter one
DIVERGED = 1e6  # times the first loss

OnStep = Callable[[int, int, CurvePoint], None]  # from step, budget, and the last point


@dataclass(frozen=True)
class RunResult:
    """The result of a run. Numbers that are not finite are None."""

    workload: str
    size: str
    optimizer: str
    schedule: str
    seed: int
    steps: int  # the budget
    status: Literal["done", "diverged"]
    stopped_at: int  # the last step
    curve: list[CurvePoint]  # step, train_loss (since the last), valid_loss, metric, lr, hyper
    seconds: float  # of training, without evaluation
    ms_per_step: float
    state_bytes: int  # of the optimizer
    peak_mb: float  # of the process, or on its GPU
    metric_name: str
    versions: dict[str, str]
    command: str


def run(config: Config, watch: OnStep | None = None) -> RunResult:
    """Train in this process; sets torch's global seed.

    Args:
        config: of the run; with a folder, the run is saved there.
        watch: called after each step and each evaluation.

    Raises:
        UnknownNameError, MissingDataError, RunFolderError, ConfigError: before any step.
    """
    return TrainingRun(config, watch or (lambda step, steps, point: None)).train()


def _interval(steps: int, budget: int, stride: int) -> int:
    """Steps between evaluations, a multiple of `stride`.

    A run shorter than the budget is not evaluated more often per step than a whole one, save for a
    curve of `FEWEST` points: validation sets are of a size for whole runs, and would take most of
    the time of short ones.
    """
    every = min(max(steps, budget) / POINTS, steps / FEWEST)
    return max(1, round(every / stride)) * stride


class TrainingRun:
    """A run in progress; arguments as in `run`."""

    task: Task
    learner: Learner
    optimizer: Optimizer

    def __init__(self, config: Config, watch: OnStep) -> None:
        self._config, self._watch = config, watch
        method = method_of(config.optimizer)
        self.task = find(config.workload).at(config.size)
        self._rate = method.rate
        self._fabric = fabric_of(config)
        self._fabric.launch()
        self.learner = self.task.learner(self._fabric, config)
        stride = self.learner.stride
        self._steps = math.ceil((config.steps or self.task.steps) / stride) * stride
        self._every = _interval(self._steps, self.task.steps, stride)
        self.optimizer, self._scheduler = method.build(
            self.learner.model, self._steps, config.schedule, self.learner.pretrained
        )
        self.learner.attach(self.optimizer, self._scheduler)
        self._folder = RunFolder(config, self._fabric) if config.folder else None
        self._curve: list[CurvePoint] = []
        self._step, self._seconds = 0, 0.0

    def train(self) -> RunResult:
        """Train from the last checkpoint, or from the start, to the end."""
        if self._config.resume:
            self._resume()
        if not self._curve:
            self._evaluate(None)
        while self._step < self._steps and not self._diverged():
            self.mode("train")
            self._evaluate(self._advance(min(self._step + self._every, self._steps)))
        result = self._result()
        if self._folder:
            self._folder.finish(vars(result))
        return result

    def _advance(self, end: int) -> float:
        """Take the steps up to `end`; their mean training loss."""
        began = time.perf_counter()
        losses: list[Tensor] = []
        while self._step < end:
            losses.append(self.learner.advance(self._step))
            self._step += self.learner.stride
            self._watch(self._step, self._steps, self._curve[-1])
        mean: Any = self._fabric.all_reduce(torch.stack(losses).double().mean(), reduce_op="mean")
        train_loss = float(mean)  # waits for the device
        self._seconds += time.perf_counter() - began
        return train_loss

    def _evaluate(self, train_loss: float | None) -> None:
        """Add a point to the curve, and write a checkpoint."""
        self.mode("eval")
        valid_loss, metric = self.learner.evaluate()
        point = strict({
            "step": self._step, "train_loss": train_loss, "valid_loss": valid_loss,
            "metric": metric, "lr": self._rate(self.optimizer.param_groups[0]),
            "hyper": hyper(self.optimizer),
        })  # fmt: skip
        self._curve.append(point)
        self._watch(self._step, self._steps, point)
        if self._folder:
            self._folder.append(point)
            self._folder.save(self._state())
            numbers = {name: value for name, value in point.items() if isinstance(value, float)}
            self._fabric.log_dict({**numbers, **point["hyper"]}, self._step)

    def mode(self, mode: Literal["train", "eval"]) -> None:
        """Switch an optimizer that averages weights; checkpoints are of mode "eval"."""
        getattr(self.optimizer, mode, lambda: None)()

    def _state(self) -> dict[str, Any]:
        return {
            "step": self._step, "seconds": self._seconds, "learner": self.learner.state(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self._scheduler.state_dict() if self._scheduler else None,
        }  # fmt: skip

    def _resume(self) -> None:
        assert self._folder is not None
        state, self._curve = self._folder.load()
        if state is None:
            return
        self._step, self._seconds = state["step"], state["seconds"]
        self.learner.load(state["learner"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self._scheduler:
            self._scheduler.load_state_dict(state["scheduler"])

    def _diverged(self) -> bool:
        """Whether the last loss is not finite, or far above the first."""
        bound = DIVERGED * (1 + abs(self._curve[0]["valid_loss"] or 0.0))
        losses = [self._curve[-1][name] for name in ("train_loss", "valid_loss")]
        if self._step == 0:
            losses = losses[1:]  # no training loss yet
        return any(loss is None or loss > bound for loss in losses)

    def _result(self) -> RunResult:
        c = self._config
        return RunResult(
            c.workload, c.size, c.optimizer, c.schedule, c.seed, self._steps,
            status="diverged" if self._diverged() else "done",
            stopped_at=self._step, curve=self._curve, seconds=self._seconds,
            ms_per_step=1e3 * self._seconds / max(self._step, 1),
            state_bytes=state_bytes(self.optimizer), peak_mb=peak_mb(self._fabric.device),
            metric_name=self.task.metric_name,
            versions=versions(), command=c.command(),
        )  # fmt: skip
