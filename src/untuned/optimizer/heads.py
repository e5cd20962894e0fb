"""The head among a network's tensors: the matrix that was last in the pass, not last declared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from untuned.geometry import by_shape
from untuned.geometry.layer import Layer
from untuned.geometry.layers import Dense, Embedding, Head
from untuned.inference.input_scale import HAS_MOVED
from untuned.optimizer.group_layers import Layers, follow_
from untuned.optimizer.param_groups import Group
from untuned.rule import State, States
from untuned.rules.degree import LAST


def correct_heads_(
    groups: Sequence[Group],
    last: Sequence[Tensor],
    known: Sequence[Tensor],
    state: States,
) -> None:
    """Let the head's geometry belong to the last of the matrices that move.

    Args:
        groups: the parameter groups; the geometry of their tensors changes.
        last: the matrices that come after all others, the last one first; empty if these are
            frozen.
        known: all matrices that were looked at; heads stated of bare tensors stay.
        state: the optimizer's; what has moved stays what it is.
    """
    every = list(_assigned(groups))
    declared = [each for each in every if _is_head(each[2]) and _among(each[1], known)]
    fresh = [each for each in declared if HAS_MOVED not in state.get(each[1], {})]
    wrong = [each for each in fresh if not _among(each[1], last)]
    new = last and HAS_MOVED not in state.get(last[0], {})
    if new and declared and len(wrong) == len(declared):
        _declare_(*wrong.pop(0), False, state)
        for each in every:
            if each[1] is last[0]:
                _declare_(*each, True, state)
    for each in wrong:  # another matrix comes after it
        if each[1].grad is not None:
            _declare_(*each, False, state)


def restore_heads_(groups: Sequence[Group], state: States) -> None:
    """Let heads be those that a state was saved with; reads from the device.

    Args:
        groups: the parameter groups; the geometry of their tensors changes.
        state: the optimizer's, just loaded.
    """
    found = [(*each, _was_head(each[2], state.get(each[1], {}))) for each in _assigned(groups)]
    moved = any(was for _, _, _, was in found)
    for group, tensor, layer, was in found:
        is_head = was if was is not None else _is_head(layer) and not moved
        if is_head != _is_head(layer):
            _declare_(group, tensor, layer, is_head, {})


def _was_head(layer: Layer, own: State) -> bool | None:
    """Whether a tensor moved as a head, by its state; None: it has not moved."""
    if isinstance(layer, Embedding):  # tables have squares in any case
        return LAST in own and not own[LAST].is_meta and float(own[LAST]) > 0
    return "square" in own if "momentum" in own and layer.multiplies() else None


def _assigned(groups: Sequence[Group]) -> Iterator[tuple[Group, Tensor, Layer]]:
    """The tensors of modules, with their groups and geometry."""
    for group in groups:
        follow_(group)
        if isinstance(group["layer"], Layers):
            for tensor, layer in zip(group["params"], group["layer"].layers, strict=True):
                yield group, tensor, layer or by_shape(tuple(tensor.shape))


def _is_head(layer: Layer) -> bool:
    return isinstance(layer, Head)


def _among(tensor: Tensor, tensors: Sequence[Tensor]) -> bool:
    return any(tensor is each for each in tensors)


def _declare_(group: Group, tensor: Tensor, layer: Layer, head: bool, state: States) -> None:
    """Make a tensor a head, or none, and drop what a no-op step has allocated for it."""
    kind = layer.kind if isinstance(layer, Head) else layer
    if head:  # a table may be tied to it
        kind = Head(Dense() if isinstance(kind, Embedding) else kind)
    group["layer"] = group["layer"].replacing(tensor, kind)
    own = state.get(tensor, {})
    for name in [name for name in own if "." not in name]:
        del own[name]
