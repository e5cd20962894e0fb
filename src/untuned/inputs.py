"""How large the data are that a network's first layers see.

A radius is for inputs whose entries have size one (`geometry.py`). Those of inner layers have, more
or less; data have the size that they have, and a layer that sees data a hundred times smaller needs
weights a hundred times larger. No gradient tells the one from the other, so a look has to be taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from untuned.assignment import layers_of


class Inputs:
    """Looks at what the layers of modules see in their first forward pass in training.

    Data are what needs no gradient. In a deep copy of a module nobody asks what was seen.
    """

    def __init__(self) -> None:
        self._sizes: dict[Tensor, Tensor] = {}
        self._handles: list[Any] = []

    def watch(self, module: nn.Module) -> None:
        """Begin to look."""
        for owner in module.modules():
            if any(True for _ in _applied(owner)):
                self._handles.append(owner.register_forward_pre_hook(self._look))

    def _look(self, owner: nn.Module, args: tuple[Any, ...]) -> None:
        inputs = args[0] if args else None
        if not (isinstance(inputs, Tensor) and inputs.is_floating_point()):
            return
        if inputs.requires_grad or not (owner.training and torch.is_grad_enabled()):
            return
        with torch.no_grad():
            entries = inputs.coalesce().values() if inputs.is_sparse else inputs
            square = entries.float().square().sum() / max(1, inputs.numel())
            for weight in _applied(owner):
                self._sizes.setdefault(weight, square)

    @torch.no_grad()
    def taken(self) -> dict[Tensor, Tensor]:
        """The root mean square, 0-d, by weight, the same on all processes; looks no more."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        if not self._sizes:
            return {}
        squares = torch.stack([*self._sizes.values()])
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(squares)
            squares /= dist.get_world_size()
        found = torch.where(squares > 0, squares.sqrt(), 1.0).unbind()
        weights, self._sizes = list(self._sizes), {}
        return dict(zip(weights, found, strict=True))


def _applied(owner: nn.Module) -> Iterator[Tensor]:
    """The weights that a module applies to what it is called with."""
    for name, layer in layers_of(owner).items():
        inner = name.startswith(("weight_hh", "weight_hr")) or ("_l" in name and "_l0" not in name)
        weight = owner._parameters.get(name)
        if layer.multiplies() and not inner and weight is not None:
            yield weight
