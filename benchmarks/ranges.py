"""Batch, depth and width, with nothing touched: Auto beside AdamW at its default and at its best.

python benchmarks/ranges.py --jobs 2 --output runs/auto-ranges.md

Fully-connected ReLU networks with biases, Fashion-MNIST, cross-entropy; as torch initialises them,
or after `untuned.initialise_`. All optimizers see the same batches and start from the same weights;
AdamW's rate falls along a cosine.
"""

import math
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import pairwise, product
from multiprocessing import get_context
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import torch
import torch.nn.functional as F
import tyro
from rich.progress import track
from torch import Tensor, nn

import untuned
from untuned.lab.workloads.data import grey_images


class Setting(NamedTuple):
    """What is trained."""

    depth: int = 4
    width: int = 128
    batch: int = 128
    initialised: str = "torch"


DEPTHS = (2, 4, 8, 16, 32, 64)
SETTINGS = {
    "batch": [Setting(batch=batch) for batch in (16, 64, 256, 1024, 2048)],
    "depth": [Setting(depth) for depth in DEPTHS],
    "initialised": [Setting(depth, initialised="untuned") for depth in DEPTHS],
    "width": [Setting(3, width) for width in (32, 128, 512, 1024, 2048)],
}
Method = tuple[str, float]  # and `lr`, which multiplies Auto's steps
AUTO, DEFAULT = ("auto", 1.0), ("adamw", 1e-3)
TUNED = [("adamw", rate) for rate in (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)]


@dataclass(frozen=True)
class Options:
    """What to train."""

    sweeps: tuple[str, ...] = tuple(SETTINGS)
    widest: int = 2048
    steps: int = 200
    seeds: int = 3
    jobs: int = 2
    output: Path = Path("runs/auto-ranges.md")


def network(depth: int, width: int) -> nn.Module:
    """`depth` matrices."""
    sizes = [784] + [width] * (depth - 1) + [10]
    layers = [part for pair in pairwise(sizes) for part in (nn.Linear(*pair), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *layers[:-1])


def descend(model: nn.Module, method: Method, steps: int, loss: Callable[[], Tensor]) -> None:
    """AdamW's rate falls along a cosine."""
    name, lr = method
    if name == "auto":
        opt = untuned.Auto(model, lr=lr)
    else:
        opt = torch.optim.AdamW(model.parameters(), lr)
    for step in range(steps):
        opt.zero_grad()
        loss().backward()
        if name == "adamw":
            opt.param_groups[0]["lr"] = lr * (1 + math.cos(math.pi * step / steps)) / 2
        opt.step()


def train(setting: Setting, method: Method, seed: int, steps: int) -> float:
    """The validation loss at the end."""
    torch.set_num_threads(1)
    parts = grey_images("fashion_mnist")
    (images, labels), (unseen, truth) = parts["train"], parts["test"]
    torch.manual_seed(seed)
    model, order = network(setting.depth, setting.width), torch.Generator().manual_seed(seed)
    if setting.initialised == "untuned":
        untuned.initialise_(model)

    def loss() -> Tensor:
        chosen = torch.randint(len(images), (setting.batch,), generator=order)
        return F.cross_entropy(model(images[chosen]), labels[chosen])

    descend(model, method, steps, loss)
    with torch.no_grad():
        return float(F.cross_entropy(model(unseen[:5000]), truth[:5000]))


def row(options: Options, setting: Setting, found: dict) -> str:
    """A row of the table."""
    losses = {
        method: mean(found[setting, method, seed] for seed in range(options.seeds))
        for method in (AUTO, *TUNED)
    }
    best = min(TUNED, key=lambda each: math.inf if math.isnan(losses[each]) else losses[each])
    texts = [f"{losses[method]:.3f}" for method in (AUTO, DEFAULT, best)]
    return f"| {' | '.join(map(str, setting))} | {' | '.join(texts)} | {best[1]:g} |"


def main(options: Options) -> None:
    """Train, then write the table."""
    settings = [s for sweep in options.sweeps for s in SETTINGS[sweep] if s.width <= options.widest]
    wanted = list(product(dict.fromkeys(settings), (AUTO, *TUNED), range(options.seeds)))
    with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
        futures = {pool.submit(train, *each, options.steps): each for each in wanted}
        found = {
            futures[future]: future.result()
            for future in track(as_completed(futures), "Training", total=len(futures))
        }
    lines = [
        "| depth | width | batch | initialised by | Auto | AdamW, 0.001 | AdamW, best | its rate |",
        "| ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: |",
        *(row(options, setting, found) for setting in settings),
    ]
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(options.output.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main(tyro.cli(Options))
