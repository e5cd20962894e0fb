"""Optimizers by their text: `agd`, `adam / sgd(lr=1e-5)`, `adamw(lr=3e-4)`, `torch.optim.RAdam`.

A baseline goes by its bare name, with keyword arguments. So does what is imported: a class or a
function by its path, `torch.optim.RAdam(lr=0.01)` or `mymodule:factory`. `untuned.notation` reads
everything else.
"""

import ast
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

import untuned
from untuned.lab.baselines.schedules import Schedule, scheduler
from untuned.lab.baselines.table import BASELINES, Baseline, ParamGroup
from untuned.lab.errors import ConfigError, UnknownNameError, unknown
from untuned.lab.own import imported
from untuned.notation import NAMED, tower_of
from untuned.rule import Rule
from untuned.rules import AGD
from untuned.tower import Tower

# More than a rule: it also measures the module's inputs
AUTO = Baseline("untuned.Auto", "untuned.Auto", rate=("effective_lr",), of_module=True)
MODULE = re.compile(r"^\s*(\w[\w.]*):(?=[^\W\d])")  # of mymodule:factory(lr=0.1)


@dataclass(frozen=True)
class Method:
    """How to make an optimizer for a model."""

    make: Callable[[nn.Module], Optimizer]  # from a module to the optimizer
    rate: Callable[[ParamGroup], float] = AUTO.rate_of  # of a group's last step
    initialises: bool = False  # whether it prescribes `untuned.initialise_`

    def build(
        self,
        model: nn.Module,
        steps: int,
        schedule: Schedule = "constant",
        pretrained: bool = False,
    ) -> tuple[Optimizer, LRScheduler | None]:
        """Initialise the model if prescribed; make the optimizer and its scheduler.

        Args:
            model: the module to train.
            steps: length of the training.
            schedule: of the learning rate.
            pretrained: whether the model comes trained: it is not initialised then.

        Returns:
            The optimizer, and the scheduler to step after each of its steps, if any.
        """
        if self.initialises and not pretrained:
            untuned.initialise_(model)
        optimizer = self.make(model)
        return optimizer, scheduler(schedule, optimizer, steps)


def method_of(text: str, compile: bool | None = None) -> Method:
    """Read the text of an optimizer.

    Args:
        text: such as "adam / sgd(lr=1e-5)".
        compile: as for `untuned.Optimizer`.

    Raises:
        UnknownNameError: no optimizer of this name, or a baseline has no such argument.
        UntunedError: invalid hyperparameters.
    """
    expression = _parsed(text)
    if path := imported_path(text):
        return _imported_method(text, path, expression, compile)
    names = sorted({n.id.lower() for n in ast.walk(expression) if isinstance(n, ast.Name)})
    for name in names:
        if name not in NAMED and name not in BASELINES:
            raise unknown("optimizer", name, [*NAMED, *BASELINES])
    root = _root(expression)
    name = root.id.lower() if isinstance(root, ast.Name) else ""
    if name == "auto" or name in BASELINES:
        return _baseline_method(text, BASELINES.get(name, AUTO), expression)
    for name in names:
        if name in BASELINES:
            raise UnknownNameError(f"{text!r}: {name} is no rule of untuned's, and has no floors")
    return _tower_method(tower_of(text), compile)


def imported_path(text: str) -> str:
    """The dotted path of an optimizer that is imported; empty for others.

    Args:
        text: such as "torch.optim.RAdam(lr=0.01)" or "mymodule:factory".

    Raises:
        UnknownNameError: the text cannot be read.
    """
    root = _root(_parsed(text))
    path = ast.unparse(root)
    dotted = isinstance(root, ast.Attribute) and re.fullmatch(r"[\w.]+", path)
    ours = path.partition(".")[0].lower() in NAMED and not MODULE.match(text)  # nero.as_published()
    return path if dotted and not ours else ""


def _parsed(text: str) -> ast.expr:
    try:
        return ast.parse(MODULE.sub(r"\1.", text).strip(), mode="eval").body
    except SyntaxError as error:
        raise UnknownNameError(
            f"optimizer {text!r} cannot be read; write agd, 'adam / sgd(lr=1e-5)' or "
            "'adamw(lr=3e-4)'"
        ) from error


def _root(expression: ast.expr) -> ast.expr:
    """What is called, or named."""
    return expression.func if isinstance(expression, ast.Call) else expression


def _tower_method(tower: Tower, compile: bool | None) -> Method:
    return Method(
        lambda model: untuned.Optimizer(model, tower, compile=compile),
        initialises=isinstance(tower.floors[0].rule, AGD),
    )


def _baseline_method(text: str, baseline: Baseline, expression: ast.expr) -> Method:
    """Of a name, or a call with keyword arguments that are literals."""
    try:
        kind = baseline.load()
    except ModuleNotFoundError as error:
        raise UnknownNameError(f"{text}: {error.name} is missing: {baseline.source}") from error
    # what is passed on unnamed are options of other optimizers, which Auto ignores
    named = [p for p in inspect.signature(kind).parameters.values() if p.kind is not p.VAR_KEYWORD]
    settings = baseline.settings | _settings(text, expression, inspect.Signature(named))

    def make(model: nn.Module) -> Optimizer:
        return kind(model if baseline.of_module else _trainable(model), **settings)

    return Method(make, baseline.rate_of, baseline.initialises)


def _imported_method(text: str, path: str, expression: ast.expr, compile: bool | None) -> Method:
    """Of a class of optimizers, as torch has them; a class of rules; a function of the module."""
    module, _, name = path.rpartition(".")
    kind = imported("optimizer", module, name)
    if not callable(kind):
        raise ConfigError(
            f"{text!r} is of type {type(kind).__name__}: name a class, or a function of the module"
        )
    is_class = isinstance(kind, type)
    if is_class and issubclass(kind, Rule):
        return _tower_method(tower_of(kind.build(**_literals(text, expression))), compile)
    settings = _settings(text, expression, inspect.signature(kind))
    takes_parameters = is_class and not issubclass(kind, untuned.Optimizer)

    def make(model: nn.Module) -> Optimizer:
        made = kind(_trainable(model) if takes_parameters else model, **settings)
        if not isinstance(made, Optimizer):
            raise ConfigError(
                f"{text!r} makes {type(made).__name__}: return a torch.optim.Optimizer"
            )
        return made

    return Method(make, lambda group: float(group.get("effective_lr", group.get("lr", 0.0))))


def _trainable(model: nn.Module) -> list[nn.Parameter]:
    return [param for param in model.parameters() if param.requires_grad]


def _literals(text: str, expression: ast.expr) -> dict[str, Any]:
    """The keyword arguments of a call; none of a name."""
    if not isinstance(expression, ast.Call):
        return {}
    try:
        if expression.args or not all(keyword.arg for keyword in expression.keywords):
            raise ValueError
        return {str(k.arg): ast.literal_eval(k.value) for k in expression.keywords}
    except ValueError as error:
        raise UnknownNameError(f"{text!r}: settings are written as in adamw(lr=3e-4)") from error


def _settings(text: str, expression: ast.expr, signature: inspect.Signature) -> dict[str, Any]:
    """Keyword arguments that a class or function takes beside its first, the parameters."""
    settings = _literals(text, expression)
    try:
        signature.bind(None, **settings)
    except TypeError as error:
        known = ", ".join([*signature.parameters][1:]) or "none"
        raise UnknownNameError(f"{text!r}: {error}; there are: {known}") from error
    return settings
