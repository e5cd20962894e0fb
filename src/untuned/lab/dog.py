"""DoG and LDoG with the averaging that their authors prescribe (arXiv:2302.12022, appendix)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:  # dog says nothing of its types
    from torch.optim import Optimizer as PlainDoG
    from torch.optim import Optimizer as PlainLDoG
else:
    from dog import DoG as PlainDoG
    from dog import LDoG as PlainLDoG

GAMMA = 8.0  # of the polynomial decay, as in dog.PolynomialDecayAverager


class Averaged:
    """Mixed into an optimizer: `eval()` exchanges the weights for their average, `train()` back.

    After step t, counted from 1, the average moves by (gamma + 1) / (gamma + t) to the weights.
    """

    param_groups: list[dict[str, Any]]
    state: Any

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """A step, and the average's."""
        loss = super().step(closure)  # type: ignore[misc]
        for group in self.param_groups:
            t = group["averaged"] = group.get("averaged", 0) + 1
            for p in group["params"]:
                average = self.state[p].setdefault("average", torch.zeros_like(p))
                average.lerp_(p, (GAMMA + 1) / (GAMMA + t))
        return loss

    def eval(self) -> None:
        """Exchange the weights for their average."""
        self._exchange(to_average=True)

    def train(self) -> None:
        """Put the weights back."""
        self._exchange(to_average=False)

    @torch.no_grad()
    def _exchange(self, to_average: bool) -> None:
        for group in self.param_groups:
            if "averaged" not in group or group.get("at_average", False) == to_average:
                continue
            group["at_average"] = to_average
            for p in group["params"]:
                weights = p.clone()
                p.copy_(self.state[p]["average"])
                self.state[p]["average"].copy_(weights)


class DoG(Averaged, PlainDoG):
    """DoG, averaged."""


class LDoG(Averaged, PlainLDoG):
    """Layer-wise DoG, averaged."""
