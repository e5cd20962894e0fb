"""The table of baselines: optimizers of other packages, each with its recommended settings.

Those that average weights (schedule-free, DoG) have `eval()`, which swaps in the average, and
`train()`, which swaps it out.
"""

import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch.optim import Optimizer

ParamGroup = Mapping[str, Any]


@dataclass(frozen=True)
class Baseline:
    """An optimizer class, imported at first use."""

    source: str  # package, reference and settings, in words
    path: str  # the class, such as "torch.optim.AdamW"
    settings: dict[str, Any] = field(default_factory=dict)  # of the constructor
    rate: tuple[str, ...] = ("lr",)  # entries of a group whose product is its learning rate
    of_module: bool = False  # whether the constructor takes the module instead of its parameters
    initialises: bool = False  # whether the module gets AGD's initial weights

    def load(self) -> Callable[..., Optimizer]:
        """The class. Raises `ModuleNotFoundError` if its package is not installed."""
        module, _, name = self.path.rpartition(".")
        kind: Callable[..., Optimizer] = getattr(importlib.import_module(module), name)
        return kind

    def rate_of(self, group: ParamGroup) -> float:
        """The learning rate of a group's last step; DoG has a list, which is missing before it."""
        values = (group.get(name, 0.0) for name in self.rate)
        return math.prod(float(v[0] if isinstance(v, list) else v) for v in values)


BASELINES = {
    "adamw": Baseline(
        "torch.optim.AdamW at its defaults: lr 0.001, weight decay 0.01", "torch.optim.AdamW",
    ),
    "sgdm": Baseline(
        "torch.optim.SGD, momentum 0.9; lr 0.1, the customary start for networks with norms",
        "torch.optim.SGD", {"lr": 0.1, "momentum": 0.9},
    ),
    "muon": Baseline(
        "torch.optim.Muon for hidden matrices, lr 0.02 (kellerjordan.github.io/posts/muon), and "
        "torch.optim.AdamW at a fifth of it for the rest",
        "untuned.lab.baselines.muon.Muon", {"lr": 0.02}, of_module=True,
    ),
    "autoinitialised": Baseline(
        "untuned.Auto after untuned.initialise_: from AGD's initial weights", "untuned.Auto",
        rate=("effective_lr",), of_module=True, initialises=True,
    ),
    "neroablation": Baseline(
        "Nero with mean=False, norm=False or both (arXiv:2102.07227, figure 1)",
        "untuned.lab.baselines.nero_ablation.NeroAblation", of_module=True,
    ),
    "schedulefree": Baseline(
        "schedulefree (arXiv:2405.15682): AdamWScheduleFree at its defaults: lr 0.0025",
        "schedulefree.AdamWScheduleFree", rate=("scheduled_lr",),
    ),
    "prodigy": Baseline(
        "prodigyopt (arXiv:2306.06101) at its defaults: lr 1",
        "prodigyopt.Prodigy", rate=("lr", "d"),
    ),
    "dadaptadam": Baseline(
        "dadaptation (arXiv:2301.07733): DAdaptAdam at its defaults: lr 1",
        "dadaptation.DAdaptAdam", {"lr": 1.0}, ("lr", "d"),
    ),
    "soap": Baseline(
        "pytorch_optimizer: SOAP (arXiv:2409.11321) at its defaults: lr 0.003",
        "pytorch_optimizer.SOAP",
    ),
    "lamb": Baseline(
        "pytorch_optimizer: Lamb (arXiv:1904.00962) at its defaults: lr 0.001",
        "pytorch_optimizer.Lamb",
    ),
    "dog": Baseline(
        "dog-optimizer (arXiv:2302.12022): DoG at its defaults, evaluated at its average",
        "untuned.lab.baselines.dog.DoG", rate=("eta",),
    ),
    "ldog": Baseline(
        "dog-optimizer (arXiv:2302.12022): LDoG at its defaults, evaluated at its average",
        "untuned.lab.baselines.dog.LDoG", rate=("eta",),
    ),
}  # fmt: skip
