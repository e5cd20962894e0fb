"""Towers on MNIST (arXiv:1909.13371): how little the first step size matters, the higher they are.

The network is the paper's: one hidden layer of 128 tanh units, batches of 256, cross-entropy.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

import untuned
from untuned import rules
from untuned.errors import NonFiniteGradientWarning
from untuned.floors import Floor, Tower
from untuned.lab.data import grey_images
from untuned.lab.figure import Figure
from untuned.lab.picture import Series, draw_errors, draw_floors
from untuned.rule import Rule

SEEDS = 3
EPOCHS = {"full": 30, "small": 3}
DECADES = [10 ** (power / 2) for power in range(-8, 3)]  # 1e-4 to 10
WHOLE = [10.0**power for power in range(-5, 1)]
SOURCE = "arXiv:1909.13371, MNIST, one hidden layer of 128: test error"


class Job(NamedTuple):
    """One run: where it belongs in the picture, and what makes it."""

    panel: str
    line: str
    x: float  # the first step size
    rule: Rule | Tower
    seed: int
    epochs: int


def train(
    job: Job, watch: Callable[[untuned.Optimizer, float], None] = lambda opt, loss: None
) -> nn.Module:
    """One run; `watch` sees the optimizer and the loss after each step."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", NonFiniteGradientWarning)  # they show as errors of 90%
    images, labels = grey_images("mnist")["train"]
    torch.manual_seed(job.seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.Tanh(), nn.Linear(128, 10))
    opt = untuned.Optimizer(model, job.rule)
    for _ in range(job.epochs):
        for chosen in torch.randperm(len(labels)).split(256):
            loss = F.cross_entropy(model(images[chosen]), labels[chosen])
            opt.zero_grad()
            loss.backward()
            opt.step()
            watch(opt, loss.item())
    return model


def error(job: Job) -> float:
    """The test error in per cent of one run; a diverged one has that of a guess."""
    model = train(job)
    images, labels = grey_images("mnist")["test"]
    with torch.no_grad():
        logits = model(images)
    if not logits.isfinite().all():
        return 90.0
    wrong = logits.argmax(1) != labels
    return 100 * float(wrong.float().mean())


def errors(jobs: Sequence[Job], console: Console) -> dict[Job, float]:
    """Every run's error, as many runs at a time as there are cores."""
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
    )
    found: dict[Job, float] = {}
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=spawn) as pool, progress:
        task = progress.add_task("runs", total=len(jobs))
        pending = {pool.submit(error, job): job for job in jobs}
        for done in as_completed(pending):
            found[pending[done]] = done.result()
            progress.advance(task)
    return found


def tower_of_sgd(height: int, alpha: float, published: bool) -> Rule | Tower:
    """SGD on SGD on SGD: as published each step size a tenth of the one below; ours all 100.

    A floor of ours moves the logarithm of the one below, for which 100 is a usual size: 0.01 of
    loss that the next step is about to gain double the step.
    """
    above = [alpha / 10**k if published else 100.0 for k in range(1, height)]
    floors = tuple(Floor(rules.SGD(lr)) for lr in (alpha, *above))
    tower = Tower(floors)
    return tower.as_published() if published else tower


def heights(size: str) -> list[Job]:
    """Towers of one to five floors."""
    panels = {"as published": True, "exponential charts, trust ratio 2": False}
    return [
        Job(panel, f"height {height}", x, tower_of_sgd(height, x, published), seed, EPOCHS[size])
        for panel, published in panels.items()
        for height in range(1, 6)
        for x in DECADES
        for seed in range(SEEDS)
    ]


# Each rule, and the step size of the SGD above it in the reference's recorded trajectories
PLAIN: dict[type[Rule], float] = {
    rules.SGD: 1e-2,
    rules.AdaGrad: 1e-3,
    rules.RMSProp: 1e-4,
    rules.Adam: 1e-4,
}


def against_plain(size: str) -> list[Job]:
    """Each rule alone, under SGD as published, and under Adam on our charts."""
    jobs = []
    for kind, alpha in PLAIN.items():
        for x in WHOLE:
            rule = kind.build(x)
            lines: dict[str, Rule | Tower] = {
                "plain": rule,
                "under SGD, as published": (rule / rules.SGD(alpha)).as_published(),
                "under Adam(0.05), our charts": rule / rules.Adam(0.05),
            }
            jobs += [
                Job(kind.__name__, line, x, tower, seed, EPOCHS[size])
                for line, tower in lines.items()
                for seed in range(SEEDS)
            ]
    return jobs


def run(name: str, jobs: Sequence[Job], console: Console, folder: Path) -> None:
    """Run, write the numbers down, draw."""
    found = errors(jobs, console)
    panels: dict[str, dict[str, Series]] = {}
    for job in jobs:
        line = panels.setdefault(job.panel, {}).setdefault(job.line, {})
        line.setdefault(job.x, []).append(found[job])
    (folder / f"{name}.json").write_text(json.dumps(panels, indent=1))
    draw_errors(panels, folder / f"{name}.png")
    console.print(
        f"{summary(panels)}\nPicture: {folder / name}.png, numbers: {name}.json beside it"
    )


def show_floors(size: str, console: Console, folder: Path) -> None:
    """Every hyperparameter of every floor of one run, step by step."""
    rule = rules.Adam() / rules.Adam(0.05) / rules.SGD(1.0)
    job = Job("", "", 1e-3, rule, seed=0, epochs=EPOCHS[size])
    losses: list[float] = []
    floors: list[list[dict[str, float]]] = []

    def watch(opt: untuned.Optimizer, loss: float) -> None:
        losses.append(loss)
        floors.append(opt.hyperparameters()[0])

    train(job, watch)
    draw_floors("Adam() / Adam(0.05) / SGD(1)", losses, floors, folder / "towers-floors.png")
    console.print(f"Picture: {folder / 'towers-floors.png'}")


def summary(panels: dict[str, dict[str, Series]]) -> str:
    """The spread of the median error over all step sizes, line by line."""
    rows = []
    for panel, lines in panels.items():
        for line, series in lines.items():
            medians = [sorted(seeds)[len(seeds) // 2] for seeds in series.values()]
            mean = math.fsum(medians) / len(medians)
            rows.append(
                f"{panel}, {line}: {min(medians):.2f}% to {max(medians):.2f}%, mean {mean:.2f}%"
            )
    return "\n".join(rows)


NEEDS = {"full": "MNIST; its time has not been measured", "small": "MNIST; two cores"}


def _figure(name: str, what: str, jobs: Callable[[str], list[Job]]) -> Figure:
    def go(size: str, console: Console, folder: Path) -> None:
        run(name, jobs(size), console, folder)

    return Figure(name, f"{SOURCE}{what}", NEEDS, go)


HEIGHTS = _figure("towers-heights", " by first step size, towers of one to five SGDs", heights)
RULES = _figure("towers-rules", " of each rule, plain and under another", against_plain)
FLOORS = Figure(
    "towers-floors",
    "arXiv:1909.13371, MNIST: every floor of a tower of three over time",
    NEEDS,
    show_floors,
)
