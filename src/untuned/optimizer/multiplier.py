"""A watch on `lr` where it multiplies steps: learning rates of other optimizers stop training.

AdamW's 0.001 makes steps a thousand times too short. A value that small may also be meant: early in
a warm-up, late in a decay, or 0. So what counts is the largest that is seen or announced.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from untuned._tensors import known_number
from untuned.errors import HorizonWarning, LearningRateWarning, warn

SMALLEST = 0.02 - 1e-6  # as the largest lr of a training; 0.02 in 32 bits is less than in 64
WARM_UP = 300  # steps until an lr that still rises ought to be larger


class MultiplierWatch:
    """Warns, once each, of an `lr` that stays tiny, and of a decay beside a horizon.

    It reads numbers, and tensors on the host, never from a device.
    """

    def __init__(self) -> None:
        self.due: bool = True  # whether there may still be something to say
        self._highest, self._last, self._count = 0.0, 0.0, 0
        self._plausible = False  # whether it was large enough at some time
        self._decays = False  # whether it fell beside a horizon

    def loaded(self) -> None:
        """Training goes on, perhaps where a schedule is about to end."""
        self._highest, self._plausible, self.due = 0.0, True, True

    def step(self, groups: Sequence[Mapping[str, Any]]) -> None:
        """Look at the rates of a step."""
        horizon = groups[0].get("horizon")
        if self._plausible and (self._decays or not horizon):
            self.due = False
            return
        now = max(_number(group["lr"]) for group in groups)
        if not now > 0:  # 0, as in the step that torch takes to allocate state; or a mistake
            return
        self._watch_decay(now, horizon)
        self._watch_size(now, max(map(_announced, groups)))
        self._highest, self._last = max(self._highest, now), now

    def _watch_decay(self, now: float, horizon: Any) -> None:
        if not horizon or self._decays or now > 0.999 * self._highest:
            return
        self._decays = True
        warn(
            f"lr falls to {now:.4g}, and horizon={horizon} shortens steps, too, so that they "
            "become too short: drop the schedule, and keep the horizon",
            HorizonWarning,
        )

    def _watch_size(self, now: float, announced: float) -> None:
        self._count += 1
        self._plausible = self._plausible or max(now, announced) >= SMALLEST
        rises = now > self._last and self._count < WARM_UP
        if self._plausible or rises:
            return
        self._plausible = True
        warn(
            f"lr={now:.3g} multiplies steps that need no learning rate, so that hardly anything "
            "is learnt: leave lr at 1.0, and give a schedule 1.0 as its largest value",
            LearningRateWarning,
        )


def _number(lr: Any) -> float:
    """The value of lr; of one on a device, which only the device knows, a plausible one."""
    value = known_number(lr)
    return 1.0 if value is None else value


def _announced(group: Mapping[str, Any]) -> float:
    """The largest lr that a scheduler of torch is known to aim at."""
    return max(_number(group.get(name, 0.0)) for name in ("initial_lr", "max_lr"))
