"""Nero's MLP of 100 layers on MNIST (arXiv:2102.07227): the published accuracies beside ours."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ExponentialLR

import untuned
from untuned.lab.data import grey_images
from untuned.lab.figure import Figure
from untuned.lab.networks import Chain

Prepare = Callable[[nn.Module], Optimizer]


@dataclass(frozen=True)
class Contestant:
    """An optimizer, and the test accuracies in per cent that the paper gives for it, by seed."""

    prepare: Prepare
    published: tuple[float, ...]


@dataclass(frozen=True)
class Size:
    """How much of an experiment to run."""

    width: int
    epochs: int
    seeds: int
    lr: float  # Nero's
    needs: str


SOURCE = "arXiv:2102.07227, MLP of 100 layers on MNIST: test accuracy, three seeds"
SIZES = {
    "full": Size(784, 50, 3, lr=0.001, needs="MNIST; a GPU (its time has not been measured)"),
    "small": Size(128, 20, 2, lr=0.003, needs="MNIST; half an hour on one core"),
}


def contestants(size: Size) -> dict[str, Contestant]:
    """Who runs. The paper found Adam and SGD at 11.35% at every learning rate that it tried."""
    return {
        f"Nero, lr {size.lr:g}": Contestant(
            partial(untuned.Nero, lr=size.lr), published=(89.3, 91.0, 83.7)
        ),
        "Adam, lr 0.001": Contestant(
            lambda model: torch.optim.Adam(model.parameters(), lr=1e-3), published=(11.35,)
        ),
        "SGD, lr 0.1": Contestant(
            lambda model: torch.optim.SGD(model.parameters(), lr=0.1), published=(11.35,)
        ),
    }


def run(
    prepare: Prepare, size: Size, seed: int, device: str, watch: Callable[[float, float], None]
) -> float:
    """Test accuracy in per cent after training; `watch` sees loss and accuracy of each epoch."""
    data = {part: [t.to(device) for t in pair] for part, pair in grey_images("mnist").items()}
    (images, labels), (test_images, test_labels) = data["train"], data["test"]
    torch.manual_seed(seed)
    model = Chain(depth=100, width=size.width, inputs=28 * 28, bias=True).to(device)
    opt = prepare(model)
    schedule = ExponentialLR(opt, 0.9)
    accuracy = math.nan
    for _ in range(size.epochs):
        for chosen in torch.randperm(len(labels), device=device).split(250):
            loss = F.cross_entropy(model(images[chosen]), labels[chosen])
            opt.zero_grad()
            loss.backward()
            opt.step()
        schedule.step()
        with torch.no_grad():
            right = model(test_images).argmax(1) == test_labels
        accuracy = 100 * right.float().mean().item()
        watch(loss.item(), accuracy)
    return accuracy


def reproduce(size: Size, console: Console) -> Table:
    """Run every contestant with every seed; the table of what came out."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    table = Table(title=f"{SOURCE}\nhere: width {size.width}, {size.epochs} epochs, {device}",
                  box=box.SIMPLE_HEAD)  # fmt: skip
    for heading in ("", "published", "here"):
        table.add_column(heading, justify="right" if heading else "left")
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=18),
        TextColumn("{task.fields[now]}"),
        TimeRemainingColumn(),
        console=console,
    )
    with progress:
        for name, contestant in contestants(size).items():
            task = progress.add_task(name, total=size.seeds * size.epochs, now="")

            def watch(loss: float, accuracy: float, task: int = task) -> None:
                now = f"loss {loss:.3f}  accuracy {accuracy:.1f}%"
                progress.update(task, advance=1, now=now)  # type: ignore[arg-type]

            ours = [run(contestant.prepare, size, s, device, watch) for s in range(size.seeds)]
            table.add_row(
                name,
                ", ".join(f"{accuracy:g}%" for accuracy in contestant.published),
                ", ".join(f"{accuracy:.2f}%" for accuracy in ours),
            )
    return table


def run_figure(size: str, console: Console, folder: Path) -> None:
    """Print the table."""
    console.print(reproduce(SIZES[size], console))


MLP100 = Figure(
    "nero-mlp100", SOURCE, {label: size.needs for label, size in SIZES.items()}, run_figure
)
