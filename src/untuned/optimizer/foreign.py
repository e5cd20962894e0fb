"""Options that other optimizers have: harmless ones are taken, others refused with the mend.

Training code comes with options of the optimizer that it was written for. Some only say how that
optimizer is computed, or what it needs and ours do not: these are taken, and a warning names them.
Others ask for another step: these are errors.
"""

from collections.abc import Iterable, Mapping
from types import FrameType
from typing import Any

from untuned.errors import IgnoredWarning, UnknownHyperparameterError, warn
from untuned.rule import Rule

HARMLESS = {"amsgrad", "betas", "capturable", "eps", "foreach", "fused", "weight_decay"}
TRAINERS = {"accelerate", "transformers", "untuned"}  # they call `train()` of whatever has it
OTHER_STEPS = {"dampening", "differentiable", "momentum", "nesterov"}


def check_foreign(options: Mapping[str, Any], rule: Rule) -> None:
    """Check arguments of a constructor that are not its own.

    Raises:
        UnknownHyperparameterError: one that belongs to the rule, or that asks for another step.
    """
    kind = type(rule).__name__
    for name, value in options.items():
        if name in rule.fields():
            raise UnknownHyperparameterError(
                f"{name}={value!r}: give it to the rule, as in {kind}({name}={value!r})"
            )
        if name not in HARMLESS and (value or name not in OTHER_STEPS):
            _refuse(name, value, kind)


def check_steps(group: Mapping[str, Any], rule: Rule) -> None:
    """Check a parameter group, which may hold anything else: what asks for another step.

    Raises:
        UnknownHyperparameterError: an option of this kind.
    """
    for name in sorted(OTHER_STEPS & group.keys() - rule.fields().keys()):
        if group[name]:
            _refuse(name, group[name], type(rule).__name__)


def _refuse(name: str, value: Any, kind: str) -> None:
    mend = {
        "differentiable": 'write a tower, such as "adam / sgd", to tune by gradients through steps',
    }.get(name, "leave it out, or run a rule that has it, such as SGD(lr=0.1, momentum=0.9)")
    raise UnknownHyperparameterError(f"{name}={value!r}: {kind} has no such option; {mend}")


class IgnoredOptions:
    """Says, once each, which options are ignored.

    Args:
        rule: its own options are not.
    """

    def __init__(self, rule: Rule) -> None:
        self._told = set(rule.fields())
        self._kind = type(rule).__name__

    def tell(self, given: Iterable[Mapping[str, Any]]) -> None:
        """Warn of options that are set, in a constructor's arguments or parameter groups."""
        names = {name for options in given for name in HARMLESS & options.keys() if options[name]}
        if new := sorted(names - self._told):
            self._told.update(new)
            needs = "it needs no weight decay; " if "weight_decay" in new else ""
            warn(
                f"{', '.join(new)}: {self._kind} has no such option, and ignores what other "
                f"optimizers do with it; {needs}leave it out",
                IgnoredWarning,
            )

    def tell_of_cycles(self) -> None:
        """Warn, once, of a schedule that moves a momentum which the rule does not take from it."""
        if "momentum" not in self._told:
            self._told.add("momentum")
            warn(
                f"the schedule moves a momentum, which {self._kind} ignores: give the schedule "
                "cycle_momentum=False",
                IgnoredWarning,
            )

    def tell_of_mode(self, name: str, caller: FrameType) -> None:
        """Warn of `train()` or `eval()`, once for both, unless a trainer calls by itself."""
        root = str(caller.f_globals.get("__name__")).partition(".")[0]
        if "mode" in self._told or root in TRAINERS:
            return
        self._told.add("mode")
        warn(
            f"{name}() of the optimizer does nothing: {self._kind} has no modes. Leave it out; "
            "model.train() and model.eval() are what counts",
            IgnoredWarning,
        )
