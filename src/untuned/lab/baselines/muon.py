"""Muon as it is used: for hidden matrices, with AdamW for all other parameters.

torch's Muon takes matrices only, so convolutions go to AdamW, with embeddings, the head (the last
`nn.Linear`) and vectors. Its learning rate is a fifth of Muon's.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

SHARE = 0.2  # AdamW's learning rate over Muon's


def hidden_matrices(model: nn.Module) -> list[Tensor]:
    """All matrices of a model except embeddings and the head."""
    outside = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    outside |= {id(module.weight) for module in linear[-1:]}
    return [p for p in model.parameters() if p.ndim == 2 and id(p) not in outside]


class Muon(Optimizer):
    """`torch.optim.Muon` and `torch.optim.AdamW` as one optimizer.

    Args:
        params: the module to train.
        lr: learning rate of Muon; AdamW's is a fifth of it.
        weight_decay: of Muon.
    """

    def __init__(self, params: nn.Module, lr: float = 0.02, weight_decay: float = 0.1) -> None:
        hidden = hidden_matrices(params)
        within = set(map(id, hidden))
        rest = [p for p in params.parameters() if id(p) not in within]
        self._parts: list[Optimizer] = []
        if hidden:
            self._parts.append(torch.optim.Muon(hidden, lr=lr, weight_decay=weight_decay))
        if rest:
            self._parts.append(AdamW(rest, lr=SHARE * lr))
        super().__init__([group for part in self._parts for group in part.param_groups], {})
        self._join()

    def _join(self) -> None:
        """Let both optimizers share this one's groups and state."""
        for part, group in zip(self._parts, self.param_groups, strict=True):
            part.param_groups, part.state = [group], self.state

    def step(self, closure: Any = None) -> Any:
        """One step of both optimizers."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self._parts:
            part.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load, and share groups and state again."""
        super().load_state_dict(state_dict)
        self._join()
