"""A forward pass run once more, for what compiled code does not show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from untuned.distributed.shards import is_sharded


def same_random_numbers(parameters: Sequence[Tensor]) -> AbstractContextManager[None]:
    """A context after which random numbers go on as if nothing had drawn any.

    Args:
        parameters: on whose devices numbers may be drawn.
    """
    kinds = {p.device.type for p in parameters} - {"cpu", "meta"}
    kind = next(iter(kinds), "cuda")
    devices = sorted({p.device.index or 0 for p in parameters if p.device.type == kind})
    return torch.random.fork_rng(devices, device_type=kind)


def run_eagerly(module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Run a module without compiled code and without gradients; nothing of it stays.

    Random numbers and buffers are as before. Python's own attributes are not restored.

    Returns:
        Whether it ran: sharded modules cannot, nor what takes its arguments only once.
    """
    parameters = list(module.parameters())
    if any(map(is_sharded, parameters)):
        return False
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    with (
        torch.no_grad(),
        torch.compiler.set_stance("force_eager"),
        same_random_numbers(parameters),
    ):
        try:
            functional_call(module, buffers, tuple(args), dict(kwargs))
        except Exception:  # a look at the data must not end a training run
            return False
    return True
