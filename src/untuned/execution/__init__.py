"""How one update of a rule runs on many tensors."""

from typing import Any

from untuned.blockwise import Blockwise
from untuned.elementwise import Elementwise
from untuned.errors import UnknownRuleError
from untuned.execution.blockwise import BlockwiseExecutor
from untuned.execution.elementwise import ElementwiseExecutor
from untuned.execution.executor import Executor, StepInputs

__all__ = ["Executor", "StepInputs", "executor_of"]


def executor_of(rule: Any, *given: Any) -> Executor:
    """The executor of a rule's kind; the arguments are those of `Executor`."""
    if not isinstance(rule, Elementwise | Blockwise):
        raise UnknownRuleError(f"{rule!r} must derive from Elementwise or Blockwise")
    kind = ElementwiseExecutor if isinstance(rule, Elementwise) else BlockwiseExecutor
    return kind(rule, *given)
