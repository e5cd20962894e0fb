"""The shell: a `torch.optim.Optimizer` that runs any rule.

It alone holds state. A parameter group holds what its parameters have in common: their `params`,
`lr`, the rule's hyperparameters, `effective_lr`, and `layer`, the geometry that they share (None:
each by its shape). So geometry follows a parameter wherever PyTorch moves or swaps it, and a
module whose parameters need several geometries becomes several groups.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor, nn

from untuned.blockwise import Blockwise
from untuned.distributed.shards import is_sharded, local, shard_of
from untuned.distributed.unsupported import check_whole
from untuned.elementwise import Elementwise
from untuned.errors import ParameterError
from untuned.execution.blockwise import block_vector_for
from untuned.execution.stochastic_rounding import Write, key_of
from untuned.execution.write import project_all_
from untuned.notation import tower_of
from untuned.optimizer import state_dict as saving
from untuned.optimizer.nonfinite import NonFiniteGuard
from untuned.optimizer.param_groups import (
    check_groups,
    check_options,
    groups_of,
    listed,
    named,
    tensors_of,
)
from untuned.optimizer.step import Stepping
from untuned.rule import Rule
from untuned.tower import Floor, Tower
from untuned.towers.values import begin, values_of

Params = nn.Module | Iterable[Tensor] | Iterable[tuple[str, Tensor]] | Iterable[dict[str, Any]]


class Optimizer(torch.optim.Optimizer):
    """Runs a rule on parameters.

    Args:
        params: an `nn.Module` (each parameter's geometry by the type of layer that owns it);
            an iterable of tensors or of (name, tensor) pairs (geometry by shape: up to one
            dimension a vector, two a matrix (out, in), more a convolution (out, in, *kernel));
            or an iterable of dicts, each with any of these as "params", and with options of
            its own: "lr", the rule's hyperparameters, "maximize", "seed", "layer" (a geometry
            of `untuned.geometry` for all its tensors).
        rule: a rule of `untuned.rules`, or a tower of them, such as `Adam() / SGD(lr=1e-5)`, or
            the notation of either as text, such as "agd(gain=2)" or "adam / sgd(lr=1e-5)".
        lr: what `param_groups[i]["lr"]` starts from. Where the rule finds its own step it is a
            multiplier, 1.0 by default. Schedulers act on it, and 0 moves nothing.
        maximize: climb instead of descend.
        seed: of the dice by which 16-bit weights (bfloat16, float16) are rounded up or down, so
            that small steps are not lost: the same on all processes, and after a resume.
        compile: whether elementwise rules run compiled (`torch.compile`); None, the default, where
            that pays: from 2**20 entries in large tensors. Without a working compiler they run
            eagerly, and a `SlowExecutionWarning` says so once.

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

    tower: Tower

    def __init__(
        self,
        params: Params,
        rule: Rule | Floor | Tower | str,
        *,
        lr: float | Tensor | None = None,
        maximize: bool = False,
        seed: int = 0,
        compile: bool | None = None,
    ) -> None:
        self.tower = tower_of(rule)
        self._compile = compile
        self._guard = NonFiniteGuard()
        defaults = self.tower.defaults() | {"maximize": maximize, "seed": seed}
        if lr is not None:
            defaults["lr"] = lr
        check_options(defaults, self._ground)
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
        """For each group, floor by floor, the rule's hyperparameters by name, in their domains.

        One that each tensor has of its own is there once for each, as `lr[layers.0.weight]`. Waits
        for the device once for each group.
        """
        return [
            values_of(self.tower, group, [self.state.get(p, {}) for p in group["params"]])
            for group in self.param_groups
        ]

    def _device(self) -> torch.device:
        """Where the first parameter is."""
        params = (param for group in self.param_groups for param in group["params"])
        return next((param.device for param in params), torch.device("cpu"))

    @property
    def _ground(self) -> Rule:
        """The rule that moves the weights."""
        rule = self.tower.floors[0].rule
        assert isinstance(rule, Rule)
        return rule

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group as the constructor takes it: one for each geometry, if it is a module."""
        groups = groups_of(param_group, self._ground)
        check_groups(groups, self.param_groups, self._ground)
        if len(self.tower.floors) > 1 or not isinstance(self._ground, Elementwise):
            check_whole(str(self.tower), tensors_of(groups))
        for group in groups:
            self.tower.of_group(group).floors[0].check(self.tower.tuned(0))
        for group in named(groups, self.param_groups):
            super().add_param_group({"effective_lr": 0.0, **group})
            begin(self.tower, self.param_groups[-1])
            if isinstance(self._ground, Blockwise) and self._ground.projection is not None:
                self._project_(self.param_groups[-1])

    def _project_(self, group: dict[str, Any]) -> None:
        """Bring the weights of a new group to where a blockwise rule wants them."""
        assert isinstance(self._ground, Blockwise)
        weights = [weight for weight in group["params"] if weight.requires_grad]
        shards = [shard_of(weight) for weight in weights]
        frame = block_vector_for(self._ground, group["layer"], [w.shape for w in weights], shards)
        key = key_of(torch.full((), -1), group["seed"], len(self.param_groups) - 1)
        here = [local(weight) for weight in weights]
        project_all_(here, frame, Write(key=key), type(self._ground).projection)

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Move every parameter that has a gradient; returns what `closure` returns."""
        if torch.compiler.is_compiling() and not self._traceable():
            return torch.compiler.disable(self._step)(closure)  # type: ignore[no-any-return]
        return self._step(closure)

    def _traceable(self) -> bool:
        """Whether the compiler of a user's whole step may have ours, too.

        That is where nothing is remembered, and a step is a handful of operations on lists. Others
        have kernels that are compiled on their own; inductor makes wrong code of some if they come
        whole (torch 2.13: numbers of 64 bits on CPU are not written).
        """
        rule = type(self._ground)
        forgets = issubclass(rule, Blockwise) and rule.init is Blockwise.init
        params = (param for group in self.param_groups for param in group["params"])
        return forgets and len(self.tower.floors) == 1 and not any(map(is_sharded, params))

    def _step(self, closure: Callable[[], float] | None) -> float | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._take()
        return loss

    def _take(self) -> None:
        """Move every parameter that has a gradient."""
        plans: dict[int, Any] = self.__dict__.setdefault("_plans", {})
        Stepping(
            self.tower, self.param_groups, self.state, self._guard, self._compile, plans
        ).take()

    def state_dict(self) -> dict[str, Any]:
        """As in torch; the geometry as text, for people: it belongs to the model."""
        return saving.saved(super().state_dict(), self.tower, self._device())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As in torch; the geometry stays that of this optimizer's parameters.

        Raises `StateError`, before anything is changed, if the state is of another rule or tower.
        """
        layers = [group["layer"] for group in self.param_groups]
        hook = saving.Check(self.tower)
        handle = self.register_load_state_dict_pre_hook(hook)  # it sees what other hooks made
        try:
            # torch's distributed loading leaves out "state" where there is none
            super().load_state_dict({"state": {}, **state_dict})
        finally:
            handle.remove()
        for group, layer in zip(self.param_groups, layers, strict=True):
            for name in ("rule", "version"):
                group.pop(name, None)
            group.update({**self.defaults, "effective_lr": 0.0, **group, "layer": layer})
        saving.restore_(self, hook.given)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.defaults.pop("differentiable", None)  # torch puts it there; groups would show it

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {
            "tower": self.tower,
            "_compile": self._compile,
            "_guard": self._guard,
        }
