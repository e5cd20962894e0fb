"""What a logger may want to know of an optimizer, as plain numbers."""

from collections.abc import Iterator

import torch

from untuned.errors import ParameterTypeError
from untuned.optimizer.report import clock_of, network_numbers, parameters_of
from untuned.optimizer.shell import Optimizer
from untuned.rules.auto import Auto
from untuned.rules.degree import degree


@torch.no_grad()
def metrics(opt: object) -> dict[str, float]:
    """Numbers to log, by name: `wandb.log(untuned.metrics(opt))`.

    Nothing is read from the device but here: call it as often as you log, not in every step.

    Args:
        opt: an optimizer of this library, or what Accelerate or Lightning have made of it.

    Returns:
        `lr`, of the first group; `effective_lr`, the largest of the groups'; `skipped_steps`. Of
        `Auto` also `steps`, how many were taken; `degree`, how the function grows with its weights;
        `reversals`, how many steps were turned back, in the mean over blocks; `believed`, the share
        of a step that is taken at first. Of a tower each tuned hyperparameter, such as `floor0/lr`,
        and `group1/floor0/lr` where there are several groups.

    Raises:
        ParameterTypeError: another optimizer.
    """
    opt = getattr(opt, "optimizer", opt)
    if not isinstance(opt, Optimizer):
        raise ParameterTypeError(f"opt is a {type(opt).__name__}: give an optimizer of untuned")
    found = {
        "lr": float(opt.param_groups[0]["lr"]),
        "effective_lr": max(float(group["effective_lr"]) for group in opt.param_groups),
        "skipped_steps": float(opt.skipped_steps),
    }
    if isinstance(opt.tower.floors[0].rule, Auto):
        product, square, steps, believed = network_numbers(
            opt, "product", "square", "steps", "believed"
        )
        found |= {"steps": float(steps), "degree": float(degree(product, square))}
        found |= {"reversals": clock_of(list(parameters_of(opt))), "believed": float(believed)}
    return found | dict(_tuned(opt))


def _tuned(opt: Optimizer) -> Iterator[tuple[str, float]]:
    """The hyperparameters of a tower's floors."""
    if len(opt.tower.floors) == 1:
        return
    groups = opt.hyperparameters()
    for number, floors in enumerate(groups):
        start = f"group{number}/" if len(groups) > 1 else ""
        for level, floor in enumerate(floors):
            for name, value in floor.items():
                yield f"{start}floor{level}/{name}", value
