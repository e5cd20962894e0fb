"""Learning from inputs and targets, by gradients of a loss.

The examples and the noise of a step are functions of the seed and the step alone: equal for every
optimizer, and equal after a resume.
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
from untuned.lab.workloads.task import Batch, Examples, Learner, Loss, Metric, cross_entropy

EVALUATED = 500  # batch size of the evaluation
NORM_BATCHES = 10  # training batches for new batch-norm statistics


def entropy(*numbers: int) -> int:
    """A seed derived from several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


@functools.lru_cache(maxsize=2)
def _order(size: int, seed: int, epoch: int) -> Tensor:
    """The order of the examples in an epoch."""
    return torch.randperm(size, generator=torch.Generator().manual_seed(entropy(seed, epoch)))


def chosen(size: int, batch: int, seed: int, step: int) -> Tensor:
    """Indices (batch,) of the examples of a step; each epoch drops its last partial batch.

    Args:
        size: number of examples.
        batch: batch size.
        seed: of the order.
        step: from 0.
    """
    epoch, place = divmod(step, max(size // batch, 1))
    return _order(size, seed, epoch)[place * batch : (place + 1) * batch]


def share(indices: Tensor, rank: int, processes: int) -> Tensor:
    """A rank's share of the indices of a step.

    Args:
        indices: (n,).
        rank: of this process.
        processes: world size.
    """
    return indices[rank::processes]


@dataclass(frozen=True)
class Supervised:
    """A task with inputs and targets."""

    model: Callable[[], nn.Module]  # makes the network
    train: Examples  # training set
    valid: Examples  # validation set
    batch: int  # global batch size
    steps: int  # budget
    metric: Metric  # beside the loss
    loss: Loss = cross_entropy  # from outputs and targets
    augment: Callable[[Tensor], Tensor] | None = None  # of the inputs, on their device
    pretrained: bool = False  # whether the network comes trained

    @property
    def metric_name(self) -> str:
        return self.metric.name

    def learner(self, fabric: Fabric, config: Config) -> SupervisedLearner:
        return SupervisedLearner(self, fabric, config)


class SupervisedLearner(Learner):
    """A network that learns from batches; arguments as in `Task.learner`."""

    def __init__(self, task: Supervised, fabric: Fabric, config: Config) -> None:
        if task.batch % fabric.world_size:
            raise ConfigError(
                f"batches of {task.batch} cannot be shared by {fabric.world_size} processes"
            )
        self.task: Supervised = task
        self.fabric: Fabric = fabric
        self.pretrained: bool = task.pretrained
        self._seed = config.seed
        torch.manual_seed(config.seed)
        # before optimizers take its parameters
        self.model: nn.Module = fabric.to_device(task.model())
        self._compile = config.compile

    def attach(self, optimizer: Optimizer, scheduler: LRScheduler | None) -> None:
        module: Any = torch.compile(self.model) if self._compile else self.model
        self._net, self._optimizer = self.fabric.setup(module, optimizer)
        self._scheduler = scheduler
        # It is evaluated at other weights than it trains, for which norms have no statistics
        self._renews_statistics = hasattr(optimizer, "eval") and any(
            isinstance(part, _NormBase) and part.training for part in self.model.modules()
        )

    def _batch(self, step: int) -> Batch:
        """This rank's share of a step's examples, on the device."""
        indices = chosen(len(self.task.train), self.task.batch, self._seed, step)
        ours = share(indices, self.fabric.global_rank, self.fabric.world_size)
        batch: Batch = self.fabric.to_device(self.task.train.take(ours))
        return batch

    def advance(self, step: int) -> Tensor:
        torch.manual_seed(entropy(self._seed, step, self.fabric.global_rank))
        inputs, targets = self._batch(step)
        if self.task.augment:
            inputs = self.task.augment(inputs)
        loss = self._loss(inputs, targets)
        self._descend(loss)
        return loss.detach()

    def _loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """The training loss of a batch."""
        return self.task.loss(self._net(inputs), targets)

    @torch.no_grad()
    def evaluate(self) -> tuple[float, float]:
        """As in `Learner`; every rank evaluates the whole validation set."""
        task, size = self.task, len(self.task.valid)
        loss = score = 0.0
        with self._statistics():
            torch.manual_seed(self._seed)  # the same noise, whether statistics are renewed or not
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
        """Batch-norm statistics estimated for the present weights; the old ones afterwards."""
        if not self._renews_statistics:
            yield
            return
        torch.manual_seed(self._seed)
        saved = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        update_bn((self._batch(step).inputs for step in range(NORM_BATCHES)), self._net)
        yield
        for name, buffer in self.model.named_buffers():
            buffer.copy_(saved[name])
