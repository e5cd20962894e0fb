"""One step of an optimizer: look at all gradients, find how far to go, move every group."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from untuned.distributed.all_reduce import sum_over_ranks
from untuned.distributed.gradients import local_gradients
from untuned.domain import NON_NEGATIVE
from untuned.errors import SparseGradientError
from untuned.execution.kernels import RECORD
from untuned.optimizer.nonfinite import NonFiniteGuard, peek, readable
from untuned.optimizer.param_groups import name_of
from untuned.rule import State
from untuned.tower import Tower
from untuned.towers.floor_step import Part, outlook


class Stepping(NamedTuple):
    """What a step works on."""

    tower: Tower
    groups: Sequence[dict[str, Any]]
    state: MutableMapping[Tensor, State]
    guard: NonFiniteGuard
    compile: bool | None
    plans: dict[int, Part]

    def take(self) -> None:
        """Move every parameter that has a gradient."""
        weights = [self._with_gradients(group) for group in self.groups]
        grads = iter(local_gradients([weight for each in weights for weight in each]))
        moving = [
            self._part(i, each, [next(grads) for _ in each])
            for i, each in enumerate(weights)
            if each
        ]
        if moving:
            self._move(moving)

    def _with_gradients(self, group: dict[str, Any]) -> list[Tensor]:
        """The tensors of a group that have gradients; raises `SparseGradientError`."""
        self._check_lr(group)
        params = group["params"]
        indices = [i for i, weight in enumerate(params) if weight.grad is not None]
        for i in indices:
            if params[i].grad.layout != torch.strided:
                raise SparseGradientError(
                    f"the gradient of {name_of(group, i)} is sparse; make it dense "
                    "(for an embedding: sparse=False)"
                )
        return [params[i] for i in indices]

    def _check_lr(self, group: dict[str, Any]) -> None:
        """See to it that `lr`, which a schedule or a user may have set, is one number."""
        lr = group["lr"]
        if not isinstance(lr, Tensor) or lr.numel() != 1:
            NON_NEGATIVE.check("lr", lr)
        elif lr.ndim:
            group["lr"] = lr.view(())  # the same memory: who holds it still sets it

    def _part(self, number: int, weights: list[Tensor], grads: list[Tensor]) -> Part:
        """Some tensors of one of the groups, with what is kept of them."""
        states = [self.state.get(weight, {}) for weight in weights]
        group = self.groups[number]
        part = None if torch.compiler.is_compiling() else self.plans.get(number)
        if part is not None and part.group is group and part.serves(weights):
            part.renew(grads, states)
            return part
        made = Part(self.tower, 0, group, weights, grads, states, self.compile, number)
        if not torch.compiler.is_compiling():
            self.plans[number] = made
        return made

    def _move(self, moving: list[Part]) -> None:
        """One step: measure, find how far to go, let every floor take its step, top down."""
        for part in moving:
            part.look()
        sum_over_ranks(moving)
        found, L, memory = outlook(moving, self.groups[0])
        sizes = [part.runner.sizes for part in moving]
        measures = torch.cat(sizes) if len(sizes) > 1 else sizes[0]
        finite = self.guard.watch(measures, found)
        if finite is not True:
            self.guard.report(lambda block: _culprit(moving, block))
        if finite is False:
            for group in self.groups:
                group["effective_lr"] = 0.0
            return
        finite = _asked(moving, measures, finite)
        self._settle(moving)
        moving[0].floor.remember(self.groups[0], memory, finite)
        for part in moving:
            scale = part.multiplier() * found
            rate = scale * part.step(-scale if part.group["maximize"] else scale, L, finite)
            if isinstance(finite, Tensor):
                rate = torch.where(finite, torch.as_tensor(rate), 0.0)
            part.group["effective_lr"] = rate
            for weight, state in zip(part.weights, part.states, strict=True):
                if state and weight not in self.state:
                    self.state[weight] = state
        sum_over_ranks([part.finish for part in moving if part.finish is not None])

    def _settle(self, moving: list[Part]) -> None:
        """Have the parameters that take no part in this step forget their last one."""
        if len(self.tower.floors) == 1:
            return
        taking = {weight for part in moving for weight in part.weights}
        for number, group in enumerate(self.groups):
            idle = [
                p for p in group["params"] if RECORD in self.state.get(p, {}) and p not in taking
            ]
            if idle:
                states = [self.state.get(weight, {}) for weight in idle]
                Part(self.tower, 0, group, idle, idle, states, self.compile, number).settle()


def _asked(moving: list[Part], measures: Tensor, finite: bool | Tensor) -> bool | Tensor:
    """Whether anybody asks for a step: `finite`, and not with lr = 0 and gradients of zero.

    With those torch's distributed checkpoints have states made, and want nothing else to change.
    """
    lrs = [part.group["lr"] for part in moving]
    if any(not isinstance(lr, Tensor) and lr != 0 for lr in lrs):
        return finite
    moves = sum((abs(lr).to(measures) for lr in lrs if isinstance(lr, Tensor)), measures.sum()) > 0
    if finite is True and readable(moves) and peek(moves):
        return True
    return moves & finite


def _culprit(moving: list[Part], block: int) -> str:
    """The name of the parameter whose block stands at `block` of all groups' sizes."""
    for part in moving:
        if block < len(part.runner.sizes):
            weight = part.weights[part.runner.owner(block)]
            index = next(i for i, p in enumerate(part.group["params"]) if p is weight)
            return name_of(part.group, index)
        block -= len(part.runner.sizes)
    return "a parameter"  # the culprit's group has no gradients any more
