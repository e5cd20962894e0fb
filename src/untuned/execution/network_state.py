"""How far to step, from measures of the whole network; the state that rules have of it."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from untuned.blockwise import Blockwise, NetworkStep
from untuned.execution.blockwise import BlockwiseExecutor
from untuned.execution.executor import Executor
from untuned.geometry.block_vector import depth


def plan_step(executors: Sequence[Executor], group: dict[str, Any], level: int) -> NetworkStep:
    """`Blockwise.plan_step` of measured executors that share a rule; 1 and 1 of elementwise rules.

    `group` stores what the rule, on the floor `level` of its tower, remembers of the network.
    """
    blockwise = [each for each in executors if isinstance(each, BlockwiseExecutor)]
    if not blockwise:
        return NetworkStep(1.0, 1)
    rule: Blockwise = blockwise[0].rule
    L = depth([each.blocks.unsharded for each in blockwise])
    leaves = [each.leaves() for each in blockwise]
    if type(rule).plan_step is Blockwise.plan_step:
        return rule.plan_step(leaves, L, {})
    # it comes to the weights' device: the model may have moved, or its state been loaded
    device, prefix = blockwise[0].weights[0].device, f"floor{level}/network."
    stored = {name: value.to(device) for name, value in group.items() if name.startswith(prefix)}
    group.update(stored)
    return rule.plan_step(leaves, L, {k.removeprefix(prefix): v for k, v in stored.items()})


def write_network_state_(
    group: dict[str, Any], level: int, new: Mapping[str, Tensor], finite: bool | Tensor
) -> None:
    """Store what a rule remembers of the network, 0-d each, if a step is taken (`finite`).

    In place, for a captured step (CUDA graphs) knows the stored tensors only.
    """
    for name, value in new.items():
        old = group.setdefault(f"floor{level}/network.{name}", torch.zeros_like(value))
        old.copy_(torch.where(finite, value, old) if isinstance(finite, Tensor) else value)
