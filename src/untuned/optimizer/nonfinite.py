"""Skipped steps: counted, and told of once, without ever waiting on the device."""

from __future__ import annotations

import ctypes
import math
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from untuned.errors import NonFiniteGradientWarning


def readable(tensor: Tensor) -> bool:
    """Whether the host can look at a tensor without waiting for a device or breaking a graph."""
    plain = type(tensor) is Tensor and tensor.device.type == "cpu"
    return plain and not torch.compiler.is_compiling()


def peek(flag: Tensor) -> bool:
    """A 0-d bool that lies in the host's memory, read there: no operation runs, nothing waits."""
    return ctypes.c_bool.from_address(flag.data_ptr()).value


class NonFiniteGuard:
    """Watches the measures of every step for inf and NaN.

    The counts live where the gradients do. Until it has warned, each step also sends the first
    culprit to the host behind its own back, and reports it whenever it turns out to be there.
    """

    warned: bool

    def __init__(self) -> None:
        self.warned = False
        self._skipped = torch.zeros((), dtype=torch.int64, device="cpu")  # where the gradients are
        self._culprit = torch.full((), -1, device="cpu")  # there: the first block at fault, or -1
        self._told: Tensor | None = None  # on the host: what has arrived of it

    @property
    def skipped(self) -> int:
        """How many steps were skipped. Waits for the device: ask it now and then."""
        return int(self._skipped)

    def watch(self, sizes: Tensor, eta: Tensor | float) -> bool | Tensor:
        """Whether every one of `sizes`, (blocks,), and `eta`, what became of them, is finite.

        A bool where the host may look, else a 0-d tensor on their device.
        """
        finite = torch.isfinite(sizes.sum() * eta)
        if readable(finite) and peek(finite):
            return True
        self._count(sizes, finite)
        return False if readable(finite) else finite

    def _count(self, sizes: Tensor, finite: Tensor) -> None:
        """Take note of a step that was skipped, if it was."""
        if self._skipped.device != sizes.device:  # the first such step only
            self._skipped = self._skipped.to(sizes.device, non_blocking=True)
            self._culprit = self._culprit.to(sizes.device, non_blocking=True)
        self._skipped = self._skipped + finite.logical_not()
        if not self.warned:
            first = torch.where(finite, -1, sizes.nan_to_num(nan=math.inf).argmax())
            self._culprit = torch.where(self._culprit < 0, first, self._culprit)

    def report(self, name_of: Callable[[int], str]) -> None:
        """Warn, once, if the host has heard of a culprit; `name_of` says whose a block is."""
        if self.warned or torch.compiler.is_compiling():
            return  # a compiled step cannot look; the next that is not compiled tells
        if self._culprit.is_meta:
            return
        if self._culprit.device.type == "cpu":
            self._told = self._culprit
        else:
            if self._told is None:
                pinned = self._culprit.device.type == "cuda"
                self._told = torch.full((), -1, device="cpu", pin_memory=pinned)
            self._told.copy_(self._culprit, non_blocking=True)
        if type(self._told) is Tensor and peek(self._told >= 0):  # no fake one
            self.warned = True
            warnings.warn(
                f"the gradient of {name_of(int(self._told))} holds inf or NaN, or is so large that "
                "its norm does: the step was skipped and no weight moved. Further skips are only "
                "counted, in `skipped_steps`",
                NonFiniteGradientWarning,
                stacklevel=2,
            )
