"""What a rule is.

A rule is one paper's equation and nothing else: a small frozen dataclass whose fields are its
hyperparameters, and whose methods are functions of plain tensors: pure and differentiable, but for
the projection, which writes weights in place. It knows nothing of modules, devices, ranks,
schedules or state dicts; the optimizer knows those, and nothing of the equation.

There are two kinds, by what a step of one weight depends on.

*Elementwise* rules (`elementwise.py`: SGD, AdaGrad, RMSProp, Adam): on its own gradient and on what
is remembered of it, in the shape of the weight.

    init        weight (*shape) -> state                    tensors (*shape) or 0-d; by default none
    update      grad (*shape), state -> coefficient 0-d, direction (*shape), state     (SGD: -lr, g)

*Blockwise* rules (`blockwise.py`: AGD, Nero, Auto): on the geometry of its layer, and on how far
the other layers go. So a step answers two questions. *How far?* is one number for the whole
network. *Which way?* is a tensor in memory (the gradient) and a coefficient for each block of each
tensor:

    view        layer, shape -> what a block is: a matrix, or a neuron (a class attribute)
    init        blocks, norms of weights (blocks,) -> states: 0-d, or a number a block (*stack)
    state_like_weight   layer, shape -> names of states (*shape), which start at zero
    measure     gradients -> (blocks,), all-reduced over ranks        (default: norms of blocks)
    measures_radial, counter, measures_along    whether also <g, W> (blocks,), which of its states
                (blocks,), and the projection of g on which of those like the weight (blocks,)
    plan_step   measures of all groups, L, state of the network -> eta, L, state of the network;
                by default just the next:
    step_size   measures of all groups, L -> how far, 0-d                               (AGD: eta)
    update      gradients, measures (blocks,), states, eta, L -> Step:
                coefficients (blocks,), directions (*shape), states, decay (blocks,),
                moving (*shape), whose zeros hold entries where they are
                                                            (AGD: -gain * eta / L * dual, g)
    projection  weights that a step has moved -> where they belong   (Nero: zero mean, unit norm)

Both kinds may say which layer each parameter of a module has (`assign`), which groups they cannot
work on (`check_group`), and which of their hyperparameters can be tuned, on which chart (`charts`).

Either way a step is `coefficient * direction`, and weights are written elsewhere, where schedules,
skipped steps and rounding live.

A *tower* is a rule whose hyperparameters are another rule's weights (arXiv:1909.13371):
`Adam() / SGD(lr=1e-5)` has Adam move the weights, and SGD move Adam's learning rate, betas and
epsilon by their own gradients. Any rule stands on any other, as high as you like: see `tower.py`.

`as_published` is a copy of the rule that computes what its authors' code computes, where that
differs from their paper or from good sense.
"""

from collections.abc import Iterator, MutableMapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from untuned.geometry import assignment
from untuned.geometry.layer import Layer, Shape
from untuned.tower import Floor, Tower
from untuned.tunable import Tunable

State = dict[str, Tensor]
States = MutableMapping[Tensor, State]


@dataclass(frozen=True)
class Rule(Tunable):
    """The base of every rule; see the essay above."""

    def tuning(self, *names: str) -> Floor:
        """A floor of which the one above tunes only the named hyperparameters."""
        return Floor(self).tuning(*names)

    def per_tensor(self, *names: str) -> Floor:
        """A floor of which each tensor has its own of the named hyperparameters, all tuned."""
        return Floor(self).per_tensor(*names)

    def __truediv__(self, above: Tunable | Floor | Tower) -> Tower:
        """The tower in which `above` tunes this rule's hyperparameters."""
        return Floor(self) / above

    def assign(self, module: nn.Module) -> Iterator[assignment.Assigned]:
        """The layer of each parameter of a module: by the type of the module that owns it."""
        return assignment.by_module(module)

    @staticmethod
    def by_shape(shape: Shape) -> Layer:
        """The layer of a tensor without a module."""
        return assignment.by_shape(shape)

    def check_group(self, names: Sequence[str], tensors: Sequence[Tensor]) -> None:
        """Refuse a parameter group that the rule cannot work on.

        Args:
            names: of the parameters, for the message.
            tensors: the parameters.

        Raises:
            ParameterError: by default never.
        """
