"""The plans of an optimizer's parameter groups: made once, and anew where tensors change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from untuned.distributed.all_reduce import local_gradients
from untuned.errors import SparseGradientError
from untuned.optimizer.group_layers import follow_
from untuned.optimizer.param_groups import name_of
from untuned.optimizer.plan import GroupPlan
from untuned.optimizer.turns import note_turn
from untuned.rule import States
from untuned.tower import Tower


@dataclass(eq=False)
class Plans:
    """The plans of an optimizer's parameter groups.

    Args:
        tower: of the optimizer.
        compile: as in `Optimizer`.
        before_step: a subclass's own work between the closure and the step.
        after_step: its work after a step, given the tensors that moved, and whether it was taken.
    """

    tower: Tower
    compile: bool | None
    before_step: Callable[[], None] | None = None
    after_step: Callable[[Sequence[Tensor], bool | Tensor], None] | None = None
    made: dict[int, GroupPlan] = field(default_factory=dict)

    def begin(self, groups: Sequence[dict[str, Any]], state: States) -> list[GroupPlan]:
        """Begin a step: the plans of the groups that have gradients.

        Args:
            groups: all parameter groups.
            state: the optimizer's, by tensor.

        Raises:
            SparseGradientError: a gradient is sparse.
        """
        if len(groups) == 1 and len(groups[0]["params"]) == 1:
            note_turn(self, self.tower.floors[0].rule)
        moving: list[GroupPlan] = []
        all_grads: list[list[Tensor]] = []
        for number, group in enumerate(groups):
            params, grads = with_gradients(group)
            if params:
                moving.append(self._of(group, number, params))
                all_grads.append(grads)
        if any([plan.sharded for plan in moving]):
            each = iter(local_gradients([param for plan in moving for param in plan.params]))
            all_grads = [[next(each) for _ in plan.params] for plan in moving]
        for plan, grads in zip(moving, all_grads, strict=True):
            plan.begin(grads, state)
        return moving

    def end(self, moving: Sequence[GroupPlan], finite: bool | Tensor) -> None:
        """End a step, whether it was taken (`finite`) or not."""
        if self.after_step is not None:
            self.after_step([param for plan in moving for param in plan.params], finite)

    def _of(self, group: dict[str, Any], number: int, params: Sequence[Tensor]) -> GroupPlan:
        """The plan of some tensors of a group: the last one if it serves, else a new one."""
        plan = self.made.get(number)
        tracing = torch.compiler.is_compiling()  # a plan made while tracing must not outlive it
        if plan is None or tracing or not plan.serves(group, params):
            follow_(group)
            plan = GroupPlan(self.tower, self.compile, group, number, params)
            if not tracing:
                self.made[number] = plan
        return plan


def with_gradients(group: dict[str, Any]) -> tuple[list[Tensor], list[Tensor]]:
    """The tensors of a group that have gradients, and these; raises `SparseGradientError`."""
    params, grads = [], []
    for index, param in enumerate(group["params"]):
        grad = param.grad
        if grad is None:
            continue
        if grad.layout != torch.strided:
            raise SparseGradientError(
                f"the gradient of {name_of(group, index)} is sparse; make it dense "
                "(for an embedding: sparse=False)"
            )
        params.append(param)
        grads.append(grad)
    return params, grads
