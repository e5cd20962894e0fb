"""The `torch.optim.Optimizer` shell."""

from untuned.optimizer.shell import Optimizer, Params

__all__ = ["Optimizer", "Params"]
