"""Refusal of parameters that are one rank's share of the network, unknown to their optimizer.

`ZeroRedundancyOptimizer` gives each rank's optimizer some whole parameters; the first
`FullyShardedDataParallel` pieces of flattened ones. An elementwise rule does not mind. A step that
follows from the whole network would be silently wrong: each rank would find another one.
"""

import sys
from collections.abc import Iterable

from torch import Tensor

from untuned.errors import ParameterError


def check_whole(tower: str, params: Iterable[Tensor]) -> None:
    """Raise `ParameterError` if params come from `ZeroRedundancyOptimizer` or the first FSDP."""
    flattened = any(getattr(param, "_fsdp_flattened", False) for param in params)
    if flattened or _in_zero():
        wrapper = "FullyShardedDataParallel" if flattened else "ZeroRedundancyOptimizer"
        raise ParameterError(
            f"params is one process's share of the parameters, but {tower} needs the whole "
            "network: use FSDP2's fully_shard, which shards its state as well, or "
            f"DistributedDataParallel, in place of {wrapper}"
        )


def _in_zero() -> bool:
    """Whether a `ZeroRedundancyOptimizer` of several ranks is a caller: nothing says so."""
    module = sys.modules.get("torch.distributed.optim.zero_redundancy_optimizer")
    frame = sys._getframe() if module is not None else None
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, module.ZeroRedundancyOptimizer):  # type: ignore[union-attr]
            return bool(caller.world_size > 1)
        frame = frame.f_back
    return False
