"""The optimizers by name: each is `Optimizer` with a rule."""

from typing import Any

from torch import Tensor

from untuned import rules
from untuned.optimizer.shell import Optimizer, Params


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
        others: as in `Optimizer`.
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 1.0,
        gain: float = 1.0,
        *,
        maximize: bool = False,
        seed: int = 0,
        **others: Any,
    ) -> None:
        super().__init__(params, rules.AGD(gain), lr=lr, maximize=maximize, seed=seed, **others)


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
        others: as in `Optimizer`.
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
        **others: Any,
    ) -> None:
        rule = rules.Nero(beta=beta) if balanced else rules.FreeNero(beta=beta)
        super().__init__(params, rule, lr=lr, maximize=maximize, seed=seed, **others)
