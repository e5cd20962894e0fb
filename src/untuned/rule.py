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

    measure     gradients -> one number a block                  (local, then reduced)
    step_size   all measures of all groups -> how far            (AGD: eta)
    update      gradients, measures, state, how far -> Step      (AGD: -gain * eta / L * dual)
    project_    weights that a step has moved -> where they belong   (Nero: zero mean, unit norm)

Either way a step is `coefficient * direction`, and weights are written elsewhere, where schedules,
skipped steps and rounding live.

A *tower* is a rule whose hyperparameters are another rule's weights (arXiv:1909.13371):
`Adam() / SGD(lr=1e-5)` has Adam move the weights, and SGD move Adam's learning rate, betas and
epsilon by their own gradients. Any rule stands on any other, as high as you like: see `tower.py`.

`as_published` is a copy of the rule that computes what its authors' code computes, where that
differs from their paper or from good sense.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from untuned import assignment
from untuned.charts import Chart, chart_of
from untuned.domain import NON_NEGATIVE, Interval
from untuned.errors import DomainError, UnknownHyperparameterError

if TYPE_CHECKING:  # Python 3.10 has it only there
    from typing_extensions import Self

State = dict[str, Tensor]


def domains_of(rule: type[Rule]) -> dict[str, Interval]:
    """The fields of a rule, by name, and the domain of each."""
    return {field.name: field.metadata["domain"] for field in dataclasses.fields(rule)}


def names_of(rule: type[Rule]) -> dict[str, tuple[str, ...]]:
    """The hyperparameters in each field of a rule: the field itself, or those of its tuple."""
    fields = dataclasses.fields(rule)
    return {field.name: field.metadata["names"] or (field.name,) for field in fields}


@dataclass(frozen=True)
class Rule:
    """The base of every rule; see the essay above."""

    # Which hyperparameters can be tuned, and on which chart; None: all, on their domain's
    charts: ClassVar[Mapping[str, Chart] | None] = None

    def __post_init__(self) -> None:
        self._check_tuples(self.fields())
        # tensors are a group's, and were looked at when it was added: a step waits for none
        own = self.hyperparameters().items()
        self.check({name: value for name, value in own if not isinstance(value, Tensor)})

    def fields(self) -> dict[str, Any]:
        """The rule's arguments, by name: what a parameter group holds of it."""
        return {name: getattr(self, name) for name in names_of(type(self))}

    def hyperparameters(self) -> dict[str, Any]:
        """The rule's own numbers, by name: its fields, tuples taken apart (betas: beta1, beta2)."""
        values: dict[str, Any] = {}
        for field, names in names_of(type(self)).items():
            value = getattr(self, field)
            values |= dict(zip(names, value, strict=True)) if len(names) > 1 else {field: value}
        return values

    def defaults(self) -> dict[str, Any]:
        """What a parameter group starts from. Without a learning rate, `lr` is a multiplier."""
        return {"lr": 1.0} | self.fields()

    @classmethod
    def check(cls, values: Mapping[str, Any]) -> None:
        """Raise `DomainError` for the first of `values`, by field or name, outside its domain."""
        cls._check_tuples(values)
        domains = {"lr": NON_NEGATIVE}
        for field, names in names_of(cls).items():
            domains |= dict.fromkeys(names, domains_of(cls)[field])
            if len(names) > 1 and field in values:
                values = {**values, **dict(zip(names, values[field], strict=True))}
        for name in domains.keys() & values.keys():
            domains[name].check(name, values[name])

    @classmethod
    def _check_tuples(cls, values: Mapping[str, Any]) -> None:
        for field, names in names_of(cls).items():
            value = values.get(field, names)
            if len(names) > 1 and not (isinstance(value, Sequence) and len(value) == len(names)):
                raise DomainError(f"{field}={value!r}: give {len(names)} numbers")

    @classmethod
    def build(cls, *values: Any, **named: Any) -> Self:
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
        """The rule with the hyperparameters of one parameter group; what it lacks stays."""
        own = self.fields()
        if all(group.get(name, value) is value for name, value in own.items()):
            return self
        return dataclasses.replace(self, **{name: group.get(name, own[name]) for name in own})

    def replacing(self, values: Mapping[str, Any]) -> Self:
        """The rule with other values of some hyperparameters."""
        every = self.hyperparameters() | dict(values)
        fields: dict[str, Any] = {}
        for field, names in names_of(type(self)).items():
            fields[field] = every[field] if len(names) == 1 else tuple(every[n] for n in names)
        return type(self)(**fields)

    def charted(self) -> dict[str, Chart]:
        """The hyperparameters that can be tuned, and the chart of each."""
        if self.charts is not None:
            return dict(self.charts)
        domains = domains_of(type(self))
        names = names_of(type(self)).items()
        return {name: chart_of(domains[field]) for field, own in names for name in own}

    def assign(self, module: nn.Module) -> Iterator[assignment.Assigned]:
        """Which geometry each parameter of a module has: by the type of layer that owns it."""
        return assignment.by_module(module)

    def check_group(self, names: Sequence[str], tensors: Sequence[Tensor]) -> None:
        """Raise `ParameterError` where the rule cannot work on such a group."""

    def as_published(self) -> Rule:
        """The rule as its authors' code computes it."""
        return self

    def tuning(self, *names: str) -> Floor:
        """Of this rule's hyperparameters, let the floor above tune these only."""
        return Floor(self).tuning(*names)

    def per_tensor(self, *names: str) -> Floor:
        """Let the floor above tune these (and the others as without), each tensor with its own."""
        return Floor(self).per_tensor(*names)

    def __truediv__(self, above: Rule | Floor | Tower) -> Tower:
        """The tower in which `above` tunes this rule's hyperparameters."""
        return Floor(self) / above


