"""Which geometry a module's parameters have.

`layers_of` dispatches on the type of the module that owns them; `layers_of.register` adds a type.
The geometry of a parameter that no registered type owns follows from its shape.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized

from untuned._tensors import differentiable
from untuned.geometry.layer import Layer, Shape
from untuned.geometry.layers import Bias, Conv, Dense, Embedding, Gain, Head, Rows, Stack, Vector

# Names of plain layers that hold queries, keys and values in one matrix.
FUSED = {"c_attn", "qkv", "qkv_proj", "to_qkv", "Wqkv"}


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
    transposed = isinstance(module, _ConvTransposeNd)
    stride = math.prod(module.stride) if transposed else 1
    return {"weight": Conv(module.groups, transposed, stride), "bias": Bias()}


@layers_of.register(nn.Embedding)
@layers_of.register(nn.EmbeddingBag)
def _embedding(module: nn.Embedding | nn.EmbeddingBag) -> dict[str, Layer]:
    return {"weight": Embedding(padding=module.padding_idx)}


@layers_of.register(nn.RNNBase)
@layers_of.register(nn.RNNCellBase)
def _recurrent(module: nn.RNNBase | nn.RNNCellBase) -> dict[str, Layer]:
    gates = 4 if isinstance(module, nn.LSTM | nn.LSTMCell) else 1
    gates = 3 if isinstance(module, nn.GRU | nn.GRUCell) else gates
    inner, bias = Dense(gates, inner=True), Bias(gates)
    kinds: dict[str, Layer] = {"weight_ih": Dense(gates), "weight_hh": inner}
    kinds |= {"weight_hr": Dense(inner=True), "bias_ih": bias, "bias_hh": bias}
    names = module._flat_weights_names if isinstance(module, nn.RNNBase) else kinds
    layers = {name: kinds["_".join(name.split("_")[:2])] for name in names}
    upper = {name for name in names if name.startswith("weight_ih_l") and "_l0" not in name}
    return layers | dict.fromkeys(upper, inner)


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


def _fused(known: dict[str, Layer], owner: nn.Module) -> dict[str, Layer]:
    """The layers as stacks of square matrices (two, not three, in cross-attention)."""
    weight, layer = getattr(owner, "weight", None), known.get("weight")
    if not isinstance(layer, Dense) or not isinstance(weight, Tensor):
        return known
    fan_in, fan_out = weight.shape if layer.transposed else weight.shape[::-1]
    parts = fan_out // fan_in if fan_in and fan_out % fan_in == 0 else 1
    return {"weight": Dense(parts, layer.transposed), "bias": Bias(parts)}


def by_module(module: nn.Module) -> Iterator[Assigned]:
    """Every floating-point or complex parameter of a module, once, with its geometry.

    A tensor that several layers share has the geometry of the matrix among them: an embedding
    tied to the output head moves as the head does, and tables of its width match its rows.
    """
    found: dict[Tensor, Assigned] = {}
    tied_widths: set[int] = set()
    for _, _, here in owned(module):
        before = found.setdefault(here.tensor, here)
        kinds = {type(before.layer), type(here.layer)}
        if kinds == {Embedding, Dense}:
            tied_widths.add(here.tensor.shape[1])
            matrix = before.layer if isinstance(before.layer, Dense) else here.layer
            found[here.tensor] = before._replace(layer=matrix)
    for name, tensor, layer in found.values():
        if isinstance(layer, Embedding) and tensor.shape[-1] in tied_widths:
            layer = dataclasses.replace(layer, size=tensor.shape[-1] ** -0.5)
        yield Assigned(name, tensor, layer)


def with_head(module: nn.Module) -> Iterator[Assigned]:
    """As `by_module`, but the last matrix, which may also be an embedding's, is a `Head`."""
    matrices = [here.tensor for _, _, here in owned(module) if here.layer.multiplies()]
    for here in by_module(module):
        is_head = bool(matrices) and here.tensor is matrices[-1]
        yield here._replace(layer=Head(here.layer)) if is_head else here


def owned(module: nn.Module) -> Iterator[tuple[nn.Module, str, Assigned]]:
    """Every floating-point or complex parameter under each of its owners in turn.

    Args:
        module: the root of a tree of modules.

    Returns:
        The owner, the parameter's name there, and the parameter with its name in `module`.
    """
    for path, owner in module.named_modules():
        known = layers_of(owner)
        if path.rpartition(".")[2] in FUSED:
            known = _fused(known, owner)
        for name, tensor in _own_parameters(owner):
            if differentiable(tensor) or tensor.requires_grad:  # else a quantised base model
                # lazy tensors have no shape to go by
                layer = Vector() if is_lazy(tensor) else _known(known, name, tensor)
                yield owner, name, Assigned(f"{path}.{name}".lstrip("."), tensor, layer)


def _own_parameters(owner: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """A module's own parameters, and those of its parametrizations."""
    if not isinstance(owner, ParametrizationList):
        yield from owner.named_parameters(recurse=False)
    if is_parametrized(owner):
        for made, parts in owner.parametrizations.items():  # type: ignore[operator,union-attr]
            for name, tensor in parts.named_parameters(recurse=False):
                yield f"parametrizations.{made}.{name}", tensor


def _known(known: dict[str, Layer], name: str, tensor: Tensor) -> Layer:
    """The layer of a parameter or, if it has several dimensions, of the weight computed from it.

    `parametrizations.weight.original1`, `weight_v` (weight norm) and `weight_orig` (spectral
    norm, pruning) stand for the weight; the sizes beside them are vectors. Else by the shape, in
    which dimensions of size one do not count.
    """
    if name in known:
        return known[name]
    if sum(size != 1 for size in tensor.shape) < 2:
        return Vector()
    made = name.split(".")[1] if name.startswith("parametrizations.") else name
    stem = made if made in known else made.rpartition("_")[0]
    bare = Dense() if tensor.ndim < 3 else Rows() if tensor.shape[0] == 1 else Stack()
    return known.get(stem, bare)


def by_shape(shape: Shape) -> Layer:
    """The geometry of a tensor of which only the shape is known.

    Up to one dimension a `Vector`, two a `Dense`, three a `Stack` of matrices, more a `Conv`.
    """
    return Stack() if len(shape) == 3 else by_shape_as_published(shape)


def by_shape_as_published(shape: Shape) -> Layer:
    """As `by_shape`, but three dimensions are a `Conv`, too, as in AGD's code and in Nero's."""
    return Vector() if len(shape) < 2 else Dense() if len(shape) == 2 else Conv()


def all_by_shape(module: nn.Module, by_shape: Callable[[Shape], Layer]) -> Iterator[Assigned]:
    """Every parameter of a module with the geometry of its shape alone.

    Args:
        module: the root of a tree of modules.
        by_shape: the geometry of a shape.
    """
    for name, tensor in module.named_parameters():
        yield Assigned(name, tensor, by_shape(tuple(tensor.shape)))
