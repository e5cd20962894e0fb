"""The optimizers by name: each is `Optimizer` with a rule, and says what its users must know."""

from __future__ import annotations

from torch import Tensor

from untuned import rules
from untuned.optimizer import Optimizer, Params


class AGD(Optimizer):
    """Automatic gradient descent (arXiv:2304.05187): the step follows from the architecture.

    Nothing to tune. `lr` multiplies the automatic step and is there for schedulers; `gain`
    makes every step that many times longer (1 in the paper). `effective_lr` in the groups is `lr`
    times the paper's eta, without `gain`. Keeps no state per parameter. Start from
    `untuned.initialise_(model)`. See `untuned.rules.AGD` for the equation, and `Optimizer` for
    `params`, `maximize`, `seed` and the errors raised.
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
    every tensor of two or more dimensions is balanced to zero mean and unit norm, and is brought
    back there after each step. Biases, gains and other vectors, and frozen weights, are not.
    `balanced=False` leaves weights where they are and only takes the steps; on pretrained weights
    that is what you want.

    `lr` is about the angle, in radians, by which a neuron turns in a step; 0 moves nothing, not
    even by projection. State: one number a neuron. See `untuned.rules.Nero` for the equation, and
    `Optimizer` for `params`, `maximize`, `seed` and the errors raised.

    What a neuron is: a row of a linear or convolutional weight, also where rows of several gates,
    or of queries, keys and values, stand in one tensor (a depthwise filter is such a row, too); an
    output channel of a transposed convolution; an entry's vector in an embedding. A neuron with a
    single weight is not balanced: only its sign would be left.
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
