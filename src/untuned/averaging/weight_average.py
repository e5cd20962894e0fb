"""The average of the weights: what a module holds, but for its passes in training.

So evaluation, `state_dict`, copies and exports read the average (`iterates.py`) without knowing of
it. A hook puts the iterate in its place at the first pass in training mode with gradients enabled;
the end of the step puts the average back.

What others write to a weight between steps is where its iterate begins anew, if torch counts it
(`weight._version`): writes under `torch.no_grad()` are, those to `weight.data` are not.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from untuned.averaging.batch_norm import BatchNormStatistics
from untuned.averaging.iterates import Iterates
from untuned.passes.hooks import Hook, Hooks

AVERAGED = 0.5  # the power of the clock (`rules.Auto`) in groups whose weights are averaged


class WeightAverage:
    """Keeps the average of weights in a module, and the iterate in the optimizer's state.

    Args:
        optimizer: whose parameters are averaged.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer
        self._iterates = Iterates(optimizer)
        self.watching: bool = False
        self.met: bool = False  # whether a pass in training mode has been seen
        self._seen = False  # whether one has been since the last step
        self._evaluating: Any = None  # the handle of a hook: a call amid a pass in training
        self._statistics: list[BatchNormStatistics] = []
        self._hooks = Hooks()
        self._sharded: list[Any] = []  # FSDP modules, which may hold gathered weights

    def watch(self, module: nn.Module) -> None:
        """Register hooks on a module, and on all within it that have parameters."""
        statistics = BatchNormStatistics(module, self._optimizer)
        self._statistics.append(statistics)
        self._sharded += [each for each in module.modules() if _is_fsdp(each)]
        for owner in module.modules():
            scripted = isinstance(owner, torch.jit.ScriptModule)  # which takes no hooks
            taking_part = owner is module or owner in statistics or _has_parameters(owner)
            if not scripted and taking_part:
                self.watching = True
                self._hooks.prepare(owner)
                before = Hook(self._before, module, statistics)
                owner.register_forward_pre_hook(before, with_kwargs=True, prepend=True)
                owner.register_state_dict_pre_hook(Hook(self._at_rest))
                owner.register_load_state_dict_pre_hook(Hook(self._at_rest))

    @property
    def active(self) -> bool:
        """Whether weights are averaged; the groups say so, that a loaded state may, too."""
        groups = self._optimizer.param_groups
        return bool(groups) and groups[0].get("power") == AVERAGED

    def _before(
        self, root: nn.Module, statistics: BatchNormStatistics, owner: nn.Module, *inputs: Any
    ) -> None:
        """Before a pass: put the weights in place that it is to see."""
        if torch._C._are_functorch_transforms_active():
            return  # which allow no such effect
        inside = self._iterates.inside
        if root.training:
            if (inside and not statistics.due(owner)) or not torch.is_grad_enabled():
                return
            if self.active and self._is_at_home(root):
                self._train(statistics, owner, *inputs)
        elif inside and self._evaluating is None:
            after = owner.register_forward_hook(Hook(self._after), always_call=True)
            self.rest()
            self._evaluating = after

    def _is_at_home(self, root: nn.Module) -> bool:
        """Whether a module has its own weights, not some of `torch.func.functional_call`."""
        if self._sharded:  # FSDP has others there during a pass
            return True
        own = {id(p) for group in self._optimizer.param_groups for p in group["params"]}
        return any(id(p) in own for p in root.parameters())

    def _train(self, statistics: BatchNormStatistics, owner: nn.Module, *inputs: Any) -> None:
        """Before a pass in training: renew what statistics are due, and put iterates in place."""
        if not self._iterates.inside:
            statistics.begin()
        self.met = self._seen = True
        self.rest()
        statistics.renew(owner, *inputs)
        self._enter()

    def _after(self, *_: Any) -> None:
        """After an evaluation amid a pass in training: its gradients will be the iterate's."""
        self._evaluating.remove()
        self._evaluating = None
        self._enter()

    def _at_rest(self, *_: Any) -> None:
        """Before the module's state is read or written."""
        self.rest()

    def _enter(self) -> None:
        """Put the iterates in place of the averages."""
        if not self._iterates.inside:
            self._iterates.enter()
            self._reshard()
            for statistics in self._statistics:
                statistics.keep()

    def rest(self) -> None:
        """Put the averages in place of the iterates."""
        if self._iterates.inside:
            self._iterates.leave()
            self._settle()

    def _settle(self) -> None:
        """After the averages have come into the module."""
        self._reshard()
        for statistics in self._statistics:
            statistics.restore()

    def _reshard(self) -> None:
        for module in self._sharded:
            module.reshard()

    def loaded(self) -> None:
        """Believe weights and iterates as they are: they have just been loaded."""
        self._iterates.trust()

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """A context in which the module holds the average."""
        inside = self._iterates.inside
        self.rest()
        try:
            yield
        finally:
            if inside:
                self._enter()

    def prepare(self, idle: bool) -> None:
        """Before a step: put iterates in place, those that gradients are of.

        Without a pass in training since the last step they are of what the module holds.

        Args:
            idle: whether the step moves nothing.
        """
        if not (self._seen or self._iterates.inside or idle):
            self._iterates.begin_anew()
        self._enter()

    def follow(self, moved: Sequence[Tensor], finite: bool | Tensor) -> None:
        """After a step: average, and put the averages in place.

        Args:
            moved: the tensors that the step moved.
            finite: whether the step was taken.
        """
        self._seen = False
        self._iterates.follow(moved, finite)
        self._settle()

    def forget(self) -> None:
        """Average no longer: the module holds the iterates from now on."""
        self._enter()
        self._iterates.forget()


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _is_fsdp(module: nn.Module) -> bool:
    """Whether FSDP2 shards a module, which is not imported for the question."""
    fsdp = sys.modules.get("torch.distributed.fsdp")
    return fsdp is not None and isinstance(module, getattr(fsdp, "FSDPModule", ()))
