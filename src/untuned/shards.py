"""Shards: what this process holds of parameters that are spread over several.

Rules and executors work on plain tensors: on what lies here of each parameter, its gradient and its
state. What a rule must know of whole tensors (the norms of blocks, hypergradients, the moments of
neurons) are sums, of which each process has a part; those of all parameters are added up in one
collective. Every process then holds the same numbers, bit for bit, and decides alike.

Processes that hold copies of the same part each bring their share of it, so that meshes of any
dimensions, and plain tensors beside sharded ones, are all one sum over the processes.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from untuned.layer import Shape
from untuned.rule import State

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor, Placement


class Box(NamedTuple):
    """Where a shard lies in the whole tensor."""

    start: Shape
    size: Shape


class Layout(NamedTuple):
    """How a whole tensor lies across processes."""

    shape: Shape
    placements: tuple[Placement, ...]


@dataclass(frozen=True)
class Shard:
    """One process's part of a tensor."""

    mesh: DeviceMesh
    layout: Layout
    box: Box

    @property
    def axes(self) -> list[int]:
        """The dimensions of the mesh along which processes hold different parts."""
        placements = enumerate(self.layout.placements)
        return [axis for axis, placed in placements if not placed.is_replicate()]

    @property
    def dims(self) -> set[int]:
        """The dimensions of the tensor along which it is divided."""
        placements: Iterable[Any] = self.layout.placements
        return {placed.dim for placed in placements if not placed.is_replicate()}

    @property
    def parts(self) -> int:
        """How many different parts there are; the processes' others are copies of these."""
        return math.prod(self.mesh.size(axis) for axis in self.axes)

    def whole(self, part: Tensor, layout: Layout) -> DTensor:
        """The tensor of which every process has such a part."""
        from torch.distributed.tensor import DTensor

        shape = torch.Size(layout.shape)
        stride = torch.empty(shape, device="meta").stride()
        return DTensor.from_local(part, self.mesh, layout.placements, shape=shape, stride=stride)

    def keep(self, state: State, here: State, layout: Callable[[str], Layout]) -> None:
        """Make a state hold what is kept `here`, each tensor of the layout that its name has."""
        for name in state.keys() - here.keys():
            del state[name]
        for name, value in here.items():
            if name not in state or local(state[name]) is not value:
                state[name] = self.whole(value, layout(name)) if value.ndim else value


def is_sharded(tensor: Tensor) -> bool:
    """Whether a tensor is a DTensor, without the half second that importing the class costs."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def local(tensor: Tensor) -> Tensor:
    """What lies here of a tensor: itself, if it is a plain one."""
    if not is_sharded(tensor):
        return tensor
    with torch.no_grad():
        part: Tensor = tensor.to_local()  # type: ignore[attr-defined]
    return part.wait() if hasattr(part, "wait") else part  # it may still be on its way


def opened(state: State) -> State:
    """What lies here of a state."""
    return {name: local(value) for name, value in state.items()}


_known: dict[tuple[Any, ...], Shard] = {}  # of a few layouts, asked for in every step


def shard_of(tensor: Tensor) -> Shard | None:
    """The shard of a tensor that is here; None of a plain one, which all is."""
    if not is_sharded(tensor):
        return None
    sharded: Any = tensor
    key = (sharded.device_mesh, sharded.placements, sharded.shape)
    if key not in _known:
        (chunk,) = sharded.__create_chunk_list__()
        layout = Layout(tuple(sharded.shape), tuple(sharded.placements))
        box = Box(tuple(chunk.offsets), tuple(chunk.sizes))
        _known[key] = Shard(sharded.device_mesh, layout, box)
    return _known[key]


def gradient_of(weight: Tensor) -> Tensor:
    """What lies here of a weight's gradient, wherever its weight's part is."""
    grad: Any = weight.grad
    if is_sharded(grad) and grad.placements != weight.placements:  # type: ignore[attr-defined]
        grad = grad.redistribute(placements=weight.placements)  # type: ignore[attr-defined]
    return local(grad)


@torch.no_grad()
def fill_(tensor: Tensor, value: Tensor) -> None:
    """Fill a sharded tensor with a whole one, as the first process of the mesh has it."""
    shard = shard_of(tensor)
    assert shard is not None
    for axis in range(shard.mesh.ndim):
        group = shard.mesh.get_group(axis)
        dist.broadcast(value, dist.get_global_rank(group, 0), group=group)
    box = zip(shard.box.start, shard.box.size, strict=True)
    local(tensor).copy_(value[tuple(slice(start, start + size) for start, size in box)])


class Summand(Protocol):
    """What has numbers to add up over processes."""

    @property
    def shards(self) -> Sequence[Shard | None]:
        """Of each tensor that it is about."""

    def additive(self) -> list[Tensor]:
        """Its parts of the sums: what each tensor adds, times the number of that one's parts."""

    def take(self, totals: list[Tensor]) -> None:
        """Go on with the sums, of the same shapes."""


def join(summands: Sequence[Summand]) -> None:
    """Add up what processes have, in one collective, if any parameter is sharded at all."""
    shards = {shard for summand in summands for shard in summand.shards if shard is not None}
    if not shards:
        return
    numbers = [summand.additive() for summand in summands]
    device = next(iter(shards)).mesh.device_type
    flat = [number.double().flatten() for each in numbers for number in each]
    everything = torch.cat([number.to(device) for number in flat])
    groups, copies = _groups(shards)
    everything /= copies  # in 64 bits: squares do not overflow, and halves are exact
    for group in groups:
        dist.all_reduce(everything, group=group)
    totals = iter(everything.split([number.numel() for number in flat]))
    for summand, each in zip(summands, numbers, strict=True):
        summand.take([next(totals).view(number.shape).to(number) for number in each])


def _groups(shards: Iterable[Shard]) -> tuple[list[Any], int]:
    """The processes to add up over, as groups one after the other; and how many they are."""
    axes = {
        shard.mesh.get_group(axis): None
        for shard in sorted(shards, key=lambda shard: shard.mesh.size())
        for axis in shard.axes
        if shard.mesh.size(axis) > 1
    }
    widest = max((shard.mesh for shard in shards), key=lambda mesh: mesh.size())
    if len(axes) > 1 and widest.size() == dist.get_world_size():
        return [dist.group.WORLD], widest.size()
    if len(axes) > 1:
        axes = dict.fromkeys(widest.get_group(axis) for axis in range(widest.ndim))
    return list(axes), math.prod(dist.get_world_size(group) for group in axes)
