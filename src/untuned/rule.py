"""What a rule is.

A rule is one paper's equation and nothing else: a small frozen dataclass whose fields are its
hyperparameters, and whose methods are functions of plain tensors: pure and differentiable, but for
the projection, which writes weights in place. It knows nothing of modules, devices, ranks,
schedules or state dicts; the optimizer knows those, and nothing of the equation.

There are two kinds, by what a step of one weight depends on.

*Elementwise* rules (`elementwise.py`: SGD, AdaGrad, RMSProp, Adam): on its own gradient and on what
is remembered of it. One method says it all:

    update      a gradient, its state -> coefficient, direction, state      (SGD: -lr, grad)

*Blockwise* rules (`blockwise.py`: AGD, Nero): on the geometry of its layer, and on how far the
other layers go. So a step answers two questions. *How far?* is one number for the whole network.
*Which way?* is a tensor already in memory (the gradient) and a coefficient for each block:

    measure     gradients -> one number a block         (of what is here, then joined)
    step_size   all measures of all groups -> how far            (AGD: eta)
    update      gradients, measures, state, how far -> Step      (AGD: -gain * eta / L * dual)
    projection  weights that a step has moved -> where they belong   (Nero: zero mean, unit norm)

Either way a step is `coefficient * direction`, and weights are written elsewhere, where schedules,
skipped steps and rounding live.

A *tower* is a rule whose hyperparameters are another rule's weights (arXiv:1909.13371):
`Adam() / SGD(lr=1e-5)` has Adam move the weights, and SGD move Adam's learning rate, betas and
epsilon by their own gradients. Any rule stands on any other, as high as you like: see `tower.py`.

`as_published` is a copy of the rule that computes what its authors' code computes, where that
differs from their paper or from good sense.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from untuned.geometry import assignment
from untuned.tower import Floor, Tower
from untuned.tunable import Tunable

State = dict[str, Tensor]


@dataclass(frozen=True)
class Rule(Tunable):
    """The base of every rule; see the essay above."""

    def tuning(self, *names: str) -> Floor:
        """Of this rule's hyperparameters, let the floor above tune these only."""
        return Floor(self).tuning(*names)

    def per_tensor(self, *names: str) -> Floor:
        """Let the floor above tune these (and the others as without), each tensor with its own."""
        return Floor(self).per_tensor(*names)

    def __truediv__(self, above: Tunable | Floor | Tower) -> Tower:
        """The tower in which `above` tunes this rule's hyperparameters."""
        return Floor(self) / above

    def assign(self, module: nn.Module) -> Iterator[assignment.Assigned]:
        """Which geometry each parameter of a module has: by the type of layer that owns it."""
        return assignment.by_module(module)

    def check_group(self, names: Sequence[str], tensors: Sequence[Tensor]) -> None:
        """Raise `ParameterError` where the rule cannot work on such a group."""
