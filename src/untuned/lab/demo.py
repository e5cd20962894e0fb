"""AGD, with nothing to tune, beside AdamW at its default: digits, on a deep and bare network.

All see the same data in the same order for as many steps. AdamW runs twice: from the weights that
AGD starts from, and from those that PyTorch gives.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import torch
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from torch import nn
from torch.optim import Optimizer

import untuned
from untuned.lab.picture import draw
from untuned.lab.training import BATCH, EPOCHS, WIDTH, Trace, digits, train

SEEDS = 3


def agd(model: nn.Module) -> Optimizer:
    """AGD, as its paper starts it."""
    untuned.initialise_(model)
    return untuned.AGD(model)


def adamw_same_start(model: nn.Module) -> Optimizer:
    """AdamW from where AGD starts."""
    untuned.initialise_(model)
    return adamw(model)


def adamw(model: nn.Module) -> Optimizer:
    """AdamW as it comes."""
    return torch.optim.AdamW(model.parameters())


CONTESTANTS: dict[str, Callable[[nn.Module], Optimizer]] = {
    "AGD": agd,
    "AdamW, same start": adamw_same_start,
    "AdamW, PyTorch's start": adamw,
}


def compare(depth: int, console: Console) -> dict[str, list[Trace]]:
    """For each contestant, its run with each seed."""
    data = digits()
    progress = Progress(
        TextColumn("{task.description:22}"),
        BarColumn(bar_width=18),
        TextColumn("{task.fields[now]}"),
        console=console,
    )

    def run(name: str) -> list[Trace]:
        task = progress.add_task(name, total=SEEDS * EPOCHS, now="")

        def watch(trace: Trace) -> None:
            loss, accuracy, rate = trace.loss[-1], trace.accuracy[-1], trace.rate[-1]
            now = f"loss {loss:.1e}  accuracy {accuracy:.0%}  lr {rate:.4f}"
            progress.update(task, advance=1, now=now)

        return [train(CONTESTANTS[name], depth, seed, data, watch) for seed in range(SEEDS)]

    with progress:
        return {name: run(name) for name in CONTESTANTS}


def table(runs: dict[str, list[Trace]]) -> Table:
    """How the runs ended: medians over the seeds, and the range of the accuracy."""
    out = Table("", box=box.SIMPLE_HEAD)
    for heading in ("train loss", "test loss", "test accuracy", "time"):
        out.add_column(heading, justify="right")
    for name, traces in runs.items():
        accuracy = [100 * trace.accuracy[-1] for trace in traces]
        out.add_row(
            name,
            f"{median(trace.train_loss for trace in traces):.1e}",
            f"{median(trace.test_loss for trace in traces):.2f}",
            f"{median(accuracy):.1f}% ({min(accuracy):.1f}-{max(accuracy):.1f})",
            f"{median(trace.seconds for trace in traces):.1f} s",
        )
    return out


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, tabulate, draw."""
    parser = argparse.ArgumentParser(prog="untuned demo", description=__doc__)
    parser.add_argument("--depth", type=int, default=24, help="layers (default: %(default)s)")
    parser.add_argument(
        "--output", type=Path, default=Path("runs/demo.png"), help="picture (default: %(default)s)"
    )
    args = parser.parse_args(arguments)
    # Layers this small gain nothing from more threads, and lose much where other work runs.
    torch.set_num_threads(1)
    console = Console(highlight=False)
    console.print(
        f"Digits, {args.depth} ReLU layers of width {WIDTH}, no biases, no normalisation: "
        f"{EPOCHS} epochs\nin batches of {BATCH}, {SEEDS} seeds. AdamW runs at its default, 0.001."
    )
    runs = compare(args.depth, console)
    console.print(table(runs))
    args.output.parent.mkdir(parents=True, exist_ok=True)
    draw(runs, args.output)
    console.print(f"Medians of {SEEDS} seeds (lowest to highest). Picture: {args.output}")


if __name__ == "__main__":
    main()
