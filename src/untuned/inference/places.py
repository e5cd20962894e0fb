"""The weights of a module that are applied to its inputs, and which tensors those are."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _Orthogonal, _SpectralNorm, _WeightNorm
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.rnn import PackedSequence

from untuned._tensors import differentiable
from untuned.geometry.assignment import layers_of, owned
from untuned.geometry.layer import Layer
from untuned.geometry.layers import Dense, Embedding

# Parametrizations of a direction alone: its size is of no consequence. With weight norm the size
# of the weight is a parameter of its own.
DIRECTIONS = (_WeightNorm, _SpectralNorm, _Orthogonal)


@dataclass(eq=False)
class Place:
    """A weight by its owner: wrappers such as FSDP put others in its place.

    Args:
        owner: the module that owns it, or of which it is a parametrization.
        name: as in the owner's `named_parameters`.
        layer: its geometry.
        sees_inputs: whether inputs of twice the size want a weight of half the size.
        known: whether the owner's type says that it is applied to the first argument.
        scale: of an adapter's second factor: what its outputs are multiplied by. Its inputs are
            measured, though they are no data: nothing else keeps them at size one.
    """

    owner: nn.Module
    name: str
    layer: Layer
    sees_inputs: bool
    known: bool
    scale: float | None = None
    number: int = -1  # among all places: of those of one weight, that of the first
    _holder: nn.Module = field(init=False, repr=False)

    def __post_init__(self) -> None:
        path, _, self._leaf = self.name.rpartition(".")
        self._holder = self.owner.get_submodule(path) if path else self.owner

    @property
    def weight(self) -> Tensor | None:
        """The parameter, if it is still there."""
        parameter: Tensor | None = getattr(self._holder, self._leaf, None)
        return parameter

    @property
    def is_factor(self) -> bool:
        """Whether it may be a factor of a product, as a tied table is."""
        return self.layer.multiplies() or isinstance(self.layer, Embedding)

    @property
    def frozen(self) -> bool:
        """Whether it is a matrix that does not move."""
        weight = self.weight
        return self.layer.multiplies() and weight is not None and not weight.requires_grad


def places_of(module: nn.Module) -> Iterator[Place]:
    """The parameters of a module that multiply, or stand for a weight that does; and its tables."""
    scales = dict(_adapters(module))
    for owner, name, (_, _, layer) in owned(module):
        known = layers_of(owner)
        stem = _scaled(owner, name)
        if stem is not None:
            sees = known.get(stem, Dense()).sees_inputs()
            yield Place(owner, name, layer, sees, bool(known))
        elif layer.multiplies() or isinstance(layer, Embedding):  # which may be tied to a head
            sees = layer.multiplies() and layer.sees_inputs() and not _is_direction(owner, name)
            yield Place(owner, name, layer, sees, bool(known), scales.get(owner))


def _adapters(module: nn.Module) -> Iterator[tuple[nn.Module, float]]:
    """The second factors B of low-rank adapters, scale B A x, with their scales (LoRA, in peft).

    Rank and scale then do not matter: the step of B is so short that what it adds to the layer's
    outputs is of a step's size (arXiv:2106.09685; peft's names).
    """
    for layer in module.modules():
        factors, scales = getattr(layer, "lora_B", None), getattr(layer, "scaling", None)
        if isinstance(factors, nn.ModuleDict) and isinstance(scales, Mapping):
            for name, owner in factors.items():
                yield owner, abs(float(scales.get(name, 1.0)))


def _scaled(owner: nn.Module, name: str) -> str | None:
    """The weight that a parameter is the size of (weight norm): it alone has a unit."""
    stem, _, kind = name.rpartition("_")
    if kind == "g" and f"{stem}_v" in owner._parameters:
        return stem
    if name.endswith(".original0") and _has(owner, name, (_WeightNorm,)):
        return name.split(".")[1]
    return None


def _is_direction(owner: nn.Module, name: str) -> bool:
    """Whether only a parameter's direction matters."""
    stem = name.rpartition("_")[0]
    old = name.endswith("_v") and f"{stem}_g" in owner._parameters
    old = old or (name.endswith("_orig") and f"{stem}_u" in owner._buffers)
    return old or (name.startswith("parametrizations.") and _has(owner, name, DIRECTIONS))


def _has(owner: nn.Module, name: str, kinds: tuple[type, ...]) -> bool:
    """Whether the weight that a parameter stands for has a parametrization of some kinds."""
    if not is_parametrized(owner):
        return False
    parametrizations: Any = owner.parametrizations
    return any(isinstance(each, kinds) for each in parametrizations[name.split(".")[1]])


def first_argument(owner: nn.Module) -> str | None:
    """The name of the first argument of a module's forward pass."""
    try:
        return next(iter(inspect.signature(owner.forward).parameters), None)
    except (TypeError, ValueError):
        return None


def inputs_of(
    place: Place, first: str | None, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> list[Tensor]:
    """The tensors that a weight is applied to when its owner is called.

    Those that fit, where the owner's type does not say which: of a matrix (out, in) the tensors
    (..., in), or else (..., out).
    """
    if place.known:
        given = args[0] if args else kwargs.get(first or "", next(iter(kwargs.values()), None))
        return list(filter(differentiable, tensors_in(given)))[:1]
    weight = place.weight
    every = [x for x in tensors_in((args, kwargs)) if differentiable(x) and x.ndim]
    if weight is None or weight.ndim < 2:
        return []
    columns, rows = weight.shape[-1], weight.shape[-2]
    fitting = [x for x in every if x.shape[-1] == columns]
    return fitting or [x for x in every if x.shape[-1] == rows]


def tensors_in(given: Any) -> Iterator[Tensor]:
    """The tensors in nested tuples, lists, dicts and dataclasses."""
    if isinstance(given, PackedSequence):
        yield given.data
    elif isinstance(given, Tensor):
        yield given
    elif isinstance(given, Mapping):
        for value in given.values():
            yield from tensors_in(value)
    elif dataclasses.is_dataclass(given) and not isinstance(given, type):
        yield from tensors_in(vars(given))
    elif isinstance(given, tuple | list):
        for value in given:
            yield from tensors_in(value)


def storage_of(tensor: Tensor) -> torch.UntypedStorage | None:
    """The memory of a tensor; None of one that has none of its own (sparse, nested)."""
    try:
        return tensor.untyped_storage()
    except (RuntimeError, NotImplementedError):
        return None
