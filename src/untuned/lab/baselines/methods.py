"""Optimizers by their text: `agd`, `adam / sgd(lr=1e-5)`, `adamw(lr=3e-4)`, `muon`.

A baseline goes by its bare name, with keyword arguments; `untuned.notation` reads everything else.
"""

import ast
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

import untuned
from untuned.lab.baselines.schedules import Schedule, scheduler
from untuned.lab.baselines.table import BASELINES, Baseline, ParamGroup
from untuned.lab.errors import UnknownNameError, unknown
from untuned.notation import NAMED, tower_of
from untuned.rules import AGD

# More than a rule: it also measures the module's inputs
AUTO = Baseline("untuned.Auto", "untuned.Auto", rate=("effective_lr",), of_module=True)


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
    try:
        expression = ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        raise UnknownNameError(
            f"optimizer {text!r} cannot be read; write agd, 'adam / sgd(lr=1e-5)' or "
            "'adamw(lr=3e-4)'"
        ) from error
    names = sorted({n.id.lower() for n in ast.walk(expression) if isinstance(n, ast.Name)})
    for name in names:
        if name not in NAMED and name not in BASELINES:
            raise unknown("optimizer", name, [*NAMED, *BASELINES])
    root = expression.func if isinstance(expression, ast.Call) else expression
    name = root.id.lower() if isinstance(root, ast.Name) else ""
    if name == "auto" or name in BASELINES:
        return _baseline_method(text, BASELINES.get(name, AUTO), expression)
    for name in names:
        if name in BASELINES:
            raise UnknownNameError(f"{text!r}: {name} is no rule of untuned's, and has no floors")
    tower = tower_of(text)
    return Method(
        lambda model: untuned.Optimizer(model, tower, compile=compile),
        initialises=isinstance(tower.floors[0].rule, AGD),
    )


def _baseline_method(text: str, baseline: Baseline, expression: ast.expr) -> Method:
    """Of a name, or a call with keyword arguments that are literals."""
    settings: dict[str, Any] = {}
    try:
        if isinstance(expression, ast.Call):
            if expression.args or not all(keyword.arg for keyword in expression.keywords):
                raise ValueError
            settings = {str(k.arg): ast.literal_eval(k.value) for k in expression.keywords}
        kind = baseline.load()
    except ValueError as error:
        raise UnknownNameError(f"{text!r}: settings are written as in adamw(lr=3e-4)") from error
    except ModuleNotFoundError as error:
        raise UnknownNameError(f"{text}: {error.name} is missing: {baseline.source}") from error
    known = [name for name in inspect.signature(kind).parameters if name not in ("self", "params")]
    for name in settings.keys() - set(known):
        raise UnknownNameError(f"{text!r}: {name} is unknown; it takes {', '.join(known)}")

    def make(model: nn.Module) -> Optimizer:
        trainable = [param for param in model.parameters() if param.requires_grad]
        params = model if baseline.of_module else trainable
        return kind(params, **{**baseline.settings, **settings})

    return Method(make, baseline.rate_of)
