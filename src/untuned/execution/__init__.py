"""How one update of a rule runs on many tensors."""

from collections.abc import Sequence

from torch import Tensor

from untuned.blockwise import Blockwise
from untuned.distributed.shards import Shard
from untuned.elementwise import Elementwise
from untuned.errors import UnknownRuleError
from untuned.execution.blockwise import BlockwiseExecutor
from untuned.execution.elementwise import ElementwiseExecutor
from untuned.execution.executor import Executor, StepInputs
from untuned.geometry.layer import Layer
from untuned.tunable import Tunable

__all__ = ["Executor", "StepInputs", "executor_of"]


def executor_of(
    rule: Tunable,
    tuned: Sequence[str],
    weights: Sequence[Tensor],
    shards: Sequence[Shard | None],
    layer: Layer | None,
    compile: bool | None,
) -> Executor:
    """The executor of a rule's kind.

    Args:
        rule: an `Elementwise` or a `Blockwise` rule.
        tuned: the names of the hyperparameters that a floor above tunes.
        weights: tensors, or this rank's local shards.
        shards: of each tensor its shard, None of a plain one.
        layer: the geometry of all tensors; None: each by its shape.
        compile: whether kernels of elementwise rules run compiled; None: where that pays.

    Raises:
        UnknownRuleError: the rule is of neither kind.
    """
    if isinstance(rule, Elementwise):
        return ElementwiseExecutor(rule, tuned, weights, shards, compile)
    if isinstance(rule, Blockwise):
        return BlockwiseExecutor(rule, tuned, weights, shards, layer)
    raise UnknownRuleError(f"{rule!r} must derive from Elementwise or Blockwise")
