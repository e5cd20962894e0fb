"""Shards: what this process holds of parameters that are spread over several.

Rules and executors work on plain tensors: on what lies here of each parameter, its gradient and its
state. What they must know of whole tensors comes from `collectives.py`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from untuned.geometry.layer import Shape

State = dict[str, Tensor]

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor, Placement


class Box(NamedTuple):
    """Where a shard lies in the whole tensor."""

    start: Shape
    size: Shape

    @property
    def place(self) -> tuple[slice, ...]:
        """What to index the whole tensor with."""
        ends = zip(self.start, self.size, strict=True)
        return tuple(slice(start, start + size) for start, size in ends)


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

    def to_dtensor(self, part: Tensor, layout: Layout) -> DTensor:
        """The tensor of which every process has such a part."""
        from torch.distributed.tensor import DTensor

        shape = torch.Size(layout.shape)
        stride = torch.empty(shape, device="meta").stride()
        return DTensor.from_local(part, self.mesh, layout.placements, shape=shape, stride=stride)

    def store(self, state: State, here: State, layout: Callable[[str], Layout]) -> None:
        """Make a state hold what is kept `here`, each tensor of the layout that its name has."""
        for name in state.keys() - here.keys():
            del state[name]
        for name, value in here.items():
            if name not in state or local(state[name]) is not value:
                state[name] = self.to_dtensor(value, layout(name)) if value.ndim else value


def shard_index(shard: Shard | None) -> int:
    """Which of a tensor's parts is here; of a plain one, the only one."""
    number = 0
    if shard is None:
        return number
    for axis in shard.axes:
        number = number * shard.mesh.size(axis) + shard.mesh.get_local_rank(axis)
    return number


def is_sharded(tensor: Tensor) -> bool:
    """Whether a tensor is a DTensor, without the half second that importing the class costs."""
    if type(tensor) in (Tensor, nn.Parameter):
        return False
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def local(tensor: Tensor) -> Tensor:
    """What lies here of a tensor: itself, if it is a plain one."""
    if not is_sharded(tensor):
        return tensor
    with torch.no_grad():
        part: Tensor = tensor.to_local()  # type: ignore[attr-defined]
    return part.wait() if hasattr(part, "wait") else part  # it may still be on its way


def to_local(state: State) -> State:
    """What lies here of a state."""
    return {name: local(value) for name, value in state.items()}


KNOWN = 4096  # layouts, of which a network has a few, asked for in every step
_known: dict[tuple[Any, ...], Shard] = {}


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
        if len(_known) >= KNOWN:
            _known.clear()
        _known[key] = Shard(sharded.device_mesh, layout, box)
    return _known[key]


@torch.no_grad()
def fill_sharded_(tensor: Tensor, value: Tensor) -> None:
    """Fill a sharded tensor with a whole one, as the first process of the mesh has it."""
    shard = shard_of(tensor)
    assert shard is not None
    for axis in range(shard.mesh.ndim):
        group = shard.mesh.get_group(axis)
        dist.broadcast(value, dist.get_global_rank(group, 0), group=group)
    local(tensor).copy_(value[shard.box.place])
