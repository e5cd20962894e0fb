"""One step of an optimizer: measure all gradients, plan how far to go, move every group.

Optimizer.step -> take_step -> executor.apply -> rule.update
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from untuned._tensors import peek, readable
from untuned.distributed.all_reduce import sum_over_ranks
from untuned.execution.network_state import plan_step, write_network_state_
from untuned.execution.record import RECORD
from untuned.optimizer.nonfinite import NonFiniteGuard
from untuned.optimizer.param_groups import name_of
from untuned.optimizer.plan import GroupPlan
from untuned.optimizer.plans import Plans
from untuned.rule import States


def take_step(
    plans: Plans,
    groups: Sequence[dict[str, Any]],
    state: States,
    guard: NonFiniteGuard,
    closure: Callable[[], float] | None,
) -> float | None:
    """Move every parameter that has a gradient.

    Args:
        plans: of the parameter groups.
        groups: the parameter groups.
        state: the optimizer's, by tensor.
        guard: skips the step if gradients are not finite.
        closure: makes the gradients anew, and returns the loss, as in `torch.optim`.

    Returns:
        What `closure` returns.
    """
    loss = None
    if closure is not None:
        with torch.enable_grad():
            loss = closure()
    if plans.before_step is not None:
        plans.before_step()
    moving = plans.begin(groups, state)
    if not moving:
        plans.end((), False)
        return loss
    for plan in moving:
        if plan.floor is not None:
            plan.last = plan.floor.read_last()
        plan.hypergradients = plan.executor.measure(plan.grads, plan.last, plan.wants_norms)
    sum_over_ranks(moving)
    step = plan_step([plan.executor for plan in moving], groups[0], level=0)
    finite = _is_finite(moving, step.eta, guard)
    if finite is False:
        for group in groups:
            group["effective_lr"] = 0.0
        for plan in moving:
            plan.release()
        plans.end((), False)
        return loss
    if len(plans.tower.floors) > 1:
        _drop_idle_records(plans, moving, groups, state)
    write_network_state_(groups[0], 0, step.network_state, finite)
    waiting = []
    for plan in moving:
        if plan.floor is not None:
            plan.floor.climb(plan.hypergradients, finite)
        now = plan.inputs(step.eta, step.L, finite)
        waiting.append(plan.executor.apply(plan.last, now, plan.terms(finite)))
        plan.store(state)
        plan.release()
    sum_over_ranks([writer for writer in waiting if writer is not None])
    plans.end(moving, finite)
    return loss


def _is_finite(
    moving: Sequence[GroupPlan], eta: Tensor | float, guard: NonFiniteGuard
) -> bool | Tensor:
    """Whether the step is taken: a bool where the host may read it, else 0-d on the device.

    Not if any gradient is inf or NaN, nor for the no-op step (lr=0, zero gradients) that
    `torch.distributed.checkpoint` takes only to allocate optimizer state.
    """
    sizes = [plan.executor.sizes for plan in moving]
    measures = torch.cat(sizes) if len(sizes) > 1 else sizes[0]
    finite = guard.watch(measures, eta)
    if finite is not True:
        guard.report(lambda index: _offending_parameter(moving, index))
    if finite is False:
        return False
    moves = measures.sum()
    for plan in moving:
        lr = plan.group["lr"]
        if isinstance(lr, Tensor):
            moves = moves + abs(lr).to(measures)
        elif lr != 0:
            return finite
    moves = moves > 0
    if finite is True and readable(moves) and peek(moves):
        return True
    return moves & finite


def _drop_idle_records(
    plans: Plans, moving: Sequence[GroupPlan], groups: Sequence[dict[str, Any]], state: States
) -> None:
    """Drop the records of tensors that take no part in this step."""
    taking = {param for plan in moving for param in plan.params}
    for number, group in enumerate(groups):
        idle = [p for p in group["params"] if RECORD in state.get(p, {}) and p not in taking]
        if idle:
            plan = GroupPlan(plans.tower, plans.compile, group, number, idle)
            plan.begin(idle, state)
            assert plan.floor is not None
            plan.floor.drop_record()
            plan.store(state)


def _offending_parameter(moving: Sequence[GroupPlan], index: int) -> str:
    """The name of the parameter that one of the measures of all groups belongs to."""
    for plan in moving:
        count = len(plan.executor.sizes)
        if index < count:
            param = plan.params[plan.executor.owner(index)]
            place = next(i for i, p in enumerate(plan.group["params"]) if p is param)
            return name_of(plan.group, place)
        index -= count
    return "a parameter"  # its group has no gradients any more
