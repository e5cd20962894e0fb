"""Auto: the rule of `rules.auto` with what it learns of the module, and the average it keeps."""

import operator
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from torch import Tensor

from untuned import rules
from untuned._tensors import readable
from untuned.averaging.weight_average import AVERAGED, WeightAverage
from untuned.errors import AverageWarning, ParameterError
from untuned.geometry.layer import Layer
from untuned.inference.input_scale import HAS_MOVED, InputScale
from untuned.inference.turns import turns_of
from untuned.optimizer.group_layers import geometry_of
from untuned.optimizer.heads import correct_heads_, restore_heads_
from untuned.optimizer.horizon import HorizonWatch, check_multiplier, keep_stated
from untuned.optimizer.owner import module_of, warn_of_bare, with_module
from untuned.optimizer.param_groups import listed
from untuned.optimizer.plan import BEGUN
from untuned.optimizer.shell import Optimizer, Params
from untuned.optimizer.summary import inferred, summary
from untuned.rules.auto import MOMENTUM

# What the rule remembers of the degree, in the first group: of the tensors that moved
DEGREE_STATE = ("floor0/network.product", "floor0/network.square")


class Auto(Optimizer):
    """Trains a network, of any kind and size, with nothing to tune and no horizon to state.

    Give it the module: it then knows the layers and the head (the last matrix), measures the size
    of the data in the first steps, and **averages the weights**. What the module holds whenever it
    is not training, so what is evaluated, saved, copied or exported, is the average; its passes in
    training mode see the iterate (`averaging.weight_average`). Behind lists of a module's
    parameters, such as groups with and without weight decay, it finds the module; of other tensors
    it knows the shapes alone, and averages nothing. `effective_lr` in the groups is `lr` times the
    step size. State: two tensors for each matrix (momentum, iterate), three for each vector,
    embedding and head. `untuned.rules.Auto` has the equations, `Optimizer` the other errors raised.

    Args:
        params: as in `Optimizer`; a module, if there is one. A `BareTensorsWarning` tells of
            parameters that no one module has.
        lr: multiplies every step; for schedulers.
        horizon: total number of optimizer steps, if known: the step size decays linearly to zero.
            Past it steps stay as short as the last one, and a `HorizonWarning` says so. None: it
            decays adaptively, when successive gradients oppose each other (Kesten's rule).
        average: whether the module holds the average of its weights. None: if it is given one, and
            its passes in training mode can be seen.
        maximize: as in `Optimizer`.
        seed: as in `Optimizer`.
        others: as in `Optimizer`.

    Raises:
        DomainError: a horizon below zero, or an `lr`, or one so large that a horizon was meant.
        ParameterError: `average=True` without a module.
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 1.0,
        *,
        horizon: int | None = None,
        average: bool | None = None,
        maximize: bool = False,
        seed: int = 0,
        **others: Any,
    ) -> None:
        self._inputs = InputScale()
        self._average = WeightAverage(self)
        self._may_average = average is not False
        self._moved: list[bool] | None = None  # which tensors the last step moved
        self._idle = False  # whether the last step moved nothing, as torch's to allocate state
        self._settled = False  # whether a step has moved anything, so that heads stay
        self._horizon = HorizonWatch()
        self._bare = False  # whether parameters came without their module
        check_multiplier(lr)
        rule = rules.Auto(horizon or 0)
        groups = with_module(listed(params))
        super().__init__(groups, rule, lr=lr, maximize=maximize, seed=seed, **others)
        # OneCycleLR and CyclicLR refuse optimizers without; groups have one if a schedule sets it
        self.defaults["momentum"] = MOMENTUM
        if average and not self._average.watching:
            raise ParameterError(
                "average=True needs the module, whose passes decide which weights it holds: "
                "give it as Auto(model)"
            )
        if self._average.watching:
            self._set_power(AVERAGED)
        self._attend_steps()

    def _set_power(self, power: float) -> None:
        """Of the clock, in all groups, and in those to come."""
        for options in (self.defaults, *self.param_groups):
            options["power"] = power

    def _attend_steps(self) -> None:
        self._plans.before_step, self._plans.after_step = self._before_step, self._after_step

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As in `Optimizer`."""
        known = isinstance(param_group, Mapping)
        if known:  # of one module with the others, if there is one, or of one of its own
            present = [weight for group in self.param_groups for weight in group["params"]]
            if present:
                (param_group,) = with_module([param_group], present)
            (param_group,) = with_module([param_group])
        module = module_of(param_group.get("params")) if known else None
        super().add_param_group(param_group)
        self._settled = False  # what is new may be declared a head, too
        group = self.param_groups[-1]
        group.pop("momentum", None)  # a default that is none: see the constructor
        group[BEGUN] = -1  # from the start, for distributed checkpoints want equal groups
        if module is not None:
            if self._may_average:
                self._average.watch(module)
            self._inputs.watch(module)
        elif not (self._bare or "layer" in param_group):
            self._bare = warn_of_bare(group["params"])

    def _summary(self) -> list[str]:
        found = inferred(self.param_groups, self._average.active, self._settled)
        return [*summary(type(self).__name__, self.param_groups, ["lr"]), *found]

    def averaged(self) -> AbstractContextManager[None]:
        """A context in which the module holds the average, also amid a pass in training mode."""
        return self._average.averaged()

    def state_dict(self) -> dict[str, Any]:
        """As in `Optimizer`, beside a module that holds the average."""
        self._average.rest()
        return super().state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As in `Optimizer`; the head is the one that the state was saved with.

        A horizon that this optimizer was built with stays, and a `HorizonWarning` tells where the
        state has another.
        """
        self._average.rest()
        horizons = [group["horizon"] for group in self.param_groups]
        super().load_state_dict(state_dict)
        keep_stated(self.param_groups, horizons)
        restore_heads_(self.param_groups, self.state)
        self._inputs.loaded(self.state)
        steps = (state.get(HAS_MOVED) for state in self.state.values())
        self._settled = any(step is not None and (step.is_meta or step > 0) for step in steps)
        self._moved = None
        self._average.loaded()

    def _before_step(self) -> None:
        """Take what the passes have shown into state and groups."""
        params = [weight for group in self.param_groups for weight in group["params"]]
        rates = map(operator.itemgetter("lr"), self.param_groups)
        self._idle = idle = all(map(_idle, rates))
        self._inputs.step(self.state, set(params), idle)
        if not idle:
            found = self._inputs
            if not self._settled and found.last is not None:
                correct_heads_(self.param_groups, found.last, found.known, self.state)
            self._settled = True
            if "momentum" in self.param_groups[0]:
                self._ignored.tell_of_cycles()
            self._watch_degree(params)
            self._count_turns()
        if self._average.active:
            self._average.prepare(idle)

    def _count_turns(self) -> None:
        """Count the step, and let matrices take turns once it is known how many."""
        found, self._inputs.operations = self._inputs.operations, None
        turns = None if found is None else turns_of(found, self._moving())
        for group in self.param_groups:
            group[BEGUN] = group.get(BEGUN, -1) + 1
            if turns and not group.get("turns"):
                group["turns"] = turns

    def _moving(self) -> Iterator[tuple[Layer | None, Tensor]]:
        """The tensors that are not frozen, with their geometry."""
        for group in self.param_groups:
            for layer, weight in zip(geometry_of(group), group["params"], strict=True):
                if weight.requires_grad:
                    yield layer, weight

    def _after_step(self, moved: Sequence[Tensor], finite: bool | Tensor) -> None:
        """Average the weights that have moved, and look at the horizon."""
        first = self.param_groups[0]
        horizon = first["horizon"]
        if moved and not self._idle and (isinstance(horizon, Tensor) or horizon):
            self._horizon.step(first[BEGUN] + 1, horizon)
        if not self._average.active:
            return
        if not moved or self._average.met or self._idle:
            self._average.follow(moved, finite)
            return
        self._average.forget()
        self._set_power(1.0)
        warnings.warn(
            "gradients arrived, but no forward pass of the module was seen in training mode: its "
            "weights are not averaged. Call the module that was given to Auto, or modules within "
            "it, after model.train(), and give the compiled module to Auto; or say average=False",
            AverageWarning,
            stacklevel=2,
        )

    def _watch_degree(self, params: Sequence[Tensor]) -> None:
        """Begin to measure the degree anew where other tensors move."""
        moved = [weight.grad is not None for weight in params]
        if self._moved is None:  # a loaded state tells what has moved before, not what last
            has_moved = [HAS_MOVED in self.state.get(weight, {}) for weight in params]
            self._moved = [now and has for now, has in zip(moved, has_moved, strict=True)]
        if moved != self._moved:
            self._moved = moved
            for name in DEGREE_STATE:
                if name in self.param_groups[0]:
                    self.param_groups[0][name].zero_()

    def __getstate__(self) -> dict[str, Any]:
        own = {n: getattr(self, n) for n in ("_moved", "_settled", "_bare", "_horizon")}
        return super().__getstate__() | own

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        # torch also calls this to load a state
        fresh = {"_inputs": InputScale(), "_average": WeightAverage(self), "_may_average": True}
        fresh["_horizon"] = HorizonWatch()
        begun = {"_moved": None, "_settled": False, "_bare": False, "_idle": False}
        for name, value in (fresh | begun).items():
            self.__dict__.setdefault(name, value)
        self._attend_steps()


def _idle(lr: Tensor | float) -> bool:
    """Whether lr is zero, as in the no-op step that torch takes to allocate optimizer state."""
    return readable(lr) and not lr.any() if isinstance(lr, Tensor) else lr == 0
