"""DoG and LDoG with the averaging that their authors prescribe (arXiv:2302.12022, appendix)."""

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:  # dog has no type annotations
    from torch.optim import Optimizer as PlainDoG
    from torch.optim import Optimizer as PlainLDoG
else:
    from dog import DoG as PlainDoG
    from dog import LDoG as PlainLDoG

GAMMA = 8.0  # polynomial decay, as in dog.PolynomialDecayAverager


class Averaged:
    """Mixin: `eval()` swaps the weights with their polynomial average, `train()` swaps back.

    After step t = 1, 2, ...: average += (gamma + 1) / (gamma + t) (weights - average).
    """

    param_groups: list[dict[str, Any]]
    state: Any

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step, then the update of the average."""
        loss = super().step(closure)  # type: ignore[misc]
        for group in self.param_groups:
            t = group["averaged"] = group.get("averaged", 0) + 1
            for p in group["params"]:
                average = self.state[p].setdefault("average", torch.zeros_like(p))
                average.lerp_(p, (GAMMA + 1) / (GAMMA + t))
        return loss

    def eval(self) -> None:
        """Swap in the average."""
        self._exchange(to_average=True)

    def train(self) -> None:
        """Swap the weights back in."""
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
    """DoG with averaging."""


class LDoG(Averaged, PlainLDoG):
    """Layer-wise DoG with averaging."""
