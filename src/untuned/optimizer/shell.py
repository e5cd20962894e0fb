"""The shell: a `torch.optim.Optimizer` that runs any rule.

It alone holds state. A parameter group holds what its parameters have in common: their `params`,
`lr`, the rule's hyperparameters, `effective_lr`, and `layer`, their geometry (None: each by its
shape; `Layers`: each its own), which follows parameters wherever PyTorch moves or swaps them.
"""

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, overload

import torch
from torch import Tensor, nn

from untuned.blockwise import Blockwise
from untuned.distributed.shards import is_sharded, local, shard_of
from untuned.distributed.unsupported import check_whole
from untuned.elementwise import Elementwise
from untuned.errors import ParameterError
from untuned.execution.blockwise import block_vector_for
from untuned.execution.project import project_all_
from untuned.execution.stochastic_rounding import key_of
from untuned.geometry.complex import as_real
from untuned.notation import tower_of
from untuned.optimizer import state_dict as saving
from untuned.optimizer.foreign import IgnoredOptions, check_foreign
from untuned.optimizer.group_layers import geometry_of
from untuned.optimizer.multiplier import MultiplierWatch
from untuned.optimizer.nonfinite import NonFiniteGuard
from untuned.optimizer.older_states import regrouped
from untuned.optimizer.param_groups import (
    check_group,
    check_options,
    group_of,
    layer_for,
    listed,
    named,
    tensors_of,
)
from untuned.optimizer.plans import Plans
from untuned.optimizer.step import take_step
from untuned.optimizer.summary import summary
from untuned.rule import Rule
from untuned.tower import Floor, Tower, hyperparameters_of

Params = nn.Module | Iterable[Tensor] | Iterable[tuple[str, Tensor]] | Iterable[dict[str, Any]]


