"""What is saved of an optimizer, and how it is loaded."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from untuned.errors import StateError
from untuned.tower import Tower

VERSION = 1  # of what is saved: raised when it changes in a way that older code would misread


def saved(state_dict: dict[str, Any], tower: Tower, device: torch.device) -> dict[str, Any]:
    """A state dict of torch's, its groups made plain, their tensors no longer the optimizer's.

    The version is a tensor of one dimension, for torch cannot spread a whole state over shards in
    which there is none: that of an optimizer that remembers nothing, such as AGD.
    """
    version = torch.tensor([VERSION], device=device)
    for group in state_dict["param_groups"]:
        group |= {k: v.clone() for k, v in group.items() if isinstance(v, Tensor) and "." in k}
        group |= {"layer": str(group["layer"]), "rule": str(tower), "version": version.clone()}
    return state_dict


class Check:
    """A hook before loading that refuses what it cannot read, and keeps what it sees."""

    tower: str

    def __init__(self, tower: Tower) -> None:
        self.tower = str(tower)
        self.given: dict[str, Any] = {}

    def __call__(self, _: torch.optim.Optimizer, state_dict: dict[str, Any]) -> None:
        for group in state_dict["param_groups"]:
            if int(group.get("version", 0)) > VERSION:
                raise StateError(
                    f"the state to load is of version {int(group['version'])}, and this is older "
                    f"code, which reads up to {VERSION}: update untuned"
                )
            if group.get("rule", self.tower) != self.tower:
                raise StateError(
                    f"the state to load is of {group['rule']}, this optimizer runs {self.tower}: "
                    "build it with the rule that the state was saved with"
                )
        self.given = state_dict


def restore_(opt: torch.optim.Optimizer, state_dict: dict[str, Any]) -> None:
    """Give each parameter its saved tensors as they are.

    torch casts them to the parameter's type, and shares them with the source: neither will do.
    """
    params = [weight for group in opt.param_groups for weight in group["params"]]
    indices = [i for group in state_dict["param_groups"] for i in group["params"]]
    for weight, index in zip(params, indices, strict=True):
        for name, value in state_dict["state"].get(index, {}).items():
            if isinstance(value, Tensor):
                opt.state[weight][name] = value.to(weight.device, copy=True)
