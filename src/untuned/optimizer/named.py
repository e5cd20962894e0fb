"""The optimizers by name: each is `Optimizer` with a rule."""

import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from untuned import rules
from untuned.errors import AverageWarning, ParameterError
from untuned.optimizer.averaging import AVERAGED, WeightAverage
from untuned.optimizer.input_scale import InputScale
from untuned.optimizer.nonfinite import readable
from untuned.optimizer.shell import Optimizer, Params
from untuned.rules.auto import INPUT


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

    Give it the module: it then knows the layers and the head (the last matrix), measures the size
    of the data in the first forward pass, and **averages the weights**. What the module holds
    whenever it is not training, so what is evaluated, saved, copied or exported, is the average;
    its passes in training mode see the iterate (`optimizer.averaging`). Of bare tensors it knows
    the shapes alone, and averages nothing. `effective_lr` in the groups is `lr` times the step
    size. State: two tensors for each matrix (momentum, iterate), three for each vector, embedding
    and head. `untuned.rules.Auto` has the equations, `Optimizer` the other errors raised.

    Args:
        params: as in `Optimizer`; a module, if there is one.
        lr: multiplies every step; for schedulers.
        horizon: total number of optimizer steps, if known: the step size decays linearly to zero.
            None: it decays adaptively, when successive gradients oppose each other (Kesten's rule).
        average: whether the module holds the average of its weights. None: if it is given one, and
            its passes in training mode can be seen.
        maximize: as in `Optimizer`.
        seed: as in `Optimizer`.

    Raises:
        DomainError: a horizon below zero, or an `lr`.
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
    ) -> None:
        self._inputs = InputScale()
        self._average = WeightAverage(self)
        self._may_average = average is not False
        super().__init__(params, rules.Auto(horizon or 0), lr=lr, maximize=maximize, seed=seed)
        if average and not self._average.watching:
            raise ParameterError(
                "average=True needs the module, whose passes decide which weights it holds: "
                "give it as Auto(model)"
            )
        if self._average.watching:
            for options in (self.defaults, *self.param_groups):
                options["power"] = AVERAGED
        self._attend_steps()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As in `Optimizer`."""
        super().add_param_group(param_group)
        module = param_group["params"]
        if isinstance(module, nn.Module):
            self._inputs.watch(module)
            if self._may_average:
                self._average.watch(module)

    def averaged(self) -> AbstractContextManager[None]:
        """A context in which the module holds the average, also amid a pass in training mode."""
        return self._average.averaged()

    def state_dict(self) -> dict[str, Any]:
        """As in `Optimizer`, beside a module that holds the average."""
        self._average.rest()
        return super().state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As in `Optimizer`."""
        self._average.rest()
        super().load_state_dict(state_dict)
        self._average.loaded()

    def _attend_steps(self) -> None:
        self._plans.before_step, self._plans.after_step = self._before_step, self._after_step

    def _before_step(self) -> None:
        self._take_sizes()
        if self._average.active:
            self._average.prepare(self._is_idle())

    def _after_step(self, moved: Sequence[Tensor], finite: bool | Tensor) -> None:
        if not self._average.active:
            return
        if moved and not self._average.met and not self._is_idle():
            self._average.forget()
            for options in (self.defaults, *self.param_groups):
                options["power"] = 1.0
            warnings.warn(
                "gradients arrived, but no forward pass of the module was seen in training mode: "
                "its weights are not averaged. Call the module that was given to Auto, or modules "
                "within it, after model.train(), and give the compiled module to Auto; or say "
                "average=False",
                AverageWarning,
                stacklevel=2,
            )
        else:
            self._average.follow(moved, finite)

    def _is_idle(self) -> bool:
        """Whether no step moves anything, as the one that torch takes to allocate state."""
        return all([_idle(group["lr"]) for group in self.param_groups])

    def _take_sizes(self) -> None:
        """Read the measured sizes of data before the first step that moves anything."""
        if self._inputs.looking and not self._is_idle():
            self._know(self._inputs.taken())

    def _know(self, sizes: Mapping[Tensor, Tensor]) -> None:
        """Store the sizes of data by weight, unless a loaded state has them."""
        for weight in (p for group in self.param_groups for p in group["params"]):
            if weight in sizes:
                size = sizes[weight].to(weight.device)
                known = self.state[weight].get(INPUT, torch.zeros_like(size)).to(size)
                self.state[weight][INPUT] = torch.where(known > 0, known, size)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        # torch also calls this to load a state
        self.__dict__.setdefault("_inputs", InputScale())
        self.__dict__.setdefault("_average", WeightAverage(self))
        self.__dict__.setdefault("_may_average", True)
        self._attend_steps()


def _idle(lr: Tensor | float) -> bool:
    """Whether lr is zero, as in the no-op step that torch takes to allocate optimizer state."""
    return readable(lr) and not lr.any() if isinstance(lr, Tensor) else lr == 0
