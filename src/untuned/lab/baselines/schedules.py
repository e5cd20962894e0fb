"""Learning-rate schedules, as factors of the initial learning rate."""

import math
from collections.abc import Callable
from typing import Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from untuned.lab.errors import ConfigError

Schedule = Literal[
    "constant", "cosine", "linear", "horizon", "epochwise", "exponential", "fifths", "halfway",
    "late",
]  # fmt: skip
EPOCH = 240  # steps of an epoch of MNIST in batches of 250, for "epochwise"
WARM_UP = {"cosine": 0.05, "linear": 0.05, "fifths": 0.025}  # share of the steps; others: none

# From the elapsed share of the decay (0 to 1) to the factor. Those below the line are the Nero
# paper's (arXiv:2102.07227), by its authors' code: MNIST, CIFAR-10, WikiText-2 and the GAN.
DECAYS: dict[str, Callable[[float], float]] = {
    "cosine": lambda elapsed: (1 + math.cos(math.pi * elapsed)) / 2,
    "linear": lambda elapsed: 1 - elapsed,
    # ---
    "exponential": lambda elapsed: 0.9 ** (50 * elapsed),
    "fifths": lambda elapsed: 0.2 ** sum(5 + 195 * elapsed >= epoch for epoch in (100, 150, 180)),
    "halfway": lambda elapsed: 1.0 if elapsed < 0.5 else 0.1,
    "late": lambda elapsed: 1.0 if elapsed < 100 / 121 else 0.1,
}


def factor(schedule: Schedule, step: int, steps: int) -> float:
    """The factor of the learning rate: linear warm-up, then decay.

    All decays but "epochwise" end with the training, however long it is.

    Args:
        schedule: its name.
        step: index of the step, from 0.
        steps: length of the training.
    """
    if schedule == "constant":
        return 1.0
    if schedule == "epochwise":
        return float(0.9 ** (step / EPOCH))
    warm = max(1, round(WARM_UP[schedule] * steps)) if schedule in WARM_UP else 0
    if step < warm:
        return (step + 1) / warm
    return DECAYS[schedule](min(1.0, (step - warm) / max(1, steps - warm)))


def scheduler(schedule: Schedule, optimizer: Optimizer, steps: int) -> LRScheduler | None:
    """A scheduler of `factor`; None for a constant rate. "horizon" is an option of the groups.

    Args:
        schedule: its name.
        optimizer: its learning rates are scheduled.
        steps: length of the training.

    Raises:
        ConfigError: "horizon", and the optimizer has no such option.
    """
    if schedule == "horizon":
        for group in optimizer.param_groups:
            if "horizon" not in group:
                raise ConfigError(f"{type(optimizer).__name__} has no option horizon")
            group["horizon"] = steps
    if schedule in ("constant", "horizon"):
        return None
    return LambdaLR(optimizer, lambda step: factor(schedule, step, steps))
