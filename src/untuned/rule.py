"""What a rule is.

A rule is one paper's equation and nothing else: a small frozen dataclass whose fields are its
hyperparameters, and whose methods are functions of plain tensors: pure and differentiable, but for
the projection, which writes weights in place. It knows nothing of modules, devices, ranks,
schedules or state dicts; the optimizer knows those, and nothing of the equation.

A step answers two questions, and a rule has a method for each.

*How far?* `step_size` is one number for the whole network, in units of the group's `lr`: one where
the rule has a learning rate, and where it has none, what the rule finds by looking at every layer
at once. AGD's `eta` is the latter: how far one layer may go depends on how far the others go.

*Which way?* `update` turns the gradients of one parameter group into `Step`s. A step is never
formed in full: it is a tensor that is already in memory (for AGD the gradient itself) and a
small tensor of coefficients that multiplies it, one for each block of each tensor. So a step of
gradient descent reads a gradient and a weight and writes a weight, whatever the rule; weights
are written in one place (`execute.py`), where schedules, skipped steps and rounding live.

Both see gradients through geometry. A parameter is a stack of *blocks* (a matrix, the gates of
an LSTM, the submatrices of a convolution), laid side by side by a `Frame` in one vector, so that
a rule's arithmetic is a few operations on that vector, however many tensors there are. What a
rule may know of the other layers passes through `measure`: one number for each block. The
optimizer reduces these across shards and ranks, in one collective, before anybody looks at them.

    measure     gradients -> one number a block                  (local, then reduced)
    step_size   all measures of all groups -> how far            (AGD: eta)
    update      gradients, measures, state, how far -> Step      (AGD: -gain * eta / L * dual)
    project_    weights that a step has moved -> where they belong   (Nero: zero mean, unit norm)

`as_published` is a copy of the rule that computes what its authors' code computes, where that
differs from their paper or from good sense.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from torch import Tensor, nn

from untuned import assignment
from untuned.domain import NON_NEGATIVE, Interval
from untuned.errors import UnknownHyperparameterError
from untuned.frame import Frame, View, matrices

if TYPE_CHECKING:  # Python 3.10 has it only there
    from typing_extensions import Self


State = dict[str, Tensor]

# Brings a weight, viewed as blocks, back to where the rule wants it, in place: of its blocks, which
# span the given dimensions, those that the mask says have moved (None: all). The others stay.
Projection = Callable[[Tensor, tuple[int, ...], Tensor | None], None]


class Step(NamedTuple):
    """What becomes of one group: weights gain coefficient times direction, block by block."""

    coefficients: Tensor  # (blocks,)
    directions: Sequence[Tensor]  # one a parameter, of its shape
    states: Sequence[State] = ()  # one a parameter: what changes of it; none if nothing is kept


class Leaves(NamedTuple):
    """The parameters of one group that have a gradient, as a rule sees them."""

    frame: Frame
    grads: Sequence[Tensor]
    sizes: Tensor  # (blocks,): what `measure` found, reduced across shards and ranks
    states: Sequence[State] = ()


def domains_of(rule: type[Rule]) -> dict[str, Interval]:
    """The hyperparameters of a rule, by name, and the domain of each."""
    return {field.name: field.metadata["domain"] for field in dataclasses.fields(rule)}


@dataclass(frozen=True)
class Rule:
    """The base of every rule; see the essay above for what its methods are for."""

    view: ClassVar[View] = staticmethod(matrices)  # what a block is to the rule
    project_: ClassVar[Projection | None] = None  # where weights belong, if not anywhere

    def __post_init__(self) -> None:
        # tensors are a group's, and were looked at when it was added: a step waits for none
        own = self.hyperparameters().items()
        self.check({name: value for name, value in own if not isinstance(value, Tensor)})

    def hyperparameters(self) -> dict[str, Any]:
        """The rule's own numbers, by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def defaults(self) -> dict[str, Any]:
        """What a parameter group starts from. Without a learning rate, `lr` is a multiplier."""
        return {"lr": 1.0} | self.hyperparameters()

    @classmethod
    def check(cls, values: Mapping[str, Any]) -> None:
        """Raise `DomainError` for the first of `values` outside its domain; others pass."""
        domains = domains_of(cls)
        for name, value in values.items():
            domain = domains.get(name, NON_NEGATIVE if name == "lr" else None)
            if domain is not None:
                domain.check(name, value)

    @classmethod
    def build(cls, *values: float, **named: float) -> Self:
        """The rule, from arguments that may be wrong: raises `UnknownHyperparameterError`."""
        names = list(domains_of(cls))
        unknown = [name for name in named if name not in names[len(values) :]]
        if unknown or len(values) > len(names):
            extra = unknown[0] if unknown else values[len(names)]
            known = ", ".join(names) or "none"
            raise UnknownHyperparameterError(
                f"{cls.__name__} has no hyperparameter {extra!r} (or it is given twice); "
                f"it has: {known}"
            )
        return cls(*values, **named)

    def of_group(self, group: Mapping[str, Any]) -> Self:
        """The rule with the hyperparameters of one parameter group."""
        own = self.hyperparameters()
        if all(group[name] is value for name, value in own.items()):
            return self
        return dataclasses.replace(self, **{name: group[name] for name in own})

    def assign(self, module: nn.Module) -> Iterator[assignment.Assigned]:
        """Which geometry each parameter of a module has: by the type of layer that owns it."""
        return assignment.by_module(module)

    def check_group(self, names: Sequence[str], tensors: Sequence[Tensor]) -> None:
        """Raise `ParameterError` where the rule cannot work on such a group."""

    def as_published(self) -> Rule:
        """The rule as its authors' code computes it."""
        return self

    def measure(self, frame: Frame, grads: Sequence[Tensor]) -> Tensor:
        """One number for each block, (blocks,): by default the norm of its gradient."""
        return frame.norms(grads)

    def init(self, frame: Frame, weights: Sequence[Tensor]) -> list[State]:
        """What to keep of each parameter before its first step; a rule without it keeps nothing."""
        raise NotImplementedError

    def step_size(self, groups: Sequence[Leaves], L: int) -> Tensor | float:
        """How far to go, 0-d, in units of `lr`, given the leaves of all groups and depth `L`.

        A rule that has a learning rate goes just that far.
        """
        return 1.0

    def update(self, leaves: Leaves, eta: Tensor | float, L: int) -> Step:
        """The step of one group: `eta` is `step_size`, times the group's `lr`."""
        raise NotImplementedError


class ByShape:
    """Mixed into a rule: geometry by shape alone, as in the authors' code."""

    def assign(self, module: nn.Module) -> Iterator[assignment.Assigned]:
        """Every parameter's geometry by its shape, whoever owns it."""
        return assignment.all_by_shape(module)