class Optimizer(torch.optim.Optimizer):
    """Runs a rule on parameters.

    Args:
        params: an `nn.Module`, or its `parameters()` or `named_parameters()` themselves (each
            parameter's geometry by the type of layer that owns it); an iterable of tensors or of
            (name, tensor) pairs (geometry by shape: up to one dimension a vector, two a matrix
            (out, in), three a stack of these, more a convolution (out, in, *kernel); of stacked
            networks, as `torch.func.stack_module_state` makes them, each network's); or an
            iterable of dicts, each with any of these as "params", and with options of its own:
            "lr", the rule's hyperparameters, "maximize", "seed", "layer" (a geometry of
            `untuned.geometry` for all its tensors).
        rule: a rule of `untuned.rules`, or a tower of them, such as `Adam() / SGD(lr=1e-5)`, or
            the notation of either as text, such as "agd(gain=2)" or "adam / sgd(lr=1e-5)".
        lr: initial `param_groups[i]["lr"]`. Where the rule finds its own step it is a multiplier,
            1.0 by default. Schedulers act on it, and 0 moves nothing.
        maximize: climb instead of descend.
        seed: seed of the stochastic rounding of bfloat16/float16 weights. Must be equal on all
            ranks; results are reproducible across resume.
        compile: whether kernels of elementwise rules are compiled (`torch.compile`). None: from
            2**20 entries in large tensors. Without a working compiler they run eagerly, and a
            `SlowExecutionWarning` is issued once.
        others: options of other optimizers that have no meaning here, such as `weight_decay`,
            `betas`, `eps`, `fused` and `foreach`, also in groups: they are ignored, and an
            `IgnoredWarning` names them. Those that ask for another step are errors.

    Your groups stay your groups: a module is one, whatever geometries its parameters have.

    A complex parameter is a pair of reals, as in `torch.optim`, with the geometry of its shape.
    A parameter without a gradient stays where it is and does not count as a layer. If any
    gradient holds inf or NaN, no weight moves: `skipped_steps` counts such steps, and the first
    raises a `NonFiniteGradientWarning` that names the parameter.

    Raises:
        UnknownRuleError, UnknownHyperparameterError: an unknown rule, hyperparameter or option.
        DomainError: a hyperparameter, or `lr`, outside its domain.
        ParameterError: no parameters, or a tensor given twice, or not of its layer's shape.
        ParameterTypeError: a parameter that is integer, lazy, sharded and complex, or no tensor.
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
        **others: Any,
    ) -> None:
        self.tower = tower_of(rule)
        check_foreign(others, self._ground)
        self._compile = compile
        self._ignored = IgnoredOptions(self._ground)
        self._multiplier = MultiplierWatch() if self.tower.lr_multiplies else None
        self._guard = NonFiniteGuard()
        self._plans = Plans(self.tower, compile)
        defaults = self.tower.defaults() | {"maximize": maximize, "seed": seed}
        if lr is not None:
            defaults["lr"] = lr
        check_options(defaults, self._ground)
        every = listed(params) or [{"params": []}]
        self._ignored.tell([others, *(each for each in every if isinstance(each, Mapping))])
        super().__init__(every, defaults)
        if not any(group["params"] for group in self.param_groups):
            raise ParameterError(
                "params is empty, or a module without parameters: nothing to train"
            )

    def __repr__(self) -> str:
        """A few lines on what was made of the parameters."""
        return "\n  ".join(self._summary())

    def _summary(self) -> list[str]:
        name = type(self).__name__
        kind = f"{name}, {self.tower}" if name == "Optimizer" else name
        return list(summary(kind, self.param_groups, {"lr": 0, **self._ground.fields()}))

    @property
    def skipped_steps(self) -> int:
        """How many steps were skipped for a gradient that was not finite."""
        return self._guard.skipped

    def hyperparameters(self) -> list[list[dict[str, float]]]:
        """For each group, floor by floor, the rule's hyperparameters by name, in their domains.

        One that each tensor has of its own is listed for each, as `lr[layers.0.weight]`.
        Synchronises with the device once for each group.
        """
        return [
            hyperparameters_of(self.tower, group, [self.state.get(p, {}) for p in group["params"]])
            for group in self.param_groups
        ]

    def train(self) -> None:
        """Do nothing, for code that was written for schedule-free optimizers."""
        self._ignored.tell_of_mode("train", sys._getframe(1))

    def eval(self) -> None:
        """Do nothing, for code that was written for schedule-free optimizers."""
        self._ignored.tell_of_mode("eval", sys._getframe(1))

    def _device(self) -> torch.device:
        """Where the first parameter is."""
        params = (param for group in self.param_groups for param in group["params"])
        return next((param.device for param in params), torch.device("cpu"))

    @property
    def _ground(self) -> Rule:
        """The rule that moves the weights."""
        rule = self.tower.floors[0].rule
        assert isinstance(rule, Rule)  # `tower_of` builds towers of nothing else
        return rule

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group as the constructor takes it."""
        self._ignored.tell([param_group] if isinstance(param_group, Mapping) else [])
        group = group_of(param_group, self._ground)
        check_group(group, self.param_groups, self._ground)
        if len(self.tower.floors) > 1 or not isinstance(self._ground, Elementwise):
            check_whole(str(self.tower), tensors_of(group))
        self.tower.of_group(group).floors[0].check(self.tower.tuned(0))
        super().add_param_group({"effective_lr": 0.0, **named(group, self.param_groups)})
        if self.tower.tuned(0):
            from untuned.towers.state import begin  # a lone rule needs no towers

            begin(self.tower, self.param_groups[-1])
        self._project_(self.param_groups[-1])

    def _project_(self, group: dict[str, Any]) -> None:
        """Project the weights of a new group, if the rule wants them anywhere."""
        rule = self._ground
        projection = type(rule).projection if isinstance(rule, Blockwise) else None
        if projection is None:
            return
        assert isinstance(rule, Blockwise)
        pairs = zip(geometry_of(group), group["params"], strict=True)
        moving = [(layer, param) for layer, param in pairs if param.requires_grad]
        shards = [shard_of(param) for _, param in moving]
        weights = [as_real(local(param)) for _, param in moving]
        layers = [layer_for(layer, param, rule) for layer, param in moving]
        blocks = block_vector_for(rule, layers, weights, shards)
        key = key_of(torch.full((), -1), group["seed"], len(self.param_groups) - 1)
        project_all_(weights, blocks, shards, key, projection)

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Move every parameter that has a gradient; returns what `closure` returns."""
        if torch.compiler.is_compiling():
            if not self._traceable():
                return torch.compiler.disable(self._eagerly)(closure)  # type: ignore[no-any-return]
        elif self._multiplier is not None and self._multiplier.due:
            self._multiplier.step(self.param_groups)
        return take_step(self._plans, self.param_groups, self.state, self._guard, closure)

    def _eagerly(self, closure: Callable[[], float] | None) -> float | None:
        """The step as an opaque call: of its arguments a graph would guard every option."""
        return take_step(self._plans, self.param_groups, self.state, self._guard, closure)

    def _traceable(self) -> bool:
        """Whether a user's `torch.compile` of the whole step may trace this one.

        It may where the rule has no state, and a step is a handful of operations on lists. Other
        rules have kernels that are compiled on their own; inductor miscompiles some of their whole
        steps (torch 2.13: 64-bit numbers on CPU are not written).
        """
        rule = type(self._ground)
        forgets = issubclass(rule, Blockwise) and rule.init is Blockwise.init
        params = (param for group in self.param_groups for param in group["params"])
        return forgets and len(self.tower.floors) == 1 and not any(map(is_sharded, params))

    def state_dict(self) -> dict[str, Any]:
        """As in torch; the geometry as text, for people: it belongs to the model."""
        return saving.saved(super().state_dict(), self.tower, self._device())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As in torch; the geometry stays that of this optimizer's parameters.

        Raises `StateError`, before anything is changed, if the state is of another optimizer, rule
        or tower, or of other tensors.
        """
        layers = [group["layer"] for group in self.param_groups]
        given: dict[str, Any] = {}
        if saving.has_groups(state_dict):
            state_dict = regrouped(state_dict, self.param_groups)

        def check(_: torch.optim.Optimizer, loaded: dict[str, Any]) -> None:
            saving.check(loaded, self.tower, self.param_groups)
            saving.check_shapes(loaded, self._ground, self.param_groups)
            given.update(loaded)

        handle = self.register_load_state_dict_pre_hook(check)  # it sees what other hooks made
        try:
            # torch's distributed loading leaves out "state" where there is none
            super().load_state_dict({"state": {}, **state_dict})
        finally:
            handle.remove()
        names = {"lr", "maximize", "seed", *self._ground.fields()}
        own = {name: value for name, value in self.defaults.items() if name in names}
        for group, layer in zip(self.param_groups, layers, strict=True):
            for name in ("rule", "version"):
                group.pop(name, None)
            group.update({**own, "effective_lr": 0.0, **group, "layer": layer})
        saving.restore_(self, given)
        if self._multiplier is not None and saving.has_moved(given):
            self._multiplier.loaded()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.defaults.pop("differentiable", None)  # torch puts it there; groups would show it
        self._plans = Plans(self.tower, self._compile)
        self.__dict__.setdefault("_ignored", IgnoredOptions(self._ground))  # of older pickles
        self.__dict__.setdefault("_multiplier", None)

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {
            "tower": self.tower,
            "_compile": self._compile,
            "_guard": self._guard,
            "_ignored": self._ignored,
            "_multiplier": self._multiplier,
        }
