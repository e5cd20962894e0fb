"""Steps skipped for gradients that are not finite, counted without device synchronisation."""

import math
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from untuned._tensors import peek, readable
from untuned.errors import NonFiniteGradientWarning


class NonFiniteGuard:
    """Skips steps whose gradients are not finite.

    Counters live on the gradients' device. Until the first warning, the index of the first
    non-finite measure is also copied to pinned host memory asynchronously; the warning is raised in
    a later step, once the copy has arrived.
    """

    warned: bool

    def __init__(self) -> None:
        self.warned = False
        self._skipped = torch.zeros((), dtype=torch.int64, device="cpu")
        self._offender = torch.full((), -1, device="cpu")  # the first measure at fault, or -1
        self._arrived: Tensor | None = None  # its copy on the host

    @property
    def skipped(self) -> int:
        """How many steps were skipped. Synchronises with the device."""
        return int(self._skipped)

    def watch(self, sizes: Tensor, eta: Tensor | float) -> bool | Tensor:
        """Whether all gradients are finite: a bool where the host may read it, else 0-d.

        Args:
            sizes: the measures of all groups, (blocks,).
            eta: how far to go, which follows from them.
        """
        finite = torch.isfinite(sizes.sum() * eta)
        host = readable(finite)
        if host and peek(finite):
            return True
        self._count(sizes, finite)
        return False if host else finite

    def _count(self, sizes: Tensor, finite: Tensor) -> None:
        """Count the step if it is skipped, and note the first measure at fault."""
        if self._skipped.device != sizes.device:  # the first such step only
            self._skipped = self._skipped.to(sizes.device, non_blocking=True)
            self._offender = self._offender.to(sizes.device, non_blocking=True)
        self._skipped = self._skipped + finite.logical_not()
        if not self.warned:
            first = torch.where(finite, -1, sizes.nan_to_num(nan=math.inf).argmax())
            self._offender = torch.where(self._offender < 0, first, self._offender)

    def report(self, name_of: Callable[[int], str]) -> None:
        """Warn, once, if an offender's index has arrived; `name_of` names a measure's parameter."""
        if self.warned or torch.compiler.is_compiling():
            return  # a compiled step cannot read; the next eager one warns
        if self._offender.is_meta:
            return
        if self._offender.device.type == "cpu":
            self._arrived = self._offender
        else:
            if self._arrived is None:
                pinned = self._offender.device.type == "cuda"
                self._arrived = torch.full((), -1, device="cpu", pin_memory=pinned)
            self._arrived.copy_(self._offender, non_blocking=True)
        if type(self._arrived) is Tensor and peek(self._arrived >= 0):  # no fake one
            self.warned = True
            warnings.warn(
                f"the gradient of {name_of(int(self._arrived))} holds inf or NaN, or is so large "
                "that its norm does: the step was skipped and no weight moved. Further skips are "
                "only counted, in `skipped_steps`",
                NonFiniteGradientWarning,
                stacklevel=2,
            )
