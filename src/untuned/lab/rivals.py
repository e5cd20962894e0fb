"""Other people's optimizers, each as its own package recommends it.

Those that average (schedule-free, DoG) are evaluated at the average: `eval()`, then `train()`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from torch.optim import Optimizer

Group = Mapping[str, Any]


def _of(module: str, name: str) -> Callable[[], Callable[..., Optimizer]]:
    """The class, imported only once it is wanted."""

    def load() -> Callable[..., Optimizer]:
        kind: Callable[..., Optimizer] = getattr(importlib.import_module(module), name)
        return kind

    return load


def _whole(model: nn.Module) -> nn.Module:
    return model


def _lr(group: Group) -> float:
    return float(group["lr"])


def _lr_times_d(group: Group) -> float:
    return float(group["lr"] * group["d"])


@dataclass(frozen=True)
class Rival:
    """Where an optimizer comes from and how it is used."""

    source: str
    load: Callable[[], Callable[..., Optimizer]]
    settings: dict[str, Any] = field(default_factory=dict)
    rate: Callable[[Group], float] = _lr  # that the last step of a group used
    takes: Callable[[nn.Module], Any] = nn.Module.parameters  # what its constructor wants


RIVALS = {
    "adamw": Rival(
        "torch.optim.AdamW at its defaults: lr 0.001, weight decay 0.01",
        _of("torch.optim", "AdamW"),
    ),
    "sgdm": Rival(
        "torch.optim.SGD, momentum 0.9; lr 0.1, the customary start for networks with norms",
        _of("torch.optim", "SGD"),
        {"lr": 0.1, "momentum": 0.9},
    ),
    "muon": Rival(
        "torch.optim.Muon for hidden matrices, lr 0.02 (kellerjordan.github.io/posts/muon), and "
        "torch.optim.AdamW at a fifth of it for the rest",
        _of("untuned.lab.muon", "Muon"),
        {"lr": 0.02},
        takes=_whole,
    ),
    "neroablation": Rival(
        "Nero with mean=False, norm=False or both (arXiv:2102.07227, figure 1)",
        _of("untuned.lab.ablation", "NeroAblation"),
        takes=_whole,
    ),
    "schedulefree": Rival(
        "schedulefree (arXiv:2405.15682): AdamWScheduleFree at its defaults: lr 0.0025",
        _of("schedulefree", "AdamWScheduleFree"),
        rate=lambda group: float(group["scheduled_lr"]),
    ),
    "prodigy": Rival(
        "prodigyopt (arXiv:2306.06101) at its defaults: lr 1",
        _of("prodigyopt", "Prodigy"),
        rate=_lr_times_d,
    ),
    "dadaptadam": Rival(
        "dadaptation (arXiv:2301.07733): DAdaptAdam at its defaults: lr 1",
        _of("dadaptation", "DAdaptAdam"),
        {"lr": 1.0},
        rate=_lr_times_d,
    ),
    "dog": Rival(
        "dog-optimizer (arXiv:2302.12022): DoG at its defaults, evaluated at its average",
        _of("untuned.lab.dog", "DoG"),
        rate=lambda group: float(group["eta"][0]) if "eta" in group else 0.0,
    ),
    "ldog": Rival(
        "dog-optimizer (arXiv:2302.12022): LDoG at its defaults, evaluated at its average",
        _of("untuned.lab.dog", "LDoG"),
        rate=lambda group: float(group["eta"][0]) if "eta" in group else 0.0,
    ),
}
