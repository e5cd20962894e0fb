"""Local shards of DTensors.

Rules and executors work on plain tensors: the local shard of each parameter, its gradient and its
state. Sums over whole tensors come from `all_reduce.py`.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from untuned.geometry.layer import Shape

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor


class Box(NamedTuple):
    """Where a shard lies in the whole tensor."""

    start: Shape  # its first index along each dimension
    size: Shape  # its own shape

    @property
    def place(self) -> tuple[slice, ...]:
        """The index of the shard in the whole tensor."""
        return tuple(slice(start, start + size) for start, size in zip(*self, strict=True))


class Layout(NamedTuple):
    """How a tensor lies across ranks."""

    shape: Shape  # of the whole tensor
    placements: tuple[Any, ...]  # along each dimension of the mesh


@dataclass(frozen=True)
class Shard:
    """One rank's part of a tensor."""

    mesh: DeviceMesh
    layout: Layout
    box: Box

    @functools.cached_property
    def axes(self) -> list[int]:
        """The dimensions of the mesh along which ranks hold different parts."""
        return [i for i, placed in enumerate(self.layout.placements) if not placed.is_replicate()]

    @functools.cached_property
    def dims(self) -> set[int]:
        """The dimensions of the tensor along which it is divided."""
        return {self.layout.placements[axis].dim for axis in self.axes}

    @functools.cached_property
    def parts(self) -> int:
        """The number of different parts; further ranks hold copies of these."""
        return math.prod(map(self.mesh.size, self.axes))

    def _to_dtensor(self, part: Tensor, layout: Layout) -> DTensor:
        """The DTensor of a layout on this shard's mesh, of which `part` is local."""
        from torch.distributed.tensor import DTensor

        shape = torch.Size(layout.shape)
        stride = torch.empty(shape, device="meta").stride()
        return DTensor.from_local(part, self.mesh, layout.placements, shape=shape, stride=stride)

    def store(
        self, state: dict[str, Tensor], here: dict[str, Tensor], layout: Callable[[str], Layout]
    ) -> None:
        """Write local state, `here`, back into a parameter's state as DTensors of some layouts.

        0-d tensors, the same on all ranks, are stored as they are.
        """
        for name in state.keys() - here.keys():
            del state[name]
        for name, value in here.items():
            if name not in state or local(state[name]) is not value:
                state[name] = self._to_dtensor(value, layout(name)) if value.ndim else value


Shards = Sequence[Shard | None]  # of some tensors; None for a plain one


def shard_index(shard: Shard | None) -> int:
    """The rank's number among the different parts of a tensor; 0 for a plain one."""
    number = 0
    if shard is not None:
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
    """The local shard of a DTensor, waited for; a plain tensor itself."""
    if not is_sharded(tensor):
        return tensor
    with torch.no_grad():
        part: Tensor = tensor.to_local()  # type: ignore[attr-defined]
    return part.wait() if hasattr(part, "wait") else part


def to_local(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A parameter's state with the local shards of its tensors."""
    return {name: local(value) for name, value in state.items()}


KNOWN = 4096  # layouts; a network has a few
_known: dict[tuple[Any, ...], Shard] = {}


def shard_of(tensor: Tensor) -> Shard | None:
    """The local shard of a DTensor, cached; None for a plain tensor."""
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
    """Fill a DTensor with the whole `value` of the mesh's first rank, overwritten on others."""
    shard = shard_of(tensor)
    assert shard is not None
    for axis in range(shard.mesh.ndim):
        group = shard.mesh.get_group(axis)
        dist.broadcast(value, dist.get_global_rank(group, 0), group=group)
    local(tensor).copy_(value[shard.box.place])
