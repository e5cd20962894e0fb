"""`untuned train`: one run, watched, kept in a folder."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
import tyro
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from untuned.errors import UntunedError
from untuned.lab.config import Config
from untuned.lab.curves import draw
from untuned.lab.folder import Point
from untuned.lab.rivals import RIVALS
from untuned.lab.runs import Result, run
from untuned.lab.workloads import PAPERS, WORKLOADS


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for; exit with 2 where it asks for what there is not."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    # of torchrun's processes, or of those that Fabric starts
    first = os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) == "0"
    console = Console(highlight=False, quiet=not first)
    if "--list" in given:
        return listing(console)
    try:
        asked = tyro.cli(Config, args=given, prog="untuned train", description=__doc__)
        config = dataclasses.replace(asked, folder=asked.folder or default_folder(asked))
        if config.size == "small":
            torch.set_num_threads(1)  # networks this small gain nothing from more
        result = watched(config, console)
    except UntunedError as error:
        Console(stderr=True, highlight=False).print(
            f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True
        )
        sys.exit(2)
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    if first:
        assert config.folder
        draw(result, config.folder / "picture.png")
        summary(result, config.folder, console)


def default_folder(config: Config) -> Path:
    """runs/WORKLOAD/OPTIMIZER-seedN, with what else differs from the defaults."""
    words = [config.optimizer, f"seed{config.seed}"]
    words += [config.size] if config.size != "small" else []
    words += [config.schedule] if config.schedule != "constant" else []
    return Path("runs") / config.workload / re.sub(r"[^\w.=]+", "-", "-".join(words)).strip("-")


def listing(console: Console) -> None:
    """What can be trained, and with what."""
    for title, lines in (
        ("Workloads", {name: workload.about for name, workload in WORKLOADS.items()}),
        ("Workloads of the papers alone", {name: each.about for name, each in PAPERS.items()}),
        ("Optimizers of others", {name: rival.source for name, rival in RIVALS.items()}),
    ):
        table = Table(title, "", box=None, title_justify="left")
        for name, about in lines.items():
            table.add_row(name, about)
        console.print(table)
    console.print("Optimizers of untuned: agd, nero, adam, 'adam / sgd(lr=1e-5)' and so on.")


def watched(config: Config, console: Console) -> Result:
    """The run, with a progress bar."""
    progress = Progress(
        TextColumn(config.workload),
        BarColumn(bar_width=18),
        MofNCompleteColumn(),
        TextColumn("{task.fields[now]}"),
        TimeRemainingColumn(),
        console=console,
    )
    bar = progress.add_task("", total=None, now="")

    def watch(step: int, steps: int, point: Point) -> None:
        progress.update(bar, completed=step, total=steps, now=words(point))

    with progress:
        return run(config, watch)


def words(point: Point) -> str:
    """A point of a curve in a line."""
    shown = {"loss": point["train_loss"], "valid": point["valid_loss"], "metric": point["metric"]}
    shown["lr"] = point["lr"]
    return "  ".join(f"{name} {value:.3g}" for name, value in shown.items() if value is not None)


def summary(result: Result, folder: Path, console: Console) -> None:
    """How it ended."""
    last = result.curve[-1]
    if result.status == "diverged":
        console.print(f"[bold red]diverged[/] by step {result.stopped_at} of {result.steps}")
    console.print(
        f"{result.metric_name}: {number(last['metric'])}, validation loss "
        f"{number(last['valid_loss'])} after {result.stopped_at} steps of "
        f"{result.ms_per_step:.1f} ms; kept in {folder}"
    )


def number(value: float | None) -> str:
    """For people."""
    return "not finite" if value is None else f"{value:.4g}"


if __name__ == "__main__":
    main()
