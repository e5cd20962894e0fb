"""Errors and warnings. Each names the argument at fault and says how to mend it.

Each class also derives from the built-in that `torch.optim` raises in the same place, so that
code written for torch catches ours.
"""

import sys
import warnings

LIBRARIES = {"torch", "untuned"}


def warn(message: str, category: type[Warning]) -> None:
    """Warn at the line outside of this library and torch that led here."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and _root(frame.f_globals) in LIBRARIES:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def _root(names: dict[str, object]) -> str:
    return str(names.get("__name__")).partition(".")[0]


class UntunedError(Exception):
    """The root of every error that this library raises on purpose."""


class UnknownRuleError(UntunedError, ValueError):
    """The rule does not exist, or its text cannot be parsed."""


class UnknownHyperparameterError(UntunedError, TypeError, ValueError):
    """The rule has no hyperparameter of that name."""


class DomainError(UntunedError, ValueError):
    """A hyperparameter lies outside the interval in which its equation means anything."""


class ParameterError(UntunedError, ValueError):
    """The list of parameters cannot be optimised: it is empty, or names a tensor twice."""


class ParameterTypeError(UntunedError, TypeError, ValueError):
    """A parameter is not a floating-point or complex tensor with memory behind it."""


class StateError(UntunedError, ValueError):
    """A saved state is of another optimizer, rule or tower, or of other tensors, than loads it."""


class SparseGradientError(UntunedError, RuntimeError, TypeError):
    """A gradient is sparse; all rules need dense ones."""


class NonFiniteGradientWarning(UserWarning):
    """A gradient held inf or NaN, so the step was skipped and the weights left as they were."""


class AverageWarning(UserWarning):
    """The passes of a module in training mode cannot be seen, so its weights are not averaged."""


class SlowExecutionWarning(UserWarning):
    """Without a working compiler steps take several times as long."""


class GeometryWarning(UserWarning):
    """A tensor that comes without a module may be of another layer than its shape suggests."""


class TurnsWarning(UserWarning):
    """Optimizers of one tensor each take turns, and none sees the network that these belong to."""


class UnseenInputsWarning(UserWarning):
    """No layer was seen at work, so that data count as of size one whatever they are."""


class IgnoredWarning(UserWarning):
    """An option or a call that other optimizers know has no meaning here, and did nothing."""


class LearningRateWarning(UserWarning):
    """`lr` multiplies steps, and its value looks like another optimizer's learning rate."""


class HorizonWarning(UserWarning):
    """Training goes past its horizon, or something else contradicts it."""


class BareTensorsWarning(UserWarning):
    """`Auto` was given parameters without their module, of which it knows the shapes alone."""
