"""What the tests of resuming run as processes: `resumed.py FOLDER TASK...`.

Every rule trains a small network in every precision. Tasks: `straight` takes 10 steps, `half` takes
5 and saves, `rest` takes another 5 from there. Each leaves what it came to in FOLDER/TASK.pt.
"""

import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler

import untuned

HALF, WHOLE = 5, 10
RULES = (
    *(name.lower() for name in untuned.rules.__all__),
    "sgd(lr=0.1, momentum=0.9)",
    "nero.as_published()",
    "adam / sgd(lr=0.1)",
    "adam / adam / sgd(lr=0.1)",
    "sgd(momentum=0.9).per_tensor('lr') / rmsprop / adam",
    "adam.tuning('lr') / sgd(lr=1, momentum=0.5) / sgd",
    "agd / nero / sgd(lr=0.1)",
    "nero / adagrad / agd",
    "rmsprop / freenero / agd",
)


def cosine(opt):
    """A schedule that remembers the last rate."""
    return CosineAnnealingLR(opt, 20)


def inverse(opt):
    """A schedule that knows the step alone, and saves no function."""
    return LambdaLR(opt, lambda step: 1 / (1 + step / 10))


class Kind(NamedTuple):
    """How to train."""

    dtype: torch.dtype  # of the weights
    schedule: Callable[[torch.optim.Optimizer], LRScheduler]
    weights_first: bool  # whether they are restored before the optimizer is built, as by trainers
    scaled: bool = False  # whether a GradScaler watches over gradients of float16


KINDS = {
    "float32": Kind(torch.float32, inverse, weights_first=True),
    "bfloat16": Kind(torch.bfloat16, cosine, weights_first=True),
    "float16": Kind(torch.float16, inverse, weights_first=False),
    "scaled": Kind(torch.float32, cosine, weights_first=False, scaled=True),
}
OVERFLOWS = (2, 7)  # steps at which the GradScaler finds gradients that are not finite
CASES = tuple(itertools.product(RULES, KINDS))


class Run:
    """A network in training."""

    def __init__(self, rule, kind, saved=None):
        kind = KINDS[kind]
        torch.manual_seed(0)
        layers = nn.Linear(6, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 3)
        self.model = nn.Sequential(*layers).to(kind.dtype)
        saved = dict(saved or {})
        if saved and kind.weights_first:
            self.model.load_state_dict(saved.pop("model"))
        self.opt = untuned.Optimizer(self.model, rule)
        self.schedule = kind.schedule(self.opt)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, enabled=kind.scaled)
        for name, state in saved.items():
            getattr(self, name).load_state_dict(state)

    def train(self, steps):
        """The steps of these numbers; each has a batch of its own."""
        scaled = self.scaler.is_enabled()
        for step in steps:
            random = torch.Generator().manual_seed(step)
            x, labels = torch.randn(16, 6, generator=random), torch.arange(16) % 3
            self.opt.zero_grad()
            with torch.autocast("cpu", torch.float16, enabled=scaled):
                loss = F.cross_entropy(self.model(x.to(self.model[0].weight.dtype)), labels)
            loss = loss * float("inf") if scaled and step in OVERFLOWS else loss
            self.scaler.scale(loss).backward()
            self.scaler.step(self.opt)
            self.scaler.update()
            self.schedule.step()
        return self

    def saved(self):
        """The states of all parts."""
        names = ("model", "opt", "schedule", "scaler")
        return {name: getattr(self, name).state_dict() for name in names}


def main():
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    for task in sys.argv[2:]:
        results = {}
        start = HALF if task == "rest" else 0
        saved = torch.load(folder / "half.pt", weights_only=True) if start else {}
        for case in CASES:
            steps = range(start, HALF if task == "half" else WHOLE)
            results[case] = Run(*case, saved.get(case)).train(steps).saved()
        torch.save(results, folder / f"{task}.pt")


if __name__ == "__main__":
    main()
