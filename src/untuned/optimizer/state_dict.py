"""State dicts: saved, checked, restored."""

from typing import Any

import torch
from torch import Tensor

from untuned.errors import StateError
from untuned.tower import Tower

VERSION = 1  # of the format: raised when older code would misread a state dict


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


def check(state_dict: dict[str, Any], tower: Tower) -> None:
    """Raise `StateError` for a state of another tower, or of a newer version of this library."""
    for group in state_dict["param_groups"]:
        if int(group.get("version", 0)) > VERSION:
            raise StateError(
                f"the state to load is of version {int(group['version'])}, and this is older "
                f"code, which reads up to {VERSION}: update untuned"
            )
        if group.get("rule", str(tower)) != str(tower):
            raise StateError(
                f"the state to load is of {group['rule']}, this optimizer runs {tower}: "
                "build it with the rule that the state was saved with"
            )


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
