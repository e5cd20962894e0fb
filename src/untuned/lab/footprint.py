"""What is read off an optimizer and a process: tuned hyperparameters, and memory."""

from __future__ import annotations

import resource
import sys
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

import untuned


def hyper(optimizer: Optimizer) -> dict[str, float]:
    """What a tower has tuned, as `floor0.lr`; those of later groups as `group1.floor0.lr`."""
    if not isinstance(optimizer, untuned.Optimizer) or len(optimizer.tower.floors) == 1:
        return {}
    return {
        f"{f'group{i}.' if i else ''}floor{level}.{name}": value
        for i, floors in enumerate(optimizer.hyperparameters())
        for level, values in enumerate(floors)
        for name, value in values.items()
    }


def state_bytes(optimizer: Optimizer) -> int:
    """Of the tensors that an optimizer keeps: in its state, and in groups beside parameters."""
    extras = [
        value for group in optimizer.param_groups for name, value in group.items()
        if name != "params"
    ]  # fmt: skip
    return tensor_bytes([*optimizer.state.values(), *extras])


def tensor_bytes(held: Any) -> int:
    """Of all tensors within dicts and lists."""
    if isinstance(held, Tensor):
        return held.nbytes
    if isinstance(held, dict):
        held = list(held.values())
    return sum(map(tensor_bytes, held)) if isinstance(held, list | tuple) else 0


def peak_mb(device: torch.device) -> float:
    """The most memory that was in use, in 10^6 bytes: on the GPU, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
