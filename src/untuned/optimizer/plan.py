"""The plan of a parameter group: the constants of all its steps.

A plan is made once, and anew when the group's tensors change: others have gradients, or another
shape, dtype or device. Its rule is made anew when the group's options change, and its executor
begins anew when states do.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from untuned._tensors import as_number
from untuned.distributed.shards import Shard, local, shard_of, to_local
from untuned.domain import plain_number
from untuned.execution import Executor, StepInputs, executor_of
from untuned.execution.stochastic_rounding import SHORT, Write, key_of
from untuned.geometry.complex import as_real
from untuned.optimizer.group_layers import geometry_of
from untuned.optimizer.param_groups import layer_for
from untuned.rule import State, States
from untuned.tower import Tower
from untuned.tunable import Tunable

if TYPE_CHECKING:
    from untuned.towers.floor_step import FloorStep

BEGUN = "begun"  # in a group: how many steps were begun before, for rules that take turns
STEPS = "rounding.steps"  # in a group: how many steps its 16-bit weights were rounded in


@dataclass(eq=False)
class GroupPlan:
    """The constants of all steps of those tensors of a group that have gradients.

    Args:
        tower: its ground floor moves the tensors.
        compile: as in `Optimizer`.
        group: the parameter group.
        number: the group's among all.
        params: the tensors that move.
    """

    tower: Tower
    compile: bool | None
    group: dict[str, Any]
    number: int
    params: Sequence[Tensor]
    floor: FloorStep | None = None
    states: Sequence[State] = ()
    grads: Sequence[Tensor] = ()
    last: StepInputs = field(default_factory=lambda: StepInputs({}))
    hypergradients: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.shards: list[Shard | None] = [shard_of(param) for param in self.params]
        self.sharded: bool = any(self.shards)
        self._complex = any([param.is_complex() for param in self.params])
        self._short = not {weight.dtype for weight in self._weights()}.isdisjoint(SHORT)
        self._facts = facts_of(self.params)
        self._found: list[State | None] = []  # the tensors' states, None of those without
        self._lengths: list[int] = []
        self._read_options()
        tuned = list(self.tower.tuned(0))
        self._lr_multiplies = self.tower.lr_multiplies
        self._layer = self.group["layer"]
        known = dict(zip(self.group["params"], geometry_of(self.group), strict=True))
        layers = [layer_for(known[param], param, self.rule) for param in self.params]
        self.executor: Executor = executor_of(
            self.rule, tuned, self._weights(), self.shards, layers, self.compile
        )
        if tuned:
            from untuned.towers.floor_step import FloorStep  # a lone rule needs no towers

            self.floor = FloorStep(self.tower, 0, self.group, self.executor)

    def serves(self, group: dict[str, Any], params: Sequence[Tensor]) -> bool:
        """Whether the plan is one of these tensors of the group, as they are now."""
        same = group is self.group and group["layer"] is self._layer
        same = same and len(params) == len(self.params)
        same = same and all(map(operator.is_, params, self.params))
        return same and facts_of(params) == self._facts

    def begin(self, grads: Sequence[Tensor], state: States) -> None:
        """Begin a step, given the tensors' gradients and the optimizer's state by tensor."""
        self.grads = list(map(as_real, grads)) if self._complex else grads
        renewed = False
        for name, value in self._options.items():
            if self.group.get(name) is not value:
                self._read_options()
                self.executor.rule, renewed = self.rule, True
                break
        found = list(map(state.get, self.params))
        known = bool(self._found) and all(map(operator.is_, found, self._found))
        known = known and list(map(len, self.states)) == self._lengths
        if self._complex or self.sharded:
            self.executor.weights = self._weights()  # others may have taken the tensors' memory
        if known and not (renewed or self.sharded):
            return
        self._found, self._lengths = found, []
        self.states = self._local = [{} if each is None else each for each in found]
        if self.sharded:
            pairs = zip(self.states, self.shards, strict=True)
            self._local = [own if shard is None else to_local(own) for own, shard in pairs]
        (self.floor or self.executor).begin(self._local)

    def _weights(self) -> Sequence[Tensor]:
        """The tensors as rules see them: local shards, and pairs of reals."""
        weights = list(map(local, self.params)) if self.sharded else self.params
        return list(map(as_real, weights)) if self._complex else weights

    def _read_options(self) -> None:
        """Make the rule from the group's options, and note them, to see when they change."""
        group = self.group
        lr = group["lr"]
        if not isinstance(lr, Tensor) or lr.numel() != 1:
            self.tower.floors[0].rule.check({"lr": lr})
            group["lr"] = plain_number(lr)
        elif lr.ndim:
            group["lr"] = lr.view(())  # the same memory: its holder still sets it
        self.rule: Tunable = self.tower.of_group(group).floors[0].rule
        self._values = {n: plain_number(v) for n, v in self.rule.hyperparameters().items()}
        options = {n: group[n] for n in ("lr", *self.rule.fields()) if n in group}
        # a list may change in place: its copy is never the same object
        self._options = {n: tuple(v) if isinstance(v, list) else v for n, v in options.items()}

    @property
    def wants_norms(self) -> bool:
        """Whether it may matter if gradients are zero: where lr is, or may be."""
        lr = self.group["lr"]
        return isinstance(lr, Tensor) or lr == 0

    def inputs(self, eta: Tensor | float, L: Tensor | int, finite: bool | Tensor) -> StepInputs:
        """The inputs of the coming step; writes the group's `effective_lr`.

        Args:
            eta: how far to go, 0-d, in units of the learning rate.
            L: the network's depth.
            finite: whether the step is taken at all.
        """
        group = self.group
        scale = group["lr"] * eta if self._lr_multiplies else eta
        signed = -scale if group["maximize"] else scale
        if self.floor is None:
            now = StepInputs(self._values, signed, L, group.get(BEGUN, 0) + self.number)
        else:
            now = self.floor.inputs(signed, L, finite)
        rate = now.values.get("lr", 1.0)
        rate = scale * (rate.mean() if isinstance(rate, Tensor) and rate.ndim else rate)
        if isinstance(finite, Tensor):
            rate = torch.where(finite, rate, 0.0)  # a float is filled in: nothing is copied
        group["effective_lr"] = as_number(rate)
        return now

    def partial_sums(self) -> list[Tensor]:
        """This rank's parts of measures and hypergradients, for the all-reduce."""
        return [*self.executor.partial_sums(), *self.hypergradients.values()]

    def receive_sums(self, totals: list[Tensor]) -> None:
        """Replace measures and hypergradients by those of whole tensors."""
        count = len(totals) - len(self.hypergradients)
        self.executor.receive_sums(totals[:count])
        self.hypergradients = dict(zip(self.hypergradients, totals[count:], strict=True))

    def terms(self, finite: bool | Tensor) -> Write:
        """The terms of writing; counts the step that 16-bit weights are rounded in, if taken."""
        if not self._short:
            return Write(finite)
        device = self.params[0].device
        steps: Tensor = self.group.get(STEPS, torch.zeros((), dtype=torch.int64)).to(device)
        self.group[STEPS] = steps + finite
        return Write(finite, key_of(steps, self.group["seed"], self.number))

    def release(self) -> None:
        """Let go of the gradients: their memory is the next forward pass's."""
        self.grads = ()
        self.executor.release()

    def store(self, state: States) -> None:
        """Store new entries of the tensors' states in the optimizer's; sharded like the tensors."""
        if self.sharded:
            each = zip(self.shards, self.states, self._local, strict=True)
            for i, (shard, own, here) in enumerate(each):
                if shard is not None:
                    shard.store(own, here, functools.partial(self.executor.layout, i))
        lengths = list(map(len, self.states))
        if lengths == self._lengths:
            return
        for param, own in zip(self.params, self.states, strict=True):
            if own and param not in state:
                state[param] = own
        self._found, self._lengths = [own or None for own in self.states], lengths
        if not self.sharded:
            (self.floor or self.executor).begin(self.states)


def facts_of(params: Sequence[Tensor]) -> list[tuple[torch.Size, torch.dtype, torch.device]]:
    """The properties that `.to()` and `.data = ` change in place."""
    return [(param.shape, param.dtype, param.device) for param in params]
