"""Schedules of the learning rate: factors of what an optimizer starts from."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

Schedule = Literal["constant", "cosine", "linear"]
WARM_UP = 0.05  # of the steps

# From the part of the decay that is over (0 to 1) to the factor
DECAYS: dict[str, Callable[[float], float]] = {
    "cosine": lambda over: (1 + math.cos(math.pi * over)) / 2,
    "linear": lambda over: 1 - over,
}


def factor(schedule: Schedule, step: int, steps: int) -> float:
    """Of the learning rate of step `step`, from 0: up during the warm-up, then down to zero."""
    if schedule == "constant":
        return 1.0
    warm = max(1, round(WARM_UP * steps))
    if step < warm:
        return (step + 1) / warm
    return DECAYS[schedule]((step - warm) / max(1, steps - warm)) if step < steps else 0.0


def scheduler(schedule: Schedule, optimizer: Optimizer, steps: int) -> LRScheduler | None:
    """A scheduler for `steps` steps; none where the learning rate stays."""
    if schedule == "constant":
        return None
    return LambdaLR(optimizer, lambda step: factor(schedule, step, steps))
