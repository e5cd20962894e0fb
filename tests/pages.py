"""The how-to pages, run as they stand, and the plain loops that their trainers replace."""

import copy
import re
from pathlib import Path

import torch
import torch.nn.functional as F

import untuned

HOW_TO = Path(__file__).parents[1] / "docs" / "how-to"

RULES = ["agd", "nero", "adam / sgd(lr=0.01)", "agd / sgd(lr=0.1)"]


def run_page(name, **given):
    """Run every block of Python of a page in one scope, and return that scope."""
    scope = {"__name__": name} | given
    page = (HOW_TO / f"{name}.md").read_text(encoding="utf-8")
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(block, scope)
    return scope


def initialised_twin(model):
    """A copy, initialised as the model is by the next `untuned.initialise_`: a page's first act."""
    twin = copy.deepcopy(model)
    torch.manual_seed(1)
    untuned.initialise_(twin)
    torch.manual_seed(1)
    return twin


def train_plainly(model, batches, rule="agd", chunks=1):
    """What a trainer replaces: a step for each `chunks` batches; returns the optimizer, losses."""
    opt = untuned.Optimizer(model, rule)
    losses = []
    for number, (images, labels) in enumerate(batches, start=1):
        loss = F.cross_entropy(model(images), labels)
        (loss / chunks).backward()
        losses.append(loss.item())
        if number % chunks == 0:
            opt.step()
            opt.zero_grad()
    return opt, losses


def fallen(losses, share):
    """Whether the last tenth of the losses is, on average, below a `share` of the first one."""
    last = losses[-max(1, len(losses) // 10) :]
    return sum(last) / len(last) < share * losses[0]