@dataclass(frozen=True)
class Floor:
    """A rule in a tower, and which of its hyperparameters the floor above tunes.

    Left to itself that is every one that starts inside its domain; one that starts on the edge
    (a momentum of 0) is switched off and stays so.

    Raises:
        UnknownHyperparameterError: the rule has none of that name, or it cannot be tuned.
        DomainError: a hyperparameter to be tuned starts on the edge of its domain.
    """

    rule: Rule
    names: tuple[str, ...] | None = None  # those tuned; None: all that can be
    own: tuple[str, ...] = ()  # of these, those of which each tensor has its own

    def __post_init__(self) -> None:
        charted = self.rule.charted()
        for name in (*(self.names or ()), *self.own):
            if name not in charted:
                known = ", ".join(charted) or "none"
                raise UnknownHyperparameterError(
                    f"{type(self.rule).__name__} cannot have {name!r} tuned; it can: {known}"
                )
        self.check((*(self.names or ()), *self.own))

    def check(self, names: Iterable[str]) -> None:
        """Raise `DomainError` if one of the named hyperparameters starts where it cannot move."""
        for name in names:
            if not self._inside(name):
                raise DomainError(
                    f"{name}={self.rule.hyperparameters()[name]!r} lies on the edge of its domain, "
                    "where it cannot be tuned: start it inside"
                )

    def tuning(self, *names: str) -> Floor:
        """Let the floor above tune these hyperparameters only."""
        if not names:
            raise UnknownHyperparameterError("tuning() names nothing to tune; write tuning('lr')")
        return dataclasses.replace(self, names=tuple(dict.fromkeys((*names, *self.own))))

    def per_tensor(self, *names: str) -> Floor:
        """Let each tensor have its own of these hyperparameters (which are tuned)."""
        own = tuple(dict.fromkeys((*self.own, *names)))
        chosen = self.names if self.names is None else tuple(dict.fromkeys((*self.names, *own)))
        return dataclasses.replace(self, names=chosen, own=own)

    def tuned(self) -> dict[str, Chart]:
        """The hyperparameters that a floor above tunes, and the chart of each."""
        charted = self.rule.charted()
        if self.names is not None:
            return {name: charted[name] for name in self.names}
        return {name: chart for name, chart in charted.items() if self._inside(name)}

    def as_published(self) -> Floor:
        """The floor as the authors' code computes it."""
        return dataclasses.replace(self, rule=self.rule.as_published())

    def _inside(self, name: str) -> bool:
        field = next(f for f, names in names_of(type(self.rule)).items() if name in names)
        domain = domains_of(type(self.rule))[field]
        return domain.low < float(self.rule.hyperparameters()[name]) < domain.high

    def __str__(self) -> str:
        """What kind of floor it is, whatever its hyperparameters are."""
        calls = [("tuning", self.names), ("per_tensor", self.own)]
        return type(self.rule).__name__ + "".join(f".{n}{v}" for n, v in calls if v)

    def __truediv__(self, above: Rule | Floor | Tower) -> Tower:
        return Tower((self,)) / above


@dataclass(frozen=True)
class Tower:
    """Rules above one another: each tunes the hyperparameters of the one below it.

    Raises:
        UnknownHyperparameterError: `per_tensor` above the ground floor, where no tensors are.
    """

    floors: tuple[Floor, ...]

    def __post_init__(self) -> None:
        for floor in self.floors[1:]:
            if floor.own:
                raise UnknownHyperparameterError(
                    f"per_tensor{floor.own} is for the ground floor, which moves tensors"
                )

    def __truediv__(self, above: Rule | Floor | Tower) -> Tower:
        if isinstance(above, Tower):
            return Tower((*self.floors, *above.floors))
        if not isinstance(above, Rule | Floor):
            return NotImplemented
        return Tower((*self.floors, above if isinstance(above, Floor) else Floor(above)))

    def __str__(self) -> str:
        """What kind of tower it is: two of a kind can read each other's state."""
        return " / ".join(map(str, self.floors))

    def as_published(self) -> Tower:
        """The tower as the authors' code computes it."""
        return Tower(tuple(floor.as_published() for floor in self.floors))

    def defaults(self) -> dict[str, Any]:
        """What a parameter group starts from: what nobody tunes, and `lr`."""
        tuned = self.tuned(0)
        rule = self.floors[0].rule
        names = names_of(type(rule))
        kept = {f: v for f, v in rule.fields().items() if not set(names[f]) <= tuned.keys()}
        return {"lr": 1.0} | kept

    def of_group(self, group: Mapping[str, Any]) -> Tower:
        """The tower whose ground floor has the hyperparameters of one parameter group.

        Where `lr` is tuned, a group's is a multiplier, not where it starts.
        """
        if "lr" in self.tuned(0):
            group = {name: value for name, value in group.items() if name != "lr"}
        ground = dataclasses.replace(self.floors[0], rule=self.floors[0].rule.of_group(group))
        return Tower((ground, *self.floors[1:]))

    def tuned(self, level: int) -> dict[str, Chart]:
        """The hyperparameters of a floor that the one above tunes; the top floor's are fixed."""
        return self.floors[level].tuned() if level + 1 < len(self.floors) else {}
