"""The horizon of `Auto`: what is said when a number of steps is no horizon, or has passed."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from untuned._tensors import known_number
from untuned.errors import DomainError, HorizonWarning, warn
from untuned.rules.auto import STEP


def check_multiplier(lr: Tensor | float) -> None:
    """Raise `DomainError` for an lr whose steps are longer than the unit: a horizon was meant."""
    value = known_number(lr)
    if value is not None and value * STEP > 1:
        raise DomainError(
            f"lr={value:g} multiplies every step, and 1.0 is the default; if it is the total "
            f"number of steps, write horizon={value:g}"
        )


def keep_stated(groups: Sequence[dict[str, Any]], stated: Sequence[Any]) -> None:
    """Give groups that have loaded a state the horizons again that they were built with.

    Args:
        groups: the parameter groups; they change in place.
        stated: the horizon of each before it loaded; 0: none, so that the loaded one stays.
    """
    loaded = [group["horizon"] for group in groups]
    differ = [i for i, own in enumerate(stated) if own and float(own) != float(loaded[i])]
    for i in differ:
        groups[i]["horizon"] = stated[i]
    if differ:
        old, new = float(loaded[differ[0]]), float(stated[differ[0]])
        warn(
            f"the loaded state is of a training with {f'horizon={old:g}' if old else 'no horizon'},"
            f" this optimizer was built with horizon={new:g}: it goes on with {new:g}, counted "
            "from the first step of the loaded training",
            HorizonWarning,
        )


class HorizonWatch:
    """Warns once when steps pass the horizon."""

    def __init__(self) -> None:
        self._passed = False

    def step(self, steps: int, horizon: Any) -> None:
        """Look at the number of steps so far, counted on the host."""
        total = known_number(horizon)
        if self._passed or not total or steps <= total:
            return
        self._passed = True
        warn(
            f"step {steps} is past horizon={total:g}: steps stay as short as the last one was. "
            "State the new total, untuned.Auto(model, horizon=...), also where a run is resumed",
            HorizonWarning,
        )
