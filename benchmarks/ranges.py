"""Batch, depth and width, with nothing touched: Auto beside AdamW at its default and at its best.

python benchmarks/ranges.py --jobs 2 --output runs/auto-ranges.md

Fully-connected ReLU networks with biases, Fashion-MNIST, cross-entropy; as torch initialises them,
or after `untuned.initialise_`. All optimizers see the same batches and start from the same weights;
AdamW's rate falls along a cosine.
"""

import math
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
from torch import nn

import untuned
from untuned.lab.data import grey_images


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
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)


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


def train(setting: Setting, rate: float | None, seed: int, steps: int) -> float:
    """The validation loss at the end; AdamW's if there is a `rate`, decayed along a cosine."""
    torch.set_num_threads(1)
    parts = grey_images("fashion_mnist")
    (images, labels), (unseen, truth) = parts["train"], parts["test"]
    torch.manual_seed(seed)
    model, order = network(setting.depth, setting.width), torch.Generator().manual_seed(seed)
    if setting.initialised == "untuned":
        untuned.initialise_(model)
    opt = untuned.Auto(model) if rate is None else torch.optim.AdamW(model.parameters(), rate)
    for step in range(steps):
        chosen = torch.randint(len(images), (setting.batch,), generator=order)
        opt.zero_grad()
        F.cross_entropy(model(images[chosen]), labels[chosen]).backward()
        if rate is not None:
            opt.param_groups[0]["lr"] = rate * (1 + math.cos(math.pi * step / steps)) / 2
        opt.step()
    with torch.no_grad():
        return float(F.cross_entropy(model(unseen[:5000]), truth[:5000]))


def row(options: Options, setting: Setting, found: dict) -> str:
    """A row of the table."""
    losses = {
        rate: mean(found[setting, rate, seed] for seed in range(options.seeds))
        for rate in (None, *RATES)
    }
    best = min(RATES, key=lambda rate: math.inf if math.isnan(losses[rate]) else losses[rate])
    texts = [f"{losses[rate]:.3f}" for rate in (None, 1e-3, best)]
    return f"| {' | '.join(map(str, setting))} | {' | '.join(texts)} | {best:g} |"


def main(options: Options) -> None:
    """Train, then write the table."""
    settings = [s for sweep in options.sweeps for s in SETTINGS[sweep] if s.width <= options.widest]
    wanted = list(product(dict.fromkeys(settings), (None, *RATES), range(options.seeds)))
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
