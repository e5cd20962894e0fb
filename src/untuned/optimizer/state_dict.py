"""State dicts: saved, checked, restored."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from untuned.blockwise import Blockwise
from untuned.errors import StateError
from untuned.geometry.complex import as_real
from untuned.geometry.layer import Layer, Shape
from untuned.geometry.layers import Dense, Embedding
from untuned.optimizer.group_layers import geometry_of
from untuned.optimizer.param_groups import layer_for, name_of
from untuned.tower import Tower
from untuned.tunable import Tunable

VERSION = 1  # of the format: raised when older code would misread a state dict
# In every group of ours: of these, torch's distributed loading keeps some
MARKS = {"rule", "version", "effective_lr"}


def saved(state_dict: dict[str, Any], tower: Tower, device: torch.device) -> dict[str, Any]:
    """A state dict of torch's with plain groups, whose tensors are no longer the optimizer's.

    The version is a 1-d tensor, for torch cannot shard a full state dict without any tensor: that
    of an optimizer without state, such as AGD.
    """
    version = torch.tensor([VERSION], device=device)
    for group in state_dict["param_groups"]:
        group |= {k: v.clone() for k, v in group.items() if isinstance(v, Tensor) and "." in k}
        group |= {"layer": str(group["layer"]), "rule": str(tower), "version": version.clone()}
    return state_dict


def check(state_dict: dict[str, Any], tower: Tower, groups: Sequence[Mapping[str, Any]]) -> None:
    """Raise `StateError` for a state that this optimizer cannot go on from.

    Args:
        state_dict: the state to load.
        tower: of this optimizer.
        groups: its parameter groups.
    """
    if not has_groups(state_dict):
        raise StateError(
            "the state to load is no optimizer's: it has no param_groups; give what "
            "opt.state_dict() returned"
        )
    saved = state_dict["param_groups"]
    _check_rules(saved, tower)
    theirs, ours = ([len(g["params"]) for g in each] for each in (saved, groups))
    if theirs != ours:
        raise StateError(
            f"the state to load is of groups with {theirs} parameters, this optimizer's have "
            f"{ours}: build it from the same parameters, in the same groups"
        )


def has_groups(state_dict: Any) -> bool:
    """Whether it is a state dict at all."""
    saved = state_dict.get("param_groups") if isinstance(state_dict, Mapping) else None
    return isinstance(saved, Sequence) and all(isinstance(group, Mapping) for group in saved)


def _check_rules(saved: Sequence[Mapping[str, Any]], tower: Tower) -> None:
    """Raise `StateError` for groups of another optimizer, tower or newer version."""
    for group in saved:
        if int(group.get("version", 0)) > VERSION:
            raise StateError(
                f"the state to load is of version {int(group['version'])}, and this is older "
                f"code, which reads up to {VERSION}: update untuned"
            )
        if group["params"] and not MARKS & group.keys():
            options = ", ".join(sorted(map(str, group.keys() - {"params", "param_names"})))
            raise StateError(
                "the state to load is another optimizer's, not one of untuned (its groups have "
                f"{options}): go on from the weights alone, with a new optimizer"
            )
        if group.get("rule", str(tower)) != str(tower):
            raise StateError(
                f"the state to load is of {group['rule']}, this optimizer runs {tower}: "
                "build it with the rule that the state was saved with"
            )


def check_shapes(
    state_dict: dict[str, Any], rule: Tunable, groups: Sequence[Mapping[str, Any]]
) -> None:
    """Raise `StateError` if a tensor's saved state is of a tensor of another shape.

    Args:
        state_dict: the state to load, whose groups are like these.
        rule: that moves the weights.
        groups: this optimizer's parameter groups.
    """
    for group, saved in zip(groups, state_dict["param_groups"], strict=True):
        each = zip(group["params"], geometry_of(group), saved["params"], strict=True)
        for place, (weight, layer, index) in enumerate(each):
            shapes = _shapes(rule, layer, weight)
            for name, value in state_dict.get("state", {}).get(index, {}).items():
                own = isinstance(value, Tensor) and "." not in name
                if own and tuple(value.shape) not in shapes:
                    raise StateError(
                        f"the state to load has {name!r} of shape {tuple(value.shape)} for "
                        f"{name_of(group, place)}, a tensor of shape {tuple(weight.shape)}: build "
                        "the network that the state was saved with"
                    )


def _shapes(rule: Tunable, layer: Layer | None, weight: Tensor) -> set[Shape]:
    """The shapes that a rule's state of a tensor may have."""
    shape = tuple(as_real(weight).shape)
    shapes: set[Shape] = {(), shape}
    if isinstance(rule, Blockwise):
        for kind in (layer, Dense(), Embedding()):  # a table may be tied to the head, or have been
            own = layer_for(kind, weight, rule)
            shapes.add(type(rule).view(own, shape).stack)
    return shapes


def restore_(opt: torch.optim.Optimizer, state_dict: dict[str, Any]) -> None:
    """Give each parameter copies of its saved tensors, in their own dtype.

    torch casts them to the parameter's dtype, and shares them with the source.
    """
    params = [weight for group in opt.param_groups for weight in group["params"]]
    indices = [i for group in state_dict["param_groups"] for i in group["params"]]
    for weight, index in zip(params, indices, strict=True):
        for name, value in state_dict["state"].get(index, {}).items():
            if isinstance(value, Tensor):
                opt.state[weight][name] = value.to(weight.device, copy=True)


def has_moved(state_dict: dict[str, Any]) -> bool:
    """Whether a state dict is of an optimizer that has taken steps."""
    rates = [group.get("effective_lr", 0.0) for group in state_dict["param_groups"]]
    return bool(state_dict["state"]) or any(isinstance(rate, Tensor) or rate for rate in rates)
