"""The geometry of each tensor of a parameter group: `group["layer"]` of a module's parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from untuned.geometry.layer import Layer


class Layers:
    """Tensors with a geometry each; it is never changed, only replaced.

    Args:
        tensors: those of a parameter group.
        layers: the geometry of each; None: by its shape.
    """

    def __init__(self, tensors: Sequence[Tensor], layers: Sequence[Layer | None]) -> None:
        self.tensors: tuple[Tensor, ...] = tuple(tensors)
        self.layers: tuple[Layer | None, ...] = tuple(layers)

    def following(self, params: Sequence[Tensor]) -> Layers:
        """The geometry of other tensors.

        One that took another's place (sharded, or grown) has its geometry; others that are new have
        that of their shape.

        Args:
            params: what the group has now.
        """
        if list(map(id, params)) == list(map(id, self.tensors)):
            return self
        known = dict(zip(self.tensors, self.layers, strict=True))
        layers = [known.get(param) for param in params]
        gone = set(self.tensors) - set(params)
        if len(params) == len(self.tensors):
            for i, (old, new) in enumerate(zip(self.tensors, params, strict=True)):
                if old in gone and new not in known and old.ndim == new.ndim:
                    layers[i] = self.layers[i]
        return Layers(params, layers)

    def replacing(self, tensor: Tensor, layer: Layer | None) -> Layers:
        """The same with another geometry for one of the tensors."""
        each = zip(self.tensors, self.layers, strict=True)
        return Layers(self.tensors, [layer if own is tensor else old for own, old in each])

    def __str__(self) -> str:
        """Each geometry once, in the order of the tensors."""
        return ", ".join(dict.fromkeys(map(str, self.layers)))


def geometry_of(group: Mapping[str, Any]) -> list[Layer | None]:
    """The geometry of each of a group's tensors; None: by its shape."""
    layer, params = group["layer"], group["params"]
    if isinstance(layer, Layers):
        return list(layer.following(params).layers)
    return [layer] * len(params)


def follow_(group: dict[str, Any]) -> None:
    """Let the geometry follow the group's tensors, where these were replaced."""
    if isinstance(group["layer"], Layers):
        group["layer"] = group["layer"].following(group["params"])
