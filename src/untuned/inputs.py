"""How large the data are that a network's first layers see.

A radius is for inputs whose entries have size one (`geometry.py`). Those of inner layers have, more
or less; data have the size that they have, and a layer that sees data a hundred times smaller needs
weights a hundred times larger. No gradient tells the one from the other, so a look has to be taken.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from untuned.assignment import layers_of
from untuned.shards import local


class Inputs:
    """Looks at what the layers of modules see in their first forward pass in training.

    Data are what needs no gradient. In a deep copy of a module nobody asks what was seen.
    """

    def __init__(self) -> None:
        # Weights by owner and name: during a forward pass FSDP has others in their place
        self._places: list[tuple[nn.Module, str]] = []
        self._squares: dict[int, Tensor] = {}  # of what goes into each, by its number
        self._handles: list[Any] = []

    def __reduce__(self) -> tuple[type[Inputs], tuple[()]]:
        """Copies, and what is saved with a module that has hooks, have nothing to look at."""
        return Inputs, ()

    @property
    def looking(self) -> bool:
        """Whether there is anything to take."""
        return bool(self._places)

    def watch(self, module: nn.Module) -> None:
        """Begin to look."""
        numbers: dict[Tensor, int] = {}
        for owner in module.modules():
            applied = dict(_applied(owner))
            for name, weight in applied.items():
                if weight not in numbers:
                    numbers[weight] = len(self._places)
                    self._places.append((owner, name))
            if applied:
                look = functools.partial(self._look, [numbers[w] for w in applied.values()])
                self._handles.append(owner.register_forward_pre_hook(look))

    def _look(self, numbers: Sequence[int], owner: nn.Module, args: tuple[Any, ...]) -> None:
        inputs = args[0] if args else None
        if all(number in self._squares for number in numbers):
            return
        if not (isinstance(inputs, Tensor) and inputs.is_floating_point()):
            return
        if inputs.requires_grad or not (owner.training and torch.is_grad_enabled()):
            return
        if torch._C._are_functorch_transforms_active():  # its tensors must not get out
            return
        with torch.no_grad():
            square = _mean_square(local(inputs))
            for number in numbers:
                self._squares.setdefault(number, square)

    @torch.no_grad()
    def taken(self) -> dict[Tensor, Tensor]:
        """The root mean square, 0-d, by weight, the same on all processes; looks no more.

        One of what nothing was seen of.
        """
        for handle in self._handles:
            handle.remove()
        places, squares = self._places, self._squares
        self._places, self._squares, self._handles = [], {}, []
        squares = _joined(squares, len(places))
        found: dict[Tensor, Tensor] = {}
        for number, (owner, name) in enumerate(places):
            if (weight := owner._parameters.get(name)) is not None:
                square = squares.get(number, torch.zeros((), device=weight.device))
                known = (square > 0) & square.isfinite()
                found[weight] = torch.where(known, square.sqrt(), 1.0)
        return found


def _mean_square(inputs: Tensor) -> Tensor:
    """Of all entries, 0-d, whether they are stored or not."""
    entries = inputs.coalesce() if inputs.is_sparse else inputs
    if inputs.is_nested or inputs.layout != torch.strided:
        entries = entries.values()
    return entries.float().square().sum() / max(1, inputs.numel())


def _joined(squares: Mapping[int, Tensor], count: int) -> Mapping[int, Tensor]:
    """The means over the processes that saw anything of each number, of so many; or zero."""
    if not squares or not (dist.is_available() and dist.is_initialized()):
        return squares
    nothing = torch.zeros_like(next(iter(squares.values())))
    sums = [squares.get(number, nothing) for number in range(count)]
    seen = [nothing + (number in squares) for number in range(count)]
    both = torch.stack([*sums, *seen])
    dist.all_reduce(both)
    return dict(enumerate((both[:count] / both[count:].clamp(min=1)).unbind()))


def _applied(owner: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The weights that a module applies to what it is called with, and their names."""
    for name, layer in layers_of(owner).items():
        inner = name.startswith(("weight_hh", "weight_hr")) or ("_l" in name and "_l0" not in name)
        weight = owner._parameters.get(name)
        if layer.multiplies() and not inner and weight is not None:
            yield name, weight
