"""`untuned train`: one training run, with a progress bar, in a folder."""

import dataclasses
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table as RichTable

from untuned.errors import UntunedError
from untuned.lab.baselines.table import BASELINES
from untuned.lab.config import Config
from untuned.lab.programs.exits import stop
from untuned.lab.training.plots import draw_run
from untuned.lab.training.run import RunResult, run
from untuned.lab.training.run_folder import CurvePoint
from untuned.lab.workloads.registry import PAPERS, WORKLOADS


def main(arguments: Sequence[str] | None = None) -> None:
    """Train. Exit code 2 for wrong input."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    # of torchrun's processes, or of those that Fabric starts
    first = os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) == "0"
    console = Console(highlight=False, quiet=not first)
    if "--list" in given:
        return _list(console)
    try:
        asked = tyro.cli(Config, args=given, prog="untuned train", description=__doc__)
        folder = asked.folder or _default_folder(asked)
        if asked.size == "small":
            torch.set_num_threads(1)  # networks this small gain nothing from more
        result = _with_progress(dataclasses.replace(asked, folder=folder), console)
    except UntunedError as error:
        stop(f"error: {error}", 2)
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    if first:
        draw_run(result, folder / "picture.png")
        _summarise(result, folder, console)


def _default_folder(config: Config) -> Path:
    """runs/WORKLOAD/OPTIMIZER-seedN, and options that differ from the defaults."""
    words = [config.optimizer, f"seed{config.seed}"]
    words += [config.size] if config.size != "small" else []
    words += [config.schedule] if config.schedule != "constant" else []
    return Path("runs") / _plain(config.workload) / _plain("-".join(words))


def _plain(text: str) -> str:
    """A text as the name of a folder on any system."""
    return re.sub(r"[^\w.=]+", "-", text).strip("-")


def _list(console: Console) -> None:
    for title, lines in (
        ("Workloads for development", _about(held_out=False)),
        ("Held-out workloads", _about(held_out=True)),
        ("Workloads of the papers alone", {name: each.about for name, each in PAPERS.items()}),
        ("Baselines", {name: baseline.source for name, baseline in BASELINES.items()}),
    ):
        table = RichTable(title, "", box=None, title_justify="left")
        for name, about in lines.items():
            table.add_row(name, about)
        console.print(table)
    console.print("Optimizers of untuned: auto, agd, nero, adam, 'adam / sgd(lr=1e-5)' and so on.")
    console.print("Your own: mymodule:workload, mymodule:factory, 'torch.optim.RAdam(lr=0.01)'.")


def _about(held_out: bool) -> dict[str, str]:
    """Descriptions of one half of the workloads."""
    return {name: each.about for name, each in WORKLOADS.items() if each.held_out == held_out}


def _with_progress(config: Config, console: Console) -> RunResult:
    progress = Progress(
        TextColumn(config.workload), BarColumn(bar_width=18), MofNCompleteColumn(),
        TextColumn("{task.fields[now]}"), TimeRemainingColumn(), console=console,
    )  # fmt: skip
    bar = progress.add_task("", total=None, now="")

    def watch(step: int, steps: int, point: CurvePoint) -> None:
        progress.update(bar, completed=step, total=steps, now=_line(point))

    with progress:
        return run(config, watch)


def _line(point: CurvePoint) -> str:
    columns = {"train_loss": "loss", "valid_loss": "valid", "metric": "metric", "lr": "lr"}
    shown = {label: point[column] for column, label in columns.items()}
    return "  ".join(f"{label} {value:.3g}" for label, value in shown.items() if value is not None)


def _summarise(result: RunResult, folder: Path, console: Console) -> None:
    numbers = (result.curve[-1][name] for name in ("metric", "valid_loss"))
    metric, loss = ("not finite" if n is None else f"{n:.4g}" for n in numbers)
    if result.status == "diverged":
        console.print(f"[bold red]diverged[/] by step {result.stopped_at} of {result.steps}")
    console.print(
        f"{result.metric_name}: {metric}, validation loss {loss} after "
        f"{result.stopped_at} steps of {result.ms_per_step:.1f} ms; kept in {folder}"
    )
