"""The average of the weights: what a module holds, but for its passes in training.

With W the iterate, which the rule moves, and x its average, after the t-th step

    x <- x + (SHARE + 1) / (t + SHARE) (W - x),

so that x weighs the iterates of about the last t / (SHARE + 1) steps (Shamir and Zhang 2013,
arXiv:1212.1824, polynomial-decay averaging). The module holds x: evaluation, `state_dict`, copies
and exports read it without knowing of it. A hook puts W in its place at the first pass in training
mode with gradients enabled; the end of the step puts x back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from untuned.distributed.shards import local
from untuned.execution.stochastic_rounding import SHORT, dithered, key_of
from untuned.optimizer.batch_norm import BatchNormStatistics

SHARE = 8  # an iterate's weight grows as its number to this power
ITERATE, COUNT = "average.iterate", "average.steps"  # in the state of a tensor
AVERAGED = 0.5  # the power of the clock (`rules.Auto`) in groups whose weights are averaged
TOGETHER = 2**20  # entries that are exchanged at once: their copy is all the extra memory


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
        self._exchanged: list[Tensor] = []  # tensors that hold their iterates
        self._versions: dict[Tensor, int] = {}  # of tensors, as the last step left them
        self._evaluating: nn.Module | None = None  # called amid a pass in training
        self._statistics: list[BatchNormStatistics] = []
        self._sharded: list[Any] = []  # FSDP modules, which may hold gathered weights

    def watch(self, module: nn.Module) -> None:
        """Register hooks on a module, and on each of its modules that owns parameters."""
        self.watching = True
        statistics = BatchNormStatistics(module, self._optimizer)
        self._statistics.append(statistics)
        self._sharded += [each for each in module.modules() if hasattr(each, "reshard")]
        for owner in module.modules():
            scripted = isinstance(owner, torch.jit.ScriptModule)  # which takes no hooks
            if not scripted and (owner is module or owner._parameters):
                before = Hook(self._before, module, statistics)
                owner.register_forward_pre_hook(before, with_kwargs=True, prepend=True)
                owner.register_forward_hook(Hook(self._after), always_call=True)
        module.register_state_dict_pre_hook(Hook(self._saving))

    @property
    def active(self) -> bool:
        """Whether weights are averaged; the groups say so, that a loaded state may, too."""
        groups = self._optimizer.param_groups
        return bool(groups) and groups[0].get("power") == AVERAGED

    def _before(
        self, root: nn.Module, statistics: BatchNormStatistics, owner: nn.Module, *inputs: Any
    ) -> None:
        """Before a pass: put the weights in place that it is to see."""
        if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
            return  # which allow no such effect; the root's hook runs outside the compiled graph
        if not self.active:
            return
        if root.training and torch.is_grad_enabled():
            self.met = True
            if not self.training:
                statistics.renew(owner, *inputs)
                self.enter()
        elif not root.training and self.training and self._evaluating is None:
            self._evaluating = owner
            self._leave()

    def _after(self, owner: nn.Module, *_: Any) -> None:
        """After an evaluation amid a pass in training: its gradients will be the iterate's."""
        if self._evaluating is owner:
            self._evaluating = None
            self.enter()

    def _saving(self, *_: Any) -> None:
        """Before the module's state is read."""
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
        yield
        if training:
            self.enter()

    def enter(self) -> None:
        """Put the iterates in place of the averages, of all tensors that may move."""
        if self.training:
            return
        self._exchanged = [p for p in self._averaged() if p.requires_grad]
        for p in self._exchanged:
            self._accept(p)
        self.training = True
        self._exchange()
        for statistics in self._statistics:
            statistics.keep()

    def _leave(self) -> None:
        self.training = False
        self._exchange()
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
            state[ITERATE] = p.detach().clone()
            state[COUNT] = torch.zeros_like(state[COUNT])
        elif iterate.dtype != p.dtype or iterate.device != p.device:
            state[ITERATE] = iterate.to(p.device, p.dtype)

    @torch.no_grad()
    def _exchange(self) -> None:
        """Exchange weights and entries, in place, unseen by autograd: a pass may be under way."""
        state = self._optimizer.state
        weights = [local(p).data for p in self._exchanged]
        others = [local(state[p][ITERATE]) for p in self._exchanged]
        for start, end in _together(weights):
            copies = [weight.clone() for weight in weights[start:end]]
            torch._foreach_copy_(weights[start:end], others[start:end])
            torch._foreach_copy_(others[start:end], copies)
        for module in self._sharded:
            module.reshard()

    def follow(self, moved: Sequence[Tensor], finite: bool | Tensor) -> None:
        """After a step: average, and put the averages in place.

        Args:
            moved: the tensors that the step moved.
            finite: whether the step was taken.
        """
        self._average([p for p in moved if ITERATE in self._optimizer.state[p]], finite)
        for p in moved:
            state = self._optimizer.state[p]
            if ITERATE not in state:  # the first average is the iterate
                state[ITERATE] = p.detach().clone()
                state[COUNT] = torch.zeros((), device=local(p).device) + finite
        self.rest()
        self._versions = {p: p._version for p in self._averaged()}

    @torch.no_grad()
    def _average(self, moved: Sequence[Tensor], finite: bool | Tensor) -> None:
        if not moved or finite is False:
            return
        states = [self._optimizer.state[p] for p in moved]
        counts = [state[COUNT] for state in states]
        if counts[0].device != local(moved[0]).device:
            counts = [count.to(local(p).device) for count, p in zip(counts, moved, strict=True)]
        taken = 1.0 if finite is True else finite.to(counts[0])  # type: ignore[union-attr]
        torch._foreach_add_(counts, taken)
        shares = torch._foreach_add(counts, SHARE)
        torch._foreach_reciprocal_(shares)
        torch._foreach_mul_(shares, (SHARE + 1) * taken)
        for p, state, count, share in zip(moved, states, counts, shares, strict=True):
            state[COUNT] = count
            average, iterate = local(state[ITERATE]), local(p).detach()
            if average.dtype in SHORT:  # rounded to nearest, small changes would be lost
                exact = torch.lerp(average.float(), iterate.float(), share)
                average.copy_(dithered(exact, average.dtype, key_of(count.long(), SHARE)))
            else:
                average.lerp_(iterate, share.to(average.dtype))

    def forget(self) -> None:
        """Average no longer: the module holds the iterates from now on."""
        self.enter()
        for p in self._averaged():
            for name in (ITERATE, COUNT):
                del self._optimizer.state[p][name]
        self._exchanged, self.training = [], False


class Hook:
    """A module's hook. Copies of the module, and those that are pickled, have an inert one."""

    def __init__(self, call: Callable[..., None], *given: Any) -> None:
        self._call, self._given = call, given

    def __call__(self, *args: Any) -> None:
        self._call(*self._given, *args)

    def __reduce__(self) -> tuple[Any, ...]:
        # of the standard library, so that a pickled module needs no untuned
        return getattr, (contextlib.nullcontext(), "__exit__")

    def __deepcopy__(self, memo: Any) -> Any:
        return contextlib.nullcontext().__exit__


def _together(tensors: Sequence[Tensor]) -> Iterator[tuple[int, int]]:
    """Ranges of tensors that have about `TOGETHER` entries in all."""
    start, entries = 0, 0
    for end, tensor in enumerate(tensors):
        if entries and entries + tensor.numel() > TOGETHER:
            yield start, end
            start, entries = end, 0
        entries += tensor.numel()
    if tensors:
        yield start, len(tensors)
