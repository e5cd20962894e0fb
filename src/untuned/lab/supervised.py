"""Learning from inputs and targets, by gradients of a loss.

Which examples a step sees, and what noise it draws, are functions of the seed and the step alone:
the same for every optimizer, and the same after a resumption.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import update_bn

from untuned.lab.config import Config
from untuned.lab.errors import ConfigError
from untuned.lab.task import Batch, Examples, Loss, Metric, cross_entropy

EVALUATED = 500  # examples at a time
NORM_BATCHES = 10  # from which statistics of norms are estimated anew


def entropy(*numbers: int) -> int:
    """A seed made of several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


@functools.lru_cache(maxsize=2)
def _order(size: int, seed: int, epoch: int) -> Tensor:
    """The order of the examples in an epoch."""
    return torch.randperm(size, generator=torch.Generator().manual_seed(entropy(seed, epoch)))


def chosen(size: int, batch: int, seed: int, step: int) -> Tensor:
    """The indices (batch,) of the examples of a step; what an epoch leaves over is left out."""
    epoch, place = divmod(step, max(size // batch, 1))
    return _order(size, seed, epoch)[place * batch : (place + 1) * batch]


def share(indices: Tensor, rank: int, processes: int) -> Tensor:
    """Those of a step's examples that are this process's."""
    return indices[rank::processes]


@dataclass(frozen=True)
class Supervised:
    """A task with inputs and targets."""

    model: Callable[[], nn.Module]
    train: Examples
    valid: Examples
    batch: int
    steps: int
    metric: Metric
    loss: Loss = cross_entropy
    augment: Callable[[Tensor], Tensor] | None = None  # of the inputs, on their device

    @property
    def metric_name(self) -> str:
        """What is measured beside the loss."""
        return self.metric.name

    def learner(self, fabric: Fabric, config: Config) -> SupervisedLearner:
        """The network with new weights, by the configuration's seed."""
        return SupervisedLearner(self, fabric, config)


class SupervisedLearner:
    """A network that learns from batches."""

    task: Supervised
    fabric: Fabric
    seed: int

    stride = 1

    def __init__(self, task: Supervised, fabric: Fabric, config: Config) -> None:
        if task.batch % fabric.world_size:
            raise ConfigError(
                f"batches of {task.batch} cannot be shared by {fabric.world_size} processes"
            )
        self.task, self.fabric, self.seed = task, fabric, config.seed
        torch.manual_seed(config.seed)
        self.model: nn.Module = fabric.to_device(task.model())  # where optimizers find it
        self._compile = config.compile
        self._scheduler: LRScheduler | None = None

    def attach(self, optimizer: Optimizer, scheduler: LRScheduler | None) -> None:
        """Have this optimizer train the model from now on."""
        module: Any = torch.compile(self.model) if self._compile else self.model
        self._net, self._optimizer = self.fabric.setup(module, optimizer)
        self._scheduler = scheduler
        # evaluated where it does not train, so that norms have seen other weights
        self._estimates_anew = hasattr(optimizer, "eval") and any(
            isinstance(part, _NormBase) for part in self.model.modules()
        )

    def _batch(self, step: int) -> Batch:
        """This process's share of a step's examples, on the device."""
        indices = chosen(len(self.task.train), self.task.batch, self.seed, step)
        ours = share(indices, self.fabric.global_rank, self.fabric.world_size)
        batch: Batch = self.fabric.to_device(self.task.train.take(ours))
        return batch

    def advance(self, step: int) -> Tensor:
        """Take a step; the training loss before it, detached."""
        torch.manual_seed(entropy(self.seed, step, self.fabric.global_rank))
        inputs, targets = self._batch(step)
        if self.task.augment:
            inputs = self.task.augment(inputs)
        loss = self.task.loss(self._net(inputs), targets)
        self._optimizer.zero_grad()
        self.fabric.backward(loss)
        self._optimizer.step()
        if self._scheduler:
            self._scheduler.step()
        return loss.detach()

    @torch.no_grad()
    def evaluate(self) -> tuple[float, float]:
        """Loss and metric on the validation data, every process on all of it."""
        torch.manual_seed(self.seed)
        task, size = self.task, len(self.task.valid)
        loss = score = 0.0
        with self._statistics():
            self._net.eval()
            for part in torch.arange(size).split(EVALUATED):
                inputs, targets = self.fabric.to_device(task.valid.take(part))
                outputs = self._net(inputs)
                portion = len(part) / size
                loss += portion * task.loss(outputs, targets).item()
                score += portion * task.metric.of(outputs, targets).item()
        self._net.train()
        return loss, task.metric.read(score)

    @contextmanager
    def _statistics(self) -> Iterator[None]:
        """Estimate the statistics of norms for the present weights, then put the old ones back."""
        if not self._estimates_anew:
            yield
            return
        kept = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        update_bn((self._batch(step).inputs for step in range(NORM_BATCHES)), self._net)
        yield
        for name, buffer in self.model.named_buffers():
            buffer.copy_(kept[name])

    def state(self) -> dict[str, Any]:
        """The weights and buffers."""
        return {"model": self.model.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        """Take them."""
        self.model.load_state_dict(state["model"])
