"""Schedules of the learning rate: factors of what an optimizer starts from."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from untuned.lab.errors import ConfigError

Schedule = Literal[
    "constant", "cosine", "linear", "horizon", "exponential", "fifths", "halfway", "late"
]
WARM_UP = {"cosine": 0.05, "linear": 0.05, "fifths": 0.025}  # of the steps; others: none

# From the part of the decay that is over (0 to 1) to the factor. Those below the line are the Nero
# paper's (arXiv:2102.07227), by its authors' code: MNIST, CIFAR-10, WikiText-2 and the GAN.
DECAYS: dict[str, Callable[[float], float]] = {
    "cosine": lambda over: (1 + math.cos(math.pi * over)) / 2,
    "linear": lambda over: 1 - over,
    # ---
    "exponential": lambda over: 0.9 ** (50 * over),
    "fifths": lambda over: 0.2 ** sum(over >= part for part in (0.3, 0.6, 0.8)),
    "halfway": lambda over: 1.0 if over < 0.5 else 0.1,
    "late": lambda over: 1.0 if over < 100 / 121 else 0.1,
}


def factor(schedule: Schedule, step: int, steps: int) -> float:
    """Of the learning rate of step `step`, from 0: up during the warm-up, then down to zero."""
    if schedule == "constant":
        return 1.0
    warm = max(1, round(WARM_UP[schedule] * steps)) if schedule in WARM_UP else 0
    if step < warm:
        return (step + 1) / warm
    return DECAYS[schedule](min(1.0, (step - warm) / max(1, steps - warm)))


def scheduler(schedule: Schedule, optimizer: Optimizer, steps: int) -> LRScheduler | None:
    """A scheduler for `steps` steps; none where the learning rate stays, or the rule is told."""
    if schedule == "horizon":
        for group in optimizer.param_groups:
            if "horizon" not in group:
                raise ConfigError(f"{type(optimizer).__name__} cannot be told a horizon")
            group["horizon"] = steps
    if schedule in ("constant", "horizon"):
        return None
    return LambdaLR(optimizer, lambda step: factor(schedule, step, steps))
