"""Optimizers by their text: `agd`, `adam / sgd(lr=1e-5)`, `adamw(lr=3e-4)`, `muon`.

A rival (`untuned.lab.rivals`) goes by its bare name; everything else is untuned's own notation.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

import untuned
from untuned.lab.errors import UnknownNameError, unknown
from untuned.lab.rivals import RIVALS, Rival
from untuned.lab.schedules import Schedule, scheduler
from untuned.notation import NAMED, tower_of
from untuned.rules import AGD

Group = Mapping[str, Any]

# Not just a rule: it looks at what goes into the module
AUTO = Rival(
    "untuned.Auto",
    lambda: untuned.Auto,
    rate=lambda group: float(group["effective_lr"]),
    takes=lambda model: model,
)


@dataclass(frozen=True)
class Method:
    """How to make an optimizer for a model."""

    text: str
    make: Callable[[nn.Module], Optimizer]
    rate: Callable[[Group], float]  # the learning rate that the last step of a group used
    initialises: bool = False  # whether it prescribes the papers' initialisation

    def build(
        self, model: nn.Module, steps: int, schedule: Schedule = "constant"
    ) -> tuple[Optimizer, LRScheduler | None]:
        """The optimizer, and the scheduler to step after each of its `steps` steps.

        A method that prescribes an initialisation initialises the model anew.
        """
        if self.initialises:
            untuned.initialise_(model)
        optimizer = self.make(model)
        return optimizer, scheduler(schedule, optimizer, steps)


def parse(text: str, compile: bool | None = None) -> Method:
    """The method that a text stands for; `compile` is what `untuned.Optimizer` takes.

    Raises:
        UnknownNameError: no optimizer of that name, or no such setting of a rival.
        UntunedError: what untuned's notation raises for hyperparameters.
    """
    expression = _expression(text)
    names = {node.id.lower() for node in ast.walk(expression) if isinstance(node, ast.Name)}
    known = [*NAMED, *RIVALS]
    for name in sorted(names.difference(known)):
        raise unknown("optimizer", name, known)
    call = expression if isinstance(expression, ast.Call) else None
    root = call.func if call else expression
    name = root.id.lower() if isinstance(root, ast.Name) else ""
    if name == "auto":
        return _rival(text, AUTO, _settings(text, call))
    if name in RIVALS:
        return _rival(text, RIVALS[name], _settings(text, call))
    for name in sorted(names & RIVALS.keys()):
        raise UnknownNameError(f"{text!r}: {name} is no rule of untuned's, and has no floors")
    tower = tower_of(text)
    return Method(
        text,
        lambda model: untuned.Optimizer(model, tower, compile=compile),
        lambda group: float(group["effective_lr"]),
        isinstance(tower.floors[0].rule, AGD),
    )


def _expression(text: str) -> ast.expr:
    try:
        return ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        raise UnknownNameError(
            f"optimizer {text!r} cannot be read; write agd, 'adam / sgd(lr=1e-5)' or "
            "'adamw(lr=3e-4)'"
        ) from error


def _settings(text: str, call: ast.Call | None) -> dict[str, Any]:
    """The named arguments of a call."""
    if call is None:
        return {}
    try:
        if call.args or not all(keyword.arg for keyword in call.keywords):
            raise ValueError
        return {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
    except ValueError as error:
        raise UnknownNameError(f"{text!r}: settings are written as in adamw(lr=3e-4)") from error


def _rival(text: str, rival: Rival, given: dict[str, Any]) -> Method:
    try:
        kind = rival.load()
    except ModuleNotFoundError as error:
        raise UnknownNameError(f"{text}: {error.name} is missing: {rival.source}") from error
    taken = [name for name in inspect.signature(kind).parameters if name not in ("self", "params")]
    for name in given.keys() - set(taken):
        raise UnknownNameError(f"{text!r}: {name} is unknown; it takes {', '.join(taken)}")
    settings = {**rival.settings, **given}
    return Method(text, lambda model: kind(rival.takes(model), **settings), rival.rate)
