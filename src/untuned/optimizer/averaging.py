"""The average of the weights: what a module holds, but for its passes in training.

With W the iterate, which the rule moves, and x its average, after the t-th step

    x <- x + (SHARE + 1) / (t + SHARE) (W - x),

so that x weighs the iterates of about the last t / (SHARE + 1) steps (Shamir and Zhang 2013,
arXiv:1212.1824, polynomial-decay averaging). The module holds x: evaluation, `state_dict`, copies
and exports read it without knowing of it. A hook puts W in its place at the first pass in training
mode with gradients enabled; the end of the step puts x back.

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

from untuned.distributed.shards import local, shard_index, shard_of
from untuned.execution.stochastic_rounding import SHORT, Write, key_of
from untuned.optimizer.batch_norm import BatchNormStatistics
from untuned.optimizer.exchange import Part, exchange_
from untuned.optimizer.hooks import Hook, Hooks
from untuned.optimizer.nonfinite import readable

SHARE = 8  # an iterate's weight grows as its number to this power
ITERATE, COUNT = "average.iterate", "average.steps"  # in the state of a tensor
AVERAGED = 0.5  # the power of the clock (`rules.Auto`) in groups whose weights are averaged


class WeightAverage:
    """Keeps the average of weights in a module, and the iterate in the optimizer's state.

    While the iterate is in the module (`training`), the state's entry holds the average.

    Args:
        optimizer: whose parameters are averaged.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer
        self.watching: bool = False
        self.training: bool = False
        self.met: bool = False  # whether a pass in training mode has been seen
        self._seen = False  # whether one has been since the last step
        self._exchanged: dict[Tensor, None] = {}  # tensors that hold their iterates
        self._versions: dict[Tensor, int] = {}  # of tensors, as the last step left them
        self._evaluating: Any = None  # the handle of a hook: a call amid a pass in training
        self._statistics: list[BatchNormStatistics] = []
        self._hooks = Hooks()
        self._sharded: list[Any] = []  # FSDP modules, which may hold gathered weights

    def watch(self, module: nn.Module) -> None:
        """Register hooks on a module, and on all within it that have parameters."""
        self.watching = True
        statistics = BatchNormStatistics(module, self._optimizer)
        self._statistics.append(statistics)
        self._sharded += [each for each in module.modules() if _is_fsdp(each)]
        for owner in module.modules():
            scripted = isinstance(owner, torch.jit.ScriptModule)  # which takes no hooks
            taking_part = owner is module or owner in statistics or _has_parameters(owner)
            if not scripted and taking_part:
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
        if root.training:
            if (self.training and not statistics.due(owner)) or not torch.is_grad_enabled():
                return
            if self.active:
                self._train(statistics, owner, *inputs)
        elif self.training and self._evaluating is None:
            after = owner.register_forward_hook(Hook(self._after), always_call=True)
            self._leave()
            self._evaluating = after

    def _train(self, statistics: BatchNormStatistics, owner: nn.Module, *inputs: Any) -> None:
        """Before a pass in training: renew what statistics are due, and put iterates in place."""
        if not self.training:
            statistics.begin()
        self.met = self._seen = True
        self.rest()
        statistics.renew(owner, *inputs)
        self.enter()

    def _after(self, *_: Any) -> None:
        """After an evaluation amid a pass in training: its gradients will be the iterate's."""
        self._evaluating.remove()
        self._evaluating = None
        self.enter()

    def _at_rest(self, *_: Any) -> None:
        """Before the module's state is read or written."""
        self.rest()

    def rest(self) -> None:
        """Put the averages in place of the iterates."""
        if self.training:
            self._leave()

    def trust(self) -> None:
        """Believe weights and iterates as they are: they have just been loaded."""
        self._versions = {}

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """A context in which the module holds the average."""
        training = self.training
        self.rest()
        try:
            yield
        finally:
            if training:
                self.enter()

    def prepare(self, idle: bool) -> None:
        """Before a step: put iterates in place, those that gradients are of.

        Without a pass in training since the last step they are of what the module holds.

        Args:
            idle: whether the step moves nothing.
        """
        if not (self._seen or self.training or idle):
            for p in self._averaged():
                if p.grad is not None:
                    self._begin_anew(p)
        self.enter()

    def enter(self) -> None:
        """Put the iterates in place of the averages, of all tensors that may move."""
        if self.training:
            return
        self._exchanged = {p: None for p in self._averaged() if p.requires_grad}
        for p in self._exchanged:
            self._accept(p)
        self.training = True
        self._exchange({})
        for statistics in self._statistics:
            statistics.keep()

    def _leave(self) -> None:
        self.training = False
        self._exchange({})
        self._restore()

    def _restore(self) -> None:
        for statistics in self._statistics:
            statistics.restore()

    def _averaged(self) -> list[Tensor]:
        """The tensors that have an average."""
        state = self._optimizer.state
        every = (p for group in self._optimizer.param_groups for p in group["params"])
        return [p for p in every if p in state and ITERATE in state[p]]

    def _accept(self, p: Tensor) -> None:
        """Take over what others did to a tensor since the last step: moved it, or wrote to it."""
        state = self._optimizer.state[p]
        iterate = state[ITERATE]
        written = self._versions.get(p, p._version) != p._version
        if written or iterate.shape != p.shape:  # the iterate begins anew with what was written
            self._begin_anew(p)
        elif iterate.dtype != p.dtype or iterate.device != p.device:
            state[ITERATE] = iterate.to(p.device, p.dtype)
            state[COUNT] = state[COUNT].to(p.device)

    def _begin_anew(self, p: Tensor, taken: float | Tensor = 0.0) -> None:
        """Begin with a tensor as it is, after no step, or after one if it was `taken`."""
        state = self._optimizer.state[p]
        state[ITERATE] = p.detach().clone()
        state[COUNT] = torch.zeros((), device=local(p).device) + taken

    @torch.no_grad()
    def _exchange(self, parts: dict[Tensor, Part]) -> None:
        """Exchange weights and entries of the state, which first go some part of the way."""
        state = self._optimizer.state
        weights = [local(p) for p in self._exchanged]
        others = [local(state[p][ITERATE]) for p in self._exchanged]
        exchange_(weights, others, [parts.get(p) for p in self._exchanged])
        for module in self._sharded:
            module.reshard()

    def follow(self, moved: Sequence[Tensor], finite: bool | Tensor) -> None:
        """After a step: average, and put the averages in place.

        Args:
            moved: the tensors that the step moved.
            finite: whether the step was taken.
        """
        self._seen = False
        parts = self._parts([p for p in moved if p in self._exchanged], finite)
        if self.training:
            self.training = False
            self._exchange(parts)
            self._restore()
        for p in moved:
            if p not in parts:  # the first average is the iterate
                self._begin_anew(p, 1.0 * finite)
        for p in (*self._exchanged, *moved):
            self._versions[p] = p._version

    def _parts(self, moved: Sequence[Tensor], finite: bool | Tensor) -> dict[Tensor, Part]:
        """How far the averages of some tensors go; counts their steps."""
        if not moved:
            return {}
        taken = 1.0 * finite
        counts = [self._optimizer.state[p][COUNT] for p in moved]
        torch._foreach_add_(counts, taken)
        t = torch.stack(counts)
        share = (SHARE + 1) * taken / (t + SHARE)
        shares = share.tolist() if readable(share) else share.unbind()
        keys: Sequence[Tensor | None] = [None] * len(moved)
        if any([p.dtype in SHORT for p in moved]):
            keys = [
                Write(key=key).fold_in(shard_index(shard_of(p))).key
                for p, key in zip(moved, key_of(t.long(), SHARE).unbind(), strict=True)
            ]
        return dict(zip(moved, map(Part, shares, keys), strict=True))

    def forget(self) -> None:
        """Average no longer: the module holds the iterates from now on."""
        self.enter()
        for p in self._averaged():
            for name in (ITERATE, COUNT):
                del self._optimizer.state[p][name]
        self._exchanged, self.training = {}, False


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _is_fsdp(module: nn.Module) -> bool:
    """Whether FSDP2 shards a module, without the import of FSDP where nobody else has."""
    fsdp = sys.modules.get("torch.distributed.fsdp")
    return fsdp is not None and isinstance(module, getattr(fsdp, "FSDPModule", ()))
