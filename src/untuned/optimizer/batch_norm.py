"""Batch-norm statistics that fit averaged weights.

The running statistics of passes in training are those of the iterate. Those of the average come
from passes of their own, under `no_grad`, on every 30th part of the training so far: a pass in each
of the first steps, one in 33 after a thousand.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

PARTS = 30  # the training so far over the steps between two passes
RECENT = 0.2  # the share of the newest batch in the statistics
PASSES = "average.passes"  # in the first group: passes in training so far


class BatchNormStatistics:
    """Running statistics of a module's norms, for the average of its weights.

    Args:
        module: its norms in training mode are renewed.
        optimizer: its first group counts the passes, so that resumed trainings go on alike.
    """

    def __init__(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self._norms = [
            each
            for each in module.modules()
            if isinstance(each, _NormBase) and each.running_mean is not None
        ]
        self._optimizer = optimizer
        self._next = 0  # the pass in which they are renewed next
        self._renewed = False  # whether the module's statistics are the average's
        self._kept: list[Tensor] = []
        self._devices = {p.device for p in module.parameters() if p.device.type == "cuda"}
        self._busy = False

    def renew(self, owner: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Pass a batch through a module that holds the average, where it is time to.

        Args:
            owner: the module that is called; statistics are renewed if it contains the norms.
            args: of the call.
            kwargs: of the call.
        """
        if not self._norms or self._busy:
            return
        group = self._optimizer.param_groups[0]
        passes = group[PASSES] = group.get(PASSES, -1) + 1
        inside = set(owner.modules())
        norms = [norm for norm in self._norms if norm.training and norm in inside]
        if not norms or passes % max(1, passes // PARTS):
            return
        usual = [norm.momentum for norm in norms]
        devices = sorted(device.index for device in self._devices)
        self._busy = True
        try:
            for norm in norms:
                norm.momentum = max(RECENT, 1 / (passes + 1))
            with torch.no_grad(), torch.random.fork_rng(devices):
                owner(*args, **kwargs)
            self._renewed = True
        finally:
            self._busy = False
            for norm, momentum in zip(norms, usual, strict=True):
                norm.momentum = momentum

    def _buffers(self) -> list[Tensor]:
        return [b for norm in self._norms for b in (norm.running_mean, norm.running_var)]

    def keep(self) -> None:
        """Note the average's statistics before a pass of the iterate."""
        if self._renewed:
            self._kept = [buffer.clone() for buffer in self._buffers()]

    def restore(self) -> None:
        """Put the average's statistics back."""
        if self._kept:
            torch._foreach_copy_(self._buffers(), self._kept)
            self._kept = []
