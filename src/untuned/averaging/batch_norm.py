"""Batch-norm statistics that fit averaged weights.

The running statistics of passes in training are those of the iterate. Those of the average come
from passes of their own, under `no_grad`, on every 60th part of the training so far: a pass in each
of the first 120 steps, one in 16 after a thousand. Norms that are out of reach of such a pass take
the iterate's statistics as often.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from untuned.passes.eager import same_random_numbers
from untuned.passes.hooks import silence

PARTS = 60  # the training so far over the steps between two passes
RECENT = 0.4  # the share of the newest batch in the statistics
PASSES = "average/network.passes"  # in the first group: passes in training so far


class BatchNormStatistics:
    """Running statistics of a module's norms, for the average of its weights.

    Args:
        module: its norms in training mode are renewed.
        optimizer: its first group counts the passes, so that resumed trainings go on alike.
    """

    def __init__(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self._module, self._optimizer = module, optimizer
        self._norms = _norms_of(module)
        owners = module.modules() if self._norms else ()
        self._inside = {owner: inside for owner in owners if (inside := _norms_of(owner))}
        self._due: set[_NormBase] = set()  # norms that are to be renewed
        self._kept: dict[_NormBase, list[Tensor]] = {}

    def __contains__(self, owner: nn.Module) -> bool:
        """Whether a module has norms."""
        return owner in self._inside

    def begin(self) -> None:
        """Count a pass in training, and see whether norms are due."""
        if not self._norms:
            return
        group = self._optimizer.param_groups[0]
        passes = group[PASSES] = group.get(PASSES, -1) + 1
        now = passes % max(1, passes // PARTS) == 0
        self._due = {norm for norm in self._norms if now and norm.training}

    def due(self, owner: nn.Module) -> list[_NormBase]:
        """The norms within a module that are to be renewed before its pass."""
        if not self._due:
            return []
        return [norm for norm in self._inside.get(owner, ()) if norm in self._due]

    def renew(self, owner: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Pass a batch through a module that holds the average, where norms are due.

        Nothing else notices: neither random numbers nor other buffers.

        Args:
            owner: the module that is called.
            args: of the call.
            kwargs: of the call.
        """
        norms = self.due(owner)
        if not norms:
            return
        self._due.difference_update(norms)
        passes = self._optimizer.param_groups[0][PASSES]
        usual = [norm.momentum for norm in norms]
        own = {id(buffer) for norm in norms for buffer in _statistics(norm)}
        others = [buffer for buffer in self._module.buffers() if id(buffer) not in own]
        with torch.no_grad(), same_random_numbers(list(self._module.parameters())):
            kept = [buffer.clone() for buffer in others]
            try:
                for norm in norms:
                    norm.momentum = max(RECENT, 1 / (passes + 1))
                with silence():
                    owner(*args, **kwargs)
            finally:
                for norm, momentum in zip(norms, usual, strict=True):
                    norm.momentum = momentum
                for buffer, value in zip(others, kept, strict=True):
                    buffer.data.copy_(value)  # unseen by autograd

    def keep(self) -> None:
        """Note the average's statistics before a pass of the iterate."""
        if self._norms and PASSES in self._optimizer.param_groups[0]:
            self._kept = {n: [b.clone() for b in _statistics(n)] for n in self._norms}

    def restore(self) -> None:
        """Put the average's statistics back, but of norms that are still due.

        Unseen by autograd, which holds them for the backward pass of a pass that is under way.
        """
        for norm, values in self._kept.items():
            if norm not in self._due:
                torch._foreach_copy_([each.data for each in _statistics(norm)], values)
        self._kept = {}


def _norms_of(module: nn.Module) -> list[_NormBase]:
    """The norms within a module that have running statistics."""
    return [
        each
        for each in module.modules()
        if isinstance(each, _NormBase) and each.running_mean is not None
    ]


def _statistics(norm: _NormBase) -> list[Tensor]:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return [norm.running_mean, norm.running_var]
