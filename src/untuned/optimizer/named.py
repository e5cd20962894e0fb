"""The optimizers by name: each is `Optimizer` with a rule."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from untuned import rules
from untuned.optimizer.heads import (
    arrange_as_saved_,
    arrange_by_states_,
    correct_heads_,
    restore_names_,
)
from untuned.optimizer.input_scale import HAS_MOVED, InputScale
from untuned.optimizer.nonfinite import readable
from untuned.optimizer.shell import Optimizer, Params
from untuned.optimizer.state_dict import check

# What the rule remembers of the degree, in the first group: of the tensors that moved
DEGREE_STATE = ("floor0/network.product", "floor0/network.square")


class AGD(Optimizer):
    """Automatic gradient descent (arXiv:2304.05187): the step follows from the architecture.

    Nothing to tune, and no state. Start from `untuned.initialise_(model)`. `untuned.rules.AGD` has
    the equation, `Optimizer` the errors raised.

    Args:
        params: as in `Optimizer`.
        lr: multiplies the automatic step; for schedulers. `effective_lr` in the groups is `lr`
            times the paper's eta, without `gain`.
        gain: makes every step that many times longer (1 in the paper).
        maximize: as in `Optimizer`.
        seed: as in `Optimizer`.
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 1.0,
        gain: float = 1.0,
        *,
        maximize: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(params, rules.AGD(gain), lr=lr, maximize=maximize, seed=seed)


class Nero(Optimizer):
    """Nero, the neuronal rotator (arXiv:2102.07227): neurons turn on their spheres.

    **Constructing it changes the weights**: every neuron (the incoming weights of one output) of
    every tensor of two or more dimensions is balanced to zero mean and unit norm, and projected
    back after each step. Vectors and frozen weights are not. State: one number a neuron.
    `untuned.rules.Nero` has the equation, `Optimizer` the errors raised.

    A neuron is a row of a linear or convolutional weight, also where rows of several gates, or of
    queries, keys and values, stand in one tensor (so is a depthwise filter); an output channel of a
    transposed convolution; an entry's vector in an embedding. A neuron with a single weight is not
    balanced: only its sign would be left.

    Args:
        params: as in `Optimizer`.
        lr: about the angle, in radians, by which a neuron turns in a step; 0 moves nothing, not
            even by projection.
        beta: decay of the mean square of gradients.
        balanced: False leaves weights where they are and takes only the steps; choose it for
            pretrained weights.
        maximize: as in `Optimizer`.
        seed: as in `Optimizer`.
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.01,
        beta: float = 0.999,
        *,
        balanced: bool = True,
        maximize: bool = False,
        seed: int = 0,
    ) -> None:
        rule = rules.Nero(beta=beta) if balanced else rules.FreeNero(beta=beta)
        super().__init__(params, rule, lr=lr, maximize=maximize, seed=seed)


class Auto(Optimizer):
    """Trains a network, of any kind and size, with nothing to tune and no horizon to state.

    Give it the module: it then knows the layers and the head (the last matrix), and measures the
    size of the data in the first steps, by hooks that it then removes. Of bare tensors it knows the
    shapes alone. `effective_lr` in the groups is `lr` times the step size.
    State: one tensor for each matrix, two for each vector, embedding and head. `untuned.rules.Auto`
    has the equations, `Optimizer` the other errors raised.

    Args:
        params: as in `Optimizer`; a module, if there is one.
        lr: multiplies every step; for schedulers.
        horizon: total number of optimizer steps, if known: the step size decays linearly to zero.
            None: it decays adaptively, when successive gradients oppose each other (Kesten's rule).
        maximize: as in `Optimizer`.
        seed: as in `Optimizer`.

    Raises:
        DomainError: a horizon below zero, or an `lr`.
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 1.0,
        *,
        horizon: int | None = None,
        maximize: bool = False,
        seed: int = 0,
    ) -> None:
        self._inputs = InputScale()
        self._moved: list[bool] | None = None  # which tensors the last step moved
        self._settled = False  # whether a step has moved anything, so that heads stay
        super().__init__(params, rules.Auto(horizon or 0), lr=lr, maximize=maximize, seed=seed)
        self._plans.before_step = self._before_step

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As in `Optimizer`."""
        super().add_param_group(param_group)
        if isinstance(param_group["params"], nn.Module):
            self._inputs.watch(param_group["params"])

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As in `Optimizer`; the head is the one that the state was saved with."""
        check(state_dict, self.tower)
        arrange_as_saved_(self.param_groups, state_dict["param_groups"])
        names = [group.get("param_names") for group in self.param_groups]
        super().load_state_dict(state_dict)
        restore_names_(self.param_groups, names)
        arrange_by_states_(self.param_groups, self.state)
        self._inputs.loaded(self.state)
        steps = (state.get(HAS_MOVED) for state in self.state.values())
        self._settled = any(step is not None and (step.is_meta or step > 0) for step in steps)
        self._moved = None

    def _before_step(self) -> None:
        """Take what the passes have shown into state and groups."""
        params = [weight for group in self.param_groups for weight in group["params"]]
        idle = all(_idle(group["lr"]) for group in self.param_groups)
        self._inputs.step(self.state, set(params), idle)
        if idle:
            return
        found = self._inputs
        if not self._settled and found.last is not None:
            correct_heads_(self.param_groups, found.last, found.known, self.state)
            params = [weight for group in self.param_groups for weight in group["params"]]
        self._settled = True
        self._watch_degree(params)

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
        return super().__getstate__() | {"_moved": self._moved, "_settled": self._settled}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        # torch also calls this to load a state
        self.__dict__.setdefault("_inputs", InputScale())
        self.__dict__.setdefault("_moved", None)
        self.__dict__.setdefault("_settled", False)
        self._plans.before_step = self._before_step


def _idle(lr: Tensor | float) -> bool:
    """Whether lr is zero, as in the no-op step that torch takes to allocate optimizer state."""
    return readable(lr) and not lr.any() if isinstance(lr, Tensor) else lr == 0
