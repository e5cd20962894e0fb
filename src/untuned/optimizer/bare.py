"""Tensors given without a module: what their shapes say, and where these leave it open."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn.parameter import is_lazy

from untuned.blockwise import Blockwise, ByShape
from untuned.errors import GeometryWarning, warn
from untuned.geometry.layer import Layer, Shape
from untuned.geometry.stacked import Stacked, is_stacked
from untuned.rule import Rule

# by dimensions: what a tensor counts as, and how to say what else it may be
OPEN = {
    3: 'a stack of {} matrices (out, in): of a one-dimensional convolution say "layer": Conv()',
    5: 'a convolution (out, in, *kernel): of {} stacked networks say "layer": Stacked()',
}


def layer_of_bare(given: Sequence[Any], rule: Rule) -> Layer | None:
    """The geometry of a group of tensors, or of (name, tensor) pairs; None: each by its shape.

    Warns, once, of a tensor whose shape may also be another layer's.
    """
    if not isinstance(rule, Blockwise) or isinstance(rule, ByShape):
        return None  # it asks for no geometry, or is to take the authors'
    shapes: list[tuple[str, Shape]] = []
    for place, each in enumerate(given):
        name, tensor = each if isinstance(each, tuple) and len(each) == 2 else (place, each)
        if isinstance(tensor, Tensor) and not is_lazy(tensor):
            shapes.append((repr(name) if name is not place else f"params[{place}]", tensor.shape))
    if is_stacked([tuple(shape) for _, shape in shapes]):
        return Stacked()
    for name, shape in shapes:
        if len(shape) in OPEN:
            warn(
                f"{name}, of shape {tuple(shape)}, comes without a module, and counts as "
                f"{OPEN[len(shape)].format(shape[0])} in its parameter group (untuned.geometry), "
                "or give the module",
                GeometryWarning,
            )
            break
    return None
