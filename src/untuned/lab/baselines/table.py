"""The table of baselines: optimizers of other packages, each with its recommended settings.

Those that average weights (schedule-free, DoG) have `eval()`, which swaps in the average, and
`train()`, which swaps it out.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from torch.optim import Optimizer

ParamGroup = Mapping[str, Any]


def _lr(group: ParamGroup) -> float:
    return float(group["lr"])


def _lr_times_d(group: ParamGroup) -> float:
    return float(group["lr"] * group["d"])


def _eta(group: ParamGroup) -> float:
    return float(group["eta"][0]) if "eta" in group else 0.0


@dataclass(frozen=True)
class Baseline:
    """An optimizer class, imported at first use."""

    source: str  # package, reference and settings, in words
    path: str  # the class, such as "torch.optim.AdamW"
    settings: dict[str, Any] = field(default_factory=dict)  # of the constructor
    rate: Callable[[ParamGroup], float] = _lr  # learning rate of a group's last step
    of_module: bool = False  # whether the constructor takes the module instead of its parameters

    def load(self) -> Callable[..., Optimizer]:
        """The class. Raises `ModuleNotFoundError` if its package is not installed."""
        module, _, name = self.path.rpartition(".")
        kind: Callable[..., Optimizer] = getattr(importlib.import_module(module), name)
        return kind

    def build(self, model: nn.Module, settings: Mapping[str, Any]) -> Optimizer:
        """An optimizer of all parameters of a module.

        Args:
            model: the module.
            settings: arguments of the constructor; they override the table's.
        """
        params = model if self.of_module else model.parameters()
        return self.load()(params, **{**self.settings, **settings})


BASELINES = {
    "adamw": Baseline(
        "torch.optim.AdamW at its defaults: lr 0.001, weight decay 0.01", "torch.optim.AdamW"
    ),
    "sgdm": Baseline(
        "torch.optim.SGD, momentum 0.9; lr 0.1, the customary start for networks with norms",
        "torch.optim.SGD",
        {"lr": 0.1, "momentum": 0.9},
    ),
    "muon": Baseline(
        "torch.optim.Muon for hidden matrices, lr 0.02 (kellerjordan.github.io/posts/muon), and "
        "torch.optim.AdamW at a fifth of it for the rest",
        "untuned.lab.baselines.muon.Muon",
        {"lr": 0.02},
        of_module=True,
    ),
    "neroablation": Baseline(
        "Nero with mean=False, norm=False or both (arXiv:2102.07227, figure 1)",
        "untuned.lab.baselines.nero_ablation.NeroAblation",
        of_module=True,
    ),
    "schedulefree": Baseline(
        "schedulefree (arXiv:2405.15682): AdamWScheduleFree at its defaults: lr 0.0025",
        "schedulefree.AdamWScheduleFree",
        rate=lambda group: float(group["scheduled_lr"]),
    ),
    "prodigy": Baseline(
        "prodigyopt (arXiv:2306.06101) at its defaults: lr 1",
        "prodigyopt.Prodigy",
        rate=_lr_times_d,
    ),
    "dadaptadam": Baseline(
        "dadaptation (arXiv:2301.07733): DAdaptAdam at its defaults: lr 1",
        "dadaptation.DAdaptAdam",
        {"lr": 1.0},
        _lr_times_d,
    ),
    "dog": Baseline(
        "dog-optimizer (arXiv:2302.12022): DoG at its defaults, evaluated at its average",
        "untuned.lab.baselines.dog.DoG",
        rate=_eta,
    ),
    "ldog": Baseline(
        "dog-optimizer (arXiv:2302.12022): LDoG at its defaults, evaluated at its average",
        "untuned.lab.baselines.dog.LDoG",
        rate=_eta,
    ),
}
