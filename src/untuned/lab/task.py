"""What a workload is made of: examples to learn from, and a network with its loss.

A task makes a `Learner`, which the trainer moves forward; `untuned.lab.supervised` has the one for
everything that has inputs and targets, and a task may bring its own.
"""

from __future__ import annotations

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

Loss = Callable[[Any, Tensor], Tensor]  # of what a network makes, and of what it should make


class Batch(NamedTuple):
    """Inputs to a network and what should come out, first dimensions equal."""

    inputs: Tensor
    targets: Tensor


class Examples(Protocol):
    """What can be learned from."""

    def __len__(self) -> int: ...

    def take(self, chosen: Tensor) -> Batch:
        """Those at some indices (n,)."""


@dataclass(frozen=True)
class Pairs:
    """Inputs and targets, one of each to an example."""

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, chosen: Tensor) -> Batch:
        """Those at some indices (n,)."""
        return Batch(self.inputs[chosen], self.targets[chosen])


@dataclass(frozen=True)
class Windows:
    """Every window of a text: tokens (length,) to go by, and the one after each to predict."""

    tokens: Tensor
    length: int

    def __len__(self) -> int:
        return len(self.tokens) - self.length

    def take(self, chosen: Tensor) -> Batch:
        """Those that start at some places (n,)."""
        window = self.tokens[chosen[:, None] + torch.arange(self.length + 1)]
        return Batch(window[:, :-1], window[:, 1:])


class Metric(NamedTuple):
    """A mean over examples, and how it is read; whether more is better."""

    name: str
    of: Callable[[Any, Tensor], Tensor]
    read: Callable[[float], float] = float


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean over all targets (...), from logits (..., classes)."""
    return F.cross_entropy(logits.flatten(0, -2), targets.flatten())


def square(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean square distance of outputs (n, classes) to sqrt(classes) at the target, else zero."""
    classes = outputs.shape[-1]
    return F.mse_loss(outputs, F.one_hot(targets, classes) * math.sqrt(classes))


def accuracy(logits: Tensor, targets: Tensor) -> Tensor:
    """The part of the targets (...) that logits (..., classes) put first."""
    return (logits.argmax(-1) == targets).float().mean()


ACCURACY = Metric("accuracy", accuracy)
BITS = Metric("bits per character", cross_entropy, lambda nats: nats / math.log(2))
PERPLEXITY = Metric("perplexity", cross_entropy, lambda nats: math.exp(min(nats, 700)))


class Learner(Protocol):
    """A network in training."""

    model: nn.Module
    stride: int  # how many steps of the optimizer it takes at a time

    def attach(self, optimizer: Optimizer, scheduler: LRScheduler | None) -> None:
        """Have this optimizer train the model from now on."""

    def advance(self, step: int) -> Tensor:
        """Take steps `step` to `step + stride`; the mean training loss before each, detached."""

    def evaluate(self) -> tuple[float, float]:
        """Loss and metric on the validation data."""

    def state(self) -> dict[str, Any]:
        """What to go on from: the network, and whatever else this learner has."""

    def load(self, state: dict[str, Any]) -> None:
        """Go on from there."""


class Task(Protocol):
    """A workload at one size."""

    @property
    def steps(self) -> int:
        """The budget, in steps of the optimizer."""

    @property
    def metric_name(self) -> str:
        """What `Learner.evaluate` measures beside the loss."""

    def learner(self, fabric: Fabric, config: Config) -> Learner:
        """The network with new weights, by the configuration's seed."""


@dataclass(frozen=True)
class Workload:
    """A network, data, a loss, a budget and a metric, in two sizes."""

    about: str
    at: Callable[[Size], Task]
