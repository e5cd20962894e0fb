"""The parts of a workload: examples, loss, metric, and the learner that trains on them.

A task makes a `Learner`, which `untuned.lab.training` advances; `supervised` has the one for inputs
and targets, and a task may bring its own.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from untuned.lab.config import Config, Size
from untuned.lab.errors import ConfigError

Loss = Callable[[Any, Tensor], Tensor]  # from outputs and targets


class Batch(NamedTuple):
    """Inputs and targets of the same number of examples."""

    inputs: Tensor
    targets: Tensor


class Examples(Protocol):
    """A map-style training set."""

    def __len__(self) -> int: ...

    def take(self, chosen: Tensor) -> Batch:
        """The examples at indices (n,)."""


@dataclass(frozen=True)
class Pairs:
    """Examples of one input and one target each: tensors of equal first dimension."""

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, chosen: Tensor) -> Batch:
        return Batch(self.inputs[chosen], self.targets[chosen])


@dataclass(frozen=True)
class Windows:
    """Every window of `length` tokens of a text (n,); the targets are the next tokens."""

    tokens: Tensor
    length: int

    def __len__(self) -> int:
        return len(self.tokens) - self.length

    def take(self, chosen: Tensor) -> Batch:
        """The windows that start at indices (n,)."""
        window = self.tokens[chosen[:, None] + torch.arange(self.length + 1)]
        return Batch(window[:, :-1], window[:, 1:])


class Metric(NamedTuple):
    """A mean over examples beside the loss."""

    name: str  # with its unit
    of: Loss  # from outputs and targets to the mean over a batch
    read: Callable[[float], float] = float  # from the mean over all examples to the metric


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy.

    Args:
        logits: (..., classes).
        targets: (...).
    """
    return F.cross_entropy(logits.flatten(0, -2), targets.flatten())


def square(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean squared distance to one-hot targets scaled by sqrt(classes).

    Args:
        outputs: (n, classes).
        targets: (n,).
    """
    classes = outputs.shape[-1]
    return F.mse_loss(outputs, F.one_hot(targets, classes) * math.sqrt(classes))


def accuracy(logits: Tensor, targets: Tensor) -> Tensor:
    """Share of the targets with the largest logit.

    Args:
        logits: (..., classes).
        targets: (...).
    """
    return (logits.argmax(-1) == targets).float().mean()


ACCURACY = Metric("accuracy", accuracy)
BITS = Metric("bits per character", cross_entropy, lambda nats: nats / math.log(2))
DECIBELS = Metric(
    "peak signal-to-noise ratio, dB", F.mse_loss, lambda error: -10 * math.log10(max(error, 1e-30))
)  # of values from 0 to 1
PERPLEXITY = Metric("perplexity", cross_entropy, lambda nats: math.exp(min(nats, 700)))


class Learner:
    """A network in training. Subclasses define `advance` and `evaluate`."""

    fabric: Fabric
    model: nn.Module
    stride: int = 1  # optimizer steps of one `advance`
    pretrained: bool = False  # whether the model comes trained, and is not to be initialised

    def attach(self, optimizer: Optimizer, scheduler: LRScheduler | None) -> None:
        """Train the model with this optimizer from now on.

        Args:
            optimizer: of the parameters of `model`.
            scheduler: to step after each step of the optimizer.
        """
        self._optimizer: Any = self.fabric.setup_optimizers(optimizer)
        self._scheduler = scheduler

    def advance(self, step: int) -> Tensor:
        """Take steps `step` to `step + stride`; the mean training loss before each, detached."""
        raise NotImplementedError

    def evaluate(self) -> tuple[float, float]:
        """Loss and metric on the validation set."""
        raise NotImplementedError

    def state(self) -> dict[str, Any]:
        """The state to checkpoint: weights and buffers."""
        return {"model": self.model.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        """Restore a state."""
        self.model.load_state_dict(state["model"])

    def _descend(self, loss: Tensor, **backward: Any) -> None:
        """One step of the optimizer and its scheduler."""
        self._optimizer.zero_grad()
        self.fabric.backward(loss, **backward)
        self._optimizer.step()
        if self._scheduler:
            self._scheduler.step()


def require_plain(fabric: Fabric, config: Config) -> None:
    """Raise `ConfigError` unless a run has one process, 32 bits and no compiler.

    Args:
        fabric: of the run.
        config: of the run.
    """
    if fabric.world_size > 1 or config.compile or config.precision != "32-true":
        raise ConfigError(f"{config.workload} runs in one process, in 32 bits, not compiled")


class Task(Protocol):
    """A workload at one size."""

    @property
    def steps(self) -> int:
        """The budget, in optimizer steps."""

    @property
    def metric_name(self) -> str:
        """Name of the metric that `Learner.evaluate` returns."""

    def learner(self, fabric: Fabric, config: Config) -> Learner:
        """The network with new weights.

        Args:
            fabric: device, precision and processes.
            config: of the run; its seed decides the weights.
        """


@dataclass(frozen=True)
class Workload:
    """A network, data, a loss, a budget and a metric."""

    about: str  # a description
    at: Callable[[Size], Task]  # the task at a size
    held_out: bool = False  # for evaluation alone: choose nothing by results on it
