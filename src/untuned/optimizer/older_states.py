"""Older states, of when a module was a parameter group for each geometry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def regrouped(state_dict: dict[str, Any], groups: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A state whose groups fell apart by geometry, in an optimizer's own groups.

    Args:
        state_dict: the state to load.
        groups: the optimizer's parameter groups.

    Returns:
        The state as it is, if its tensors' names do not tell where they belong, or if its groups
        have tuned numbers of their own (towers), which are no one group's.
    """
    saved = state_dict["param_groups"]
    named = [dict(zip(g.get("param_names", ()), g["params"], strict=False)) for g in saved]
    names = [group.get("param_names", ()) for group in groups]
    theirs = [name for group in named for name in group]
    ours = [name for group in names for name in group]
    tuned = any(name.startswith("floor") and "/" not in name for group in saved for name in group)
    if tuned or len(saved) <= len(groups) or sorted(theirs) != sorted(set(ours)):
        return state_dict
    indices = {name: index for group in named for name, index in group.items()}
    new = []
    for own in names:
        parts = [g for g, its in zip(saved, named, strict=True) if not its.keys().isdisjoint(own)]
        options = {k: v for part in reversed(parts) for k, v in part.items()}
        new.append(options | {"params": [indices[n] for n in own], "param_names": list(own)})
    return {**state_dict, "param_groups": new}
