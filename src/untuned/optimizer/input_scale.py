"""The scale of a network's input data, measured in the first forward pass.

A radius is for inputs whose entries have size one (`geometry/layers.py`). Hidden activations have
that size, more or less; data may have any, and a layer whose inputs are a hundred times smaller
needs weights a hundred times larger. No gradient shows that, so hooks measure the inputs.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from untuned.distributed.all_reduce import process_groups
from untuned.distributed.shards import local, shard_of
from untuned.geometry.assignment import layers_of


class InputScale:
    """Measures the inputs of layers in the first forward pass in training mode.

    Inputs that require no gradient count as data. Copies of a watched module measure nothing.
    """

    def __init__(self) -> None:
        # weights by owner and name: during a forward pass FSDP puts others in their place
        self._places: list[tuple[nn.Module, str]] = []
        self._squares: dict[int, Tensor] = {}  # mean squares of inputs, by the weight's number
        self._copies: dict[Any, None] = {}  # process groups that hold copies (DDP)
        self._handles: list[Any] = []

    def __reduce__(self) -> tuple[type[InputScale], tuple[()]]:
        """Copies, also those pickled with a module's hooks, watch nothing."""
        return InputScale, ()

    @property
    def looking(self) -> bool:
        """Whether a module is being watched."""
        return bool(self._places)

    def watch(self, module: nn.Module) -> None:
        """Register hooks on a module's layers."""
        numbers: dict[Tensor, int] = {}
        for owner in module.modules():
            applied = dict(_applied(owner))
            for name, weight in applied.items():
                if weight not in numbers:
                    numbers[weight] = len(self._places)
                    self._places.append((owner, name))
            if not isinstance(owner, torch.jit.ScriptModule):  # which takes no hooks
                look = functools.partial(self._look, [numbers[w] for w in applied.values()])
                self._handles.append(owner.register_forward_pre_hook(look))

    def _look(self, numbers: Sequence[int], owner: nn.Module, args: tuple[Any, ...]) -> None:
        if not (owner.training and torch.is_grad_enabled()):
            return
        if (copied := DistributedDataParallel._active_ddp_module) is not None:
            self._copies[copied.process_group] = None
        inputs = args[0] if args else None
        if all(number in self._squares for number in numbers):
            return
        if not (isinstance(inputs, Tensor) and inputs.is_floating_point()):
            return
        if inputs.requires_grad:
            return
        if torch._C._are_functorch_transforms_active():  # its tensors must not escape
            return
        with torch.no_grad():
            square = _mean_square(local(inputs))
            for number in numbers:
                self._squares.setdefault(number, square)

    @torch.no_grad()
    def taken(self) -> dict[Tensor, Tensor]:
        """Root mean squares of inputs, 0-d, by weight, equal on all ranks; removes the hooks.

        1 where no input was measured.
        """
        for handle in self._handles:
            handle.remove()
        weights = [owner._parameters.get(name) for owner, name in self._places]
        squares = _joined(self._squares, weights, list(self._copies))
        self._places, self._squares, self._copies, self._handles = [], {}, {}, []
        found: dict[Tensor, Tensor] = {}
        for number, weight in enumerate(weights):
            if weight is not None:
                square = squares.get(number, torch.zeros((), device=weight.device))
                known = (square > 0) & square.isfinite()
                found[weight] = torch.where(known, square.sqrt(), 1.0)
        return found


def _mean_square(inputs: Tensor) -> Tensor:
    """The mean square of all entries, 0-d, also of sparse and nested tensors."""
    entries = inputs.coalesce() if inputs.is_sparse else inputs
    if inputs.is_nested or inputs.layout != torch.strided:
        entries = entries.values()
    return entries.float().square().sum() / max(1, inputs.numel())


def _joined(
    squares: Mapping[int, Tensor], weights: Sequence[Tensor | None], copies: Sequence[Any]
) -> Mapping[int, Tensor]:
    """Means over the ranks that measured each number; zero, or no entry, where none did.

    All-reduces over ranks that certainly step together: those that hold shards of the weights, or
    DDP's copies. Other ranks may train apart, or average gradients by hand: then no scale is used,
    so that copies stay equal.
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return squares
    here = [weight for weight in weights if weight is not None]
    shards = [shard for weight in here if (shard := shard_of(weight)) is not None]
    groups = [*process_groups(shards, copies=True)[0], *copies]
    if not groups:
        return {}
    device = shards[0].mesh.device_type if shards else here[0].device
    both = torch.zeros(2, len(weights), device=device)
    for number, square in squares.items():
        both[0, number], both[1, number] = square, 1.0
    for group in groups:
        dist.all_reduce(both, group=group)
    return dict(enumerate((both[0] / both[1].clamp(min=1)).unbind()))


def _applied(owner: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The weights that a module applies to its inputs, with their names."""
    for name, layer in layers_of(owner).items():
        weight = owner._parameters.get(name)
        if layer.sees_inputs() and weight is not None:
            yield name, weight
