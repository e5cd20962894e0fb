"""A training loop of the user's own: a generator takes the steps, the lab counts and validates.

All of torch's, numpy's and Python's random numbers follow from the seed of the run and the step, so
that optimizers have the same ones.
"""

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from untuned.lab.config import Config
from untuned.lab.errors import ConfigError
from untuned.lab.workloads.supervised import entropy
from untuned.lab.workloads.task import Learner, require_plain


@dataclass(frozen=True)
class TrainingLoop:
    """A task that is a loop. The lab leaves the network on the device where `model` puts it.

    Args:
        model: makes the network.
        train: from the network and its optimizer to an iterator that yields the training loss, a
            scalar, once after each `optimizer.step()`. Where it ends, the lab starts it again: it
            may be one epoch, or endless.
        validate: from the network to its validation loss; called in evaluation mode, without
            gradients.
        steps: of the optimizer, the budget.
        pretrained: whether the network comes trained, and is not to be initialised.
    """

    model: Callable[[], nn.Module]
    train: Callable[[nn.Module, Optimizer], Iterable[Tensor | float]]
    validate: Callable[[nn.Module], Tensor | float]
    steps: int
    pretrained: bool = False
    metric_name: str = "validation loss"

    def learner(self, fabric: Fabric, config: Config) -> Learner:
        require_plain(fabric, config)
        if config.resume:
            raise ConfigError(
                f"{config.workload} cannot be resumed, for the lab does not see where its loop is: "
                "train it again, in another --folder"
            )
        return _LoopLearner(self, fabric, config)


class _LoopLearner(Learner):
    """A loop that waits after each step; arguments as in `Task.learner`."""

    def __init__(self, task: TrainingLoop, fabric: Fabric, config: Config) -> None:
        self.task, self.fabric, self._seed = task, fabric, config.seed
        self.pretrained = task.pretrained
        _seed_all(config.seed)
        self.model = task.model()
        self._taken = 0  # steps of the optimizer

    def attach(self, optimizer: Optimizer, scheduler: LRScheduler | None) -> None:
        self._scheduler = scheduler
        optimizer.register_step_post_hook(self._count)
        self._losses = self._passes(optimizer)

    def _count(self, *_: object) -> None:
        self._taken += 1

    def _passes(self, optimizer: Optimizer) -> Iterator[Tensor | float]:
        """One pass of the loop after another."""
        while True:
            losses = self.task.train(self.model, optimizer)
            if not isinstance(losses, Iterable):
                raise _misuse(f"returns {type(losses).__name__}")
            yielded = False
            for loss in losses:
                yielded = True
                yield loss
            if not yielded:
                raise _misuse("yields nothing")

    def advance(self, step: int) -> Tensor:
        _seed_all(entropy(self._seed, step))
        loss = next(self._losses)
        if self._taken != step + 1:
            raise _misuse(f"takes {self._taken - step} steps before it yields")
        if not isinstance(loss, Tensor | float):
            raise _misuse(f"yields {type(loss).__name__}")
        if self._scheduler:
            self._scheduler.step()
        return torch.as_tensor(loss).detach()

    @torch.no_grad()
    def evaluate(self) -> tuple[float, float]:
        """As in `Learner`; the metric is the loss."""
        _seed_all(self._seed)
        self.model.eval()
        loss = float(self.task.validate(self.model))
        self.model.train()
        return loss, loss


def _seed_all(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002  # loops may draw from it
    random.seed(seed)


def _misuse(what: str) -> ConfigError:
    return ConfigError(
        f"train {what}: let it yield the loss once after each optimizer.step(), as a number"
    )
