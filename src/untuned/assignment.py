"""Which geometry a module's parameters have.

Each type of module says it of the parameters that it owns, in `layers_of`; teach it another
type with `layers_of.register`. What no type knows is *bare* and goes by its shape.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from untuned.geometry import (
    Bias,
    Conv,
    Dense,
    Embedding,
    Gain,
    Stack,
    Vector,
    by_shape,
)
from untuned.layer import Layer

# What queries, keys and values in one matrix are called, when a plain layer holds them.
FUSED = {"c_attn", "qkv", "qkv_proj", "query_key_value", "to_qkv", "Wqkv"}


class Assigned(NamedTuple):
    """A parameter with its dotted name and its geometry."""

    name: str
    tensor: Tensor
    layer: Layer


@functools.singledispatch
def layers_of(module: nn.Module) -> dict[str, Layer]:
    """The geometry of the parameters that a module itself owns, by their names."""
    names = {kind.__name__ for kind in type(module).__mro__}
    if "Conv1D" in names and hasattr(module, "nf"):  # transformers': a Linear, stored transposed
        return {"weight": Dense(transposed=True), "bias": Bias()}
    return {}


@layers_of.register(nn.Linear)
@layers_of.register(nn.Bilinear)
def _dense(module: nn.Module) -> dict[str, Layer]:
    return {"weight": Dense(), "bias": Bias()}


@layers_of.register
def _conv(module: _ConvNd) -> dict[str, Layer]:
    stride = 1
    for step in module.stride:
        stride *= step
    transposed = isinstance(module, _ConvTransposeNd)
    weight = Conv(module.groups, transposed, stride if transposed else 1)
    return {"weight": weight, "bias": Bias()}


@layers_of.register(nn.Embedding)
@layers_of.register(nn.EmbeddingBag)
def _embedding(module: nn.Embedding | nn.EmbeddingBag) -> dict[str, Layer]:
    return {"weight": Embedding(padding=module.padding_idx)}


@layers_of.register(nn.RNNBase)
@layers_of.register(nn.RNNCellBase)
def _recurrent(module: nn.RNNBase | nn.RNNCellBase) -> dict[str, Layer]:
    layers: dict[str, Layer] = {}
    for name, tensor in module.named_parameters(recurse=False):
        gates = tensor.shape[0] // module.hidden_size  # LSTM 4, GRU 3, plain 1
        if name.startswith("weight_hr"):  # an LSTM's projection, (projected, hidden)
            layers[name] = Dense()
        else:
            layers[name] = Bias(gates) if name.startswith("bias") else Dense(gates)
    return layers


@layers_of.register
def _attention(module: nn.MultiheadAttention) -> dict[str, Layer]:
    separate = {f"{part}_proj_weight": Dense() for part in "qkv"}
    return {"in_proj_weight": Dense(parts=3), "in_proj_bias": Bias(parts=3), **separate}


@layers_of.register(_NormBase)
@layers_of.register(nn.LayerNorm)
@layers_of.register(nn.GroupNorm)
@layers_of.register(nn.RMSNorm)
def _norm(module: nn.Module) -> dict[str, Layer]:
    return {"weight": Gain(), "bias": Bias()}


def _fused(layer: Layer, tensor: Tensor) -> Layer:
    """The layer as a stack of square matrices (cross-attention fuses two, not three)."""
    if not isinstance(layer, Dense) or tensor.ndim != 2:
        return layer
    fan_in, fan_out = tensor.shape if layer.transposed else tensor.shape[::-1]
    parts = fan_out // fan_in if fan_out % fan_in == 0 else 1
    return Dense(parts, layer.transposed)


def _bare(tensor: Tensor) -> Layer:
    """A parameter of no known owner: by its shape, and dimensions of size one do not count."""
    if sum(size != 1 for size in tensor.shape) < 2:
        return Vector()
    return by_shape(tuple(tensor.shape)) if tensor.ndim < 3 else Stack()


def by_module(module: nn.Module) -> Iterator[Assigned]:
    """Every floating-point parameter of a module, once, with its geometry.

    A tensor that several layers share has the geometry of the matrix among them: an embedding
    tied to the output head moves as the head does, and tables of its width match its rows.
    """
    found: dict[Tensor, Assigned] = {}
    tied_widths: set[int] = set()
    for here in _owned(module):
        before = found.setdefault(here.tensor, here)
        if isinstance(before.layer, Embedding) and isinstance(here.layer, Dense):
            found[here.tensor] = here._replace(name=before.name)
            tied_widths.add(here.tensor.shape[1])
    for name, tensor, layer in found.values():
        if isinstance(layer, Embedding) and tensor.shape[1] in tied_widths:
            layer = dataclasses.replace(layer, size=tensor.shape[1] ** -0.5)
        yield Assigned(name, tensor, layer)


def _owned(module: nn.Module) -> Iterator[Assigned]:
    """Every floating-point parameter under each of its owners in turn."""
    for path, owner in module.named_modules():
        known = layers_of(owner)
        for name, tensor in owner.named_parameters(recurse=False):
            if not (tensor.is_floating_point() or tensor.requires_grad):
                continue  # frozen integers: a quantised base model
            layer = known.get(name) or _bare(tensor)
            if path.rpartition(".")[2] in FUSED:
                layer = _fused(layer, tensor)
            yield Assigned(f"{path}.{name}".lstrip("."), tensor, layer)


def all_by_shape(module: nn.Module) -> Iterator[Assigned]:
    """Every parameter of a module with the geometry of its shape, whoever owns it."""
    for name, tensor in module.named_parameters():
        yield Assigned(name, tensor, by_shape(tuple(tensor.shape)))
