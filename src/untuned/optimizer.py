"""The shell: a `torch.optim.Optimizer` that runs any rule.

It alone holds state. A parameter group holds what its parameters have in common: their `params`,
`lr`, the rule's hyperparameters, `effective_lr`, and `layer`, the geometry that they share (None:
each by its shape). So geometry follows a parameter wherever PyTorch moves or swaps it, and a
module whose parameters need several geometries becomes several groups.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, overload

import torch
from torch import Tensor, nn

from untuned.errors import ParameterError, SparseGradientError
from untuned.execute import project_all_, reduce, write_
from untuned.frame import Frame, depth, frame_of
from untuned.groups import check_groups, groups_of, listed, name_of, named
from untuned.guard import Guard
from untuned.notation import rule_of
from untuned.rule import Leaves, Rule, State

Params = nn.Module | Iterable[Tensor] | Iterable[tuple[str, Tensor]] | Iterable[dict[str, Any]]


class Moving(NamedTuple):
    """The parameters of one group that have a gradient, and what moves them."""

    group: dict[str, Any]
    rule: Rule
    frame: Frame
    indices: list[int]  # in the group
    weights: list[Tensor]
    grads: list[Tensor]


class Optimizer(torch.optim.Optimizer):
    """Runs a rule on parameters.

    Args:
        params: an `nn.Module` (each parameter's geometry by the type of layer that owns it);
            an iterable of tensors or of (name, tensor) pairs (geometry by shape: up to one
            dimension a vector, two a matrix (out, in), more a convolution (out, in, *kernel));
            or an iterable of dicts, each with any of these as "params", and with options of
            its own: "lr", the rule's hyperparameters, "maximize", "layer" (a geometry of
            `untuned.geometry` for all its tensors).
        rule: a rule of `untuned.rules`, or its notation as text, such as "agd(gain=2)".
        lr: what `param_groups[i]["lr"]` starts from. Where the rule finds its own step it is a
            multiplier, 1.0 by default. Schedulers act on it, and 0 moves nothing.
        maximize: climb instead of descend.

    A module whose parameters need several geometries becomes several groups, so that there may be
    more `param_groups` than you gave (schedulers that take a list want one entry for each); lists
    of tensors stay the groups that they are.

    A parameter without a gradient stays where it is and does not count as a layer. If any
    gradient holds inf or NaN, no weight moves: `skipped_steps` counts such steps, and the first
    raises a `NonFiniteGradientWarning` that names the parameter.

    Raises:
        UnknownRuleError, UnknownHyperparameterError: the rule, or what it was given, is unknown.
        DomainError: a hyperparameter, or `lr`, outside its domain.
        ParameterError: no parameters, or a tensor given twice, or not of its layer's shape.
        ParameterTypeError: a parameter that is complex, integer, lazy or no tensor at all.
        SparseGradientError: at `step`.
    """

    def __init__(
        self,
        params: Params,
        rule: Rule | str,
        *,
        lr: float | Tensor | None = None,
        maximize: bool = False,
    ) -> None:
        self.rule = rule_of(rule)
        self._guard = Guard()
        defaults = self.rule.defaults() | {"maximize": maximize}
        if lr is not None:
            defaults["lr"] = lr
        self.rule.check(defaults)
        super().__init__(listed(params) or [{"params": []}], defaults)
        if not any(group["params"] for group in self.param_groups):
            raise ParameterError(
                "params is empty, or a module without parameters: nothing to train"
            )

    @property
    def skipped_steps(self) -> int:
        """How many steps were skipped for a gradient that was not finite."""
        return self._guard.skipped

    def hyperparameters(self) -> list[list[dict[str, float]]]:
        """For each group, floor by floor, the rule's hyperparameters by name."""
        return [
            [{name: float(group[name]) for name in self.rule.hyperparameters()}]
            for group in self.param_groups
        ]

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group as the constructor takes it: one for each geometry, if it is a module."""
        groups = groups_of(param_group, self.rule)
        check_groups(groups, self.param_groups, self.rule)
        for group in named(groups, self.param_groups):
            super().add_param_group({"effective_lr": 0.0, **group})
            weights = [w for w in self.param_groups[-1]["params"] if w.requires_grad]
            frame = self._frame(self.param_groups[-1], weights)
            project_all_(weights, frame, type(self.rule).project_)

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Move every parameter that has a gradient; returns what `closure` returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        moving = [part for part in map(self._moving, self.param_groups) if part.weights]
        if moving:
            self._move(moving)
        return loss

    def _moving(self, group: dict[str, Any]) -> Moving:
        """The part of a group that has gradients; raises `SparseGradientError`."""
        lr = group["lr"]
        if isinstance(lr, float) and not 0 <= lr < math.inf:  # set since, by a schedule or a user
            self.rule.check({"lr": lr})
        indices = [i for i, weight in enumerate(group["params"]) if weight.grad is not None]
        weights = [group["params"][i] for i in indices]
        grads: list[Tensor] = [weight.grad for weight in weights]
        for i, grad in zip(indices, grads, strict=True):
            if grad.layout != torch.strided:
                raise SparseGradientError(
                    f"the gradient of {name_of(group, i)} is sparse; make it dense "
                    "(for an embedding: sparse=False)"
                )
        frame = self._frame(group, weights)
        return Moving(group, self.rule.of_group(group), frame, indices, weights, grads)

    def _frame(self, group: dict[str, Any], weights: list[Tensor]) -> Frame:
        """The blocks of some of a group's tensors, as the rule sees them."""
        shapes = tuple(weight.shape for weight in weights)
        return frame_of(group["layer"], shapes, type(self.rule).view)

    def _states(self, part: Moving) -> list[State]:
        """What the rule keeps of each parameter that moves; begun at its first step."""
        if type(part.rule).init is Rule.init:
            return []
        fresh = [weight for weight in part.weights if weight not in self.state]
        if fresh:
            states = part.rule.init(self._frame(part.group, fresh), fresh)
            self.state.update(zip(fresh, states, strict=True))
        return [self.state[weight] for weight in part.weights]

    def _move(self, moving: list[Moving]) -> None:
        """One step of the rule: measure, find how far to go, write."""
        sizes = reduce([part.rule.measure(part.frame, part.grads) for part in moving])
        leaves = [
            Leaves(part.frame, part.grads, size, self._states(part))
            for part, size in zip(moving, sizes, strict=True)
        ]
        L = depth(part.frame for part in moving)
        eta = self.rule.step_size(leaves, L)
        finite = self._guard.watch(torch.cat(sizes) if len(sizes) > 1 else sizes[0], eta)
        if finite is not True:
            self._guard.report(lambda block: _culprit(moving, sizes, block))
        if finite is False:
            for group in self.param_groups:
                group["effective_lr"] = 0.0
            return
        for part, leaf in zip(moving, leaves, strict=True):
            rate = part.group["lr"] * eta
            part.group["effective_lr"] = rate if finite is True else torch.where(finite, rate, 0)
            step = part.rule.update(leaf, -rate if part.group["maximize"] else rate, L)
            write_(part.weights, step, leaf, finite, type(self.rule).project_)

    def state_dict(self) -> dict[str, Any]:
        """As in torch; the geometry as text, for people: it belongs to the model."""
        state_dict = super().state_dict()
        for group in state_dict["param_groups"]:
            group["layer"] = str(group["layer"])
        return state_dict

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As in torch; the geometry stays that of this optimizer's parameters."""
        layers = [group["layer"] for group in self.param_groups]
        super().load_state_dict(state_dict)
        for group, layer in zip(self.param_groups, layers, strict=True):
            group.update({**self.defaults, "effective_lr": 0.0, **group, "layer": layer})
        # torch casts state to its parameter's type, and shares it with the source: neither will do
        params = [weight for group in self.param_groups for weight in group["params"]]
        indices = [i for group in state_dict["param_groups"] for i in group["params"]]
        for weight, index in zip(params, indices, strict=True):
            for name, saved in state_dict["state"].get(index, {}).items():
                if isinstance(saved, Tensor):
                    self.state[weight][name] = saved.to(weight.device, copy=True)

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"rule": self.rule, "_guard": self._guard}


def _culprit(moving: list[Moving], sizes: list[Tensor], block: int) -> str:
    """The name of the parameter whose block stands at `block` of all groups' sizes."""
    for part, size in zip(moving, sizes, strict=True):
        if block < len(size):
            owner = int(part.frame.owner(torch.device("cpu"))[block])
            return name_of(part.group, part.indices[owner])
        block -= len(size)
    return "a parameter"  # the culprit's group has no gradients any more
