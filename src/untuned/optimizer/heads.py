"""The head among parameter groups: the matrix that was last in the pass, not the last declared.

Groups hold tensors of one geometry, so that another head is an exchange of two tensors between
their groups, before either has moved.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from untuned.geometry import by_shape
from untuned.geometry.layer import Layer
from untuned.geometry.layers import Dense, Embedding, Head
from untuned.optimizer.param_groups import Group
from untuned.rule import State, States

OWN = {"params", "param_names", "layer", "name", "effective_lr"}  # what differs between groups


def correct_heads_(
    groups: Sequence[Group],
    last: Sequence[Tensor],
    known: Sequence[Tensor],
    state: States,
) -> None:
    """Let the head's geometry belong to the last of the matrices that move.

    Args:
        groups: the parameter groups; they change in place.
        last: the matrices that come after all others, the last one first; empty if these are
            frozen.
        known: all matrices that were looked at; heads stated of bare tensors stay.
        state: the optimizer's, of tensors that have not moved.
    """
    heads = [group for group in groups if isinstance(group["layer"], Head)]
    declared = [group for group in heads if _holds_any(group, known)]
    wrong = [group for group in declared if not _holds_any(group, last)]
    if declared and len(wrong) == len(declared) and last:
        for group in declared:
            old = group["params"][0]
            if _exchange_(groups, group, last[0]):
                _forget([old, last[0]], state)
                wrong = [each for each in wrong if each is not group]
                break
    for group in wrong:  # another matrix comes after it
        if any(weight.grad is not None for weight in group["params"]):
            _forget(group["params"], state)
            group["layer"] = group["layer"].kind


def _holds_any(group: Group, tensors: Sequence[Tensor]) -> bool:
    return any(param is tensor for param in group["params"] for tensor in tensors)


def _forget(tensors: Sequence[Tensor], state: States) -> None:
    """Drop what a no-op step has allocated for another geometry."""
    for tensor in tensors:
        own = state.get(tensor, {})
        for name in [name for name in own if "." not in name]:
            del own[name]


def _exchange_(groups: Sequence[Group], head: Group, tensor: Tensor) -> bool:
    """Put a tensor into the head's group, and what was there where it belongs; whether it worked.

    Groups must have the same options: a tensor's learning rate stays.
    """
    home = next((group for group in groups if _holds_any(group, [tensor])), None)
    if home is None or len(head["params"]) != 1 or _options(home) != _options(head):
        return False
    (old,) = head["params"]
    kind = head["layer"].kind
    new_kind = home["layer"] or by_shape(tuple(tensor.shape))
    new_kind = Dense() if isinstance(new_kind, Embedding) else new_kind  # a table tied to the head
    place = next(i for i, param in enumerate(home["params"]) if param is tensor)
    if _fits(home, kind, old):
        target, position = home, place
    elif len(home["params"]) == 1:
        target, position = home, place
        home["layer"] = kind
    else:
        fitting = (g for g in groups if _fits(g, kind, old) and _options(g) == _options(head))
        if (found := next(fitting, None)) is None:
            return False
        target, position = found, len(found["params"])
    _move_(home, place, head, target, position)
    head["layer"] = Head(new_kind)
    return True


def _fits(group: Group, kind: Layer, tensor: Tensor) -> bool:
    """Whether a group's geometry is a tensor's."""
    return (group["layer"] or by_shape(tuple(tensor.shape))) == kind


def _options(group: Group) -> dict[str, Any]:
    return {k: v for k, v in group.items() if k not in OWN and not k.startswith("floor")}


def _move_(home: Group, place: int, head: Group, target: Group, position: int) -> None:
    """The tensor at a place of its home into the head's group, whose own goes to the target."""
    for name in ("params", "param_names"):
        if name in home:
            new, old = home[name].pop(place), head[name].pop()
            head[name].append(new)
            target[name].insert(position, old)


def arrange_as_saved_(groups: Sequence[Group], saved: Sequence[Mapping[str, Any]]) -> None:
    """Arrange tensors as they were when a state was saved, by their names.

    Args:
        groups: the parameter groups; they change in place, if they have the names of those saved.
        saved: the parameter groups of the state.
    """
    names = [list(group.get("param_names", ())) for group in groups]
    theirs = [list(group.get("param_names", ())) for group in saved]
    if names == theirs or sorted(_joined(names)) != sorted(_joined(theirs)):
        return
    if any(len(own) != len(group["params"]) for own, group in zip(theirs, saved, strict=True)):
        return  # torch's distributed loading keeps this optimizer's order, and confuses names
    pairs = (zip(own, g["params"], strict=True) for own, g in zip(names, groups, strict=True))
    tensors = dict(_joined(pairs))
    if len(tensors) != len(_joined(names)) or len(names) != len(theirs):
        return
    layers = _layers_by_text(groups)
    for group, other, own in zip(groups, saved, theirs, strict=True):
        group["params"], group["param_names"] = [tensors[name] for name in own], own
        group["layer"] = layers.get(str(other.get("layer")), group["layer"])


def _joined(lists: Iterable[Iterable[Any]]) -> list[Any]:
    return list(itertools.chain.from_iterable(lists))


def _layers_by_text(groups: Sequence[Group]) -> dict[str, Layer | None]:
    """The geometries that groups may have once heads were exchanged, as a state names them."""
    kinds: set[Layer] = {Dense()}
    for group in groups:
        layer = group["layer"]
        kinds |= {layer.kind if isinstance(layer, Head) else layer} - {None}
        kinds |= {by_shape(tuple(tensor.shape)) for tensor in group["params"]}
    every: list[Layer | None] = [None, *kinds, *map(Head, kinds)]
    return {str(layer): layer for layer in every}


def restore_names_(groups: Sequence[Group], names: Sequence[Any]) -> None:
    """Give groups their own names again where loading has confused them with each other's."""
    every = {name for own in names for name in own or ()}
    for group, own in zip(groups, names, strict=True):
        if own is not None and every.intersection(group.get("param_names", own)):
            group["param_names"] = own


def arrange_by_states_(groups: Sequence[Group], state: Mapping[Tensor, State]) -> None:
    """As `arrange_as_saved_`, of a state that was loaded without groups: heads have squares."""
    for head in [group for group in groups if isinstance(group["layer"], Head)]:
        if any("square" in state.get(p, {}) or p not in state for p in head["params"]):
            continue
        for group in groups:
            for tensor in list(group["params"]):
                layer = group["layer"] or by_shape(tuple(tensor.shape))
                if layer.multiplies() and "square" in state.get(tensor, {}):
                    _exchange_(groups, head, tensor)
                    return
