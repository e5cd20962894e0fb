"""What `print(opt)` says: a few lines on what an optimizer has made of its parameters."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from untuned._tensors import as_number
from untuned.geometry import by_shape
from untuned.geometry.layer import Layer
from untuned.geometry.layers import Head
from untuned.optimizer.group_layers import geometry_of
from untuned.optimizer.param_groups import name_of

Groups = Sequence[Mapping[str, Any]]


def summary(kind: str, groups: Groups, options: Iterable[str]) -> Iterator[str]:
    """Lines on an optimizer; reads nothing from the device.

    Args:
        kind: the optimizer's.
        groups: the parameter groups.
        options: those of groups that are listed.
    """
    every = [
        (layer or by_shape(tuple(param.shape)), param)
        for group in groups
        for layer, param in zip(geometry_of(group), group["params"], strict=True)
    ]
    kinds = Counter(type(_kind(layer)).__name__ for layer, _ in every)
    entries = sum(param.numel() for _, param in every)
    frozen = sum(not param.requires_grad for _, param in every)
    yield kind
    still = f" ({frozen} frozen)" if frozen else ""
    yield f"parameters: {len(every)} tensors{still}, {entries:,} entries"
    yield "geometry: " + ", ".join(f"{count} {name}" for name, count in kinds.most_common())
    for name in options:
        values = [_short(group[name]) for group in groups if name in group]
        if values:
            yield f"{name}: " + ", ".join(dict.fromkeys(values))


def inferred(groups: Groups, averaged: bool, settled: bool) -> Iterator[str]:
    """Lines on what `Auto` has found, and on what it was told.

    Args:
        groups: the parameter groups.
        averaged: whether the module holds the average of its weights.
        settled: whether the head is known from a pass, and not only from the declaration.
    """
    heads = [
        name_of(group, i).strip("'")
        for group in groups
        for i, layer in enumerate(geometry_of(group))
        if isinstance(layer, Head)
    ]
    sure = "" if settled or not heads else " (declared last; the first pass may show another)"
    yield "head: " + (", ".join(heads) or "none") + sure
    horizon = as_number(groups[0]["horizon"])
    stated = isinstance(horizon, Tensor) or horizon
    yield f"horizon: {_short(horizon)}" if stated else "horizon: none, steps shorten by themselves"
    yield "average: " + ("the module holds it" if averaged else "none")


def _kind(layer: Layer) -> Layer:
    return layer.kind if isinstance(layer, Head) else layer


def _short(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor on {value.device}"
    return f"{value:g}" if isinstance(value, int | float) else str(value)
