"""Measurements of an optimizer and a process: tuned hyperparameters, memory, and versions."""

import platform
import resource
import sys
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

import untuned


def hyper(optimizer: Optimizer) -> dict[str, float]:
    """A tower's hyperparameters, as `floor0.lr`; those of later groups as `group1.floor0.lr`."""
    if not isinstance(optimizer, untuned.Optimizer) or len(optimizer.tower.floors) == 1:
        return {}
    return {
        f"{f'group{i}.' if i else ''}floor{level}.{name}": value
        for i, floors in enumerate(optimizer.hyperparameters())
        for level, values in enumerate(floors)
        for name, value in values.items()
    }


def state_bytes(optimizer: Optimizer) -> int:
    """Bytes of the tensors in an optimizer's state, and in its groups beside parameters."""
    extras = [{**group, "params": None} for group in optimizer.param_groups]
    return tensor_bytes([*optimizer.state.values(), *extras])


def tensor_bytes(held: Any) -> int:
    """Bytes of all tensors within nested dicts, lists and tuples."""
    if isinstance(held, Tensor):
        return held.nbytes
    if isinstance(held, dict):
        held = list(held.values())
    return sum(map(tensor_bytes, held)) if isinstance(held, list | tuple) else 0


def peak_mb(device: torch.device) -> float:
    """Peak memory in 10^6 bytes: allocated on the GPU, or resident of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def versions() -> dict[str, str]:
    """Of what a run's numbers depend on, by name."""
    python = platform.python_version()
    return {"torch": torch.__version__, "untuned": untuned.__version__, "python": python}
