"""`untuned bench`: time and memory of an optimizer's step alone, as ratios in one run.

Optimizers, by text, take turns on models of many shapes with random gradients, beside fused SGD and
AdamW of torch. A floor is what must move through memory; what is reached of it is the time that
this takes at the bandwidth of a copy, measured in the same run, over the time of the step.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from rich import box
from rich.console import Console
from rich.table import Table as Drawn

from untuned.errors import UntunedError
from untuned.lab.bench import scaling, tables
from untuned.lab.bench.models import MODELS
from untuned.lab.bench.steps import CONTESTANTS, Settings, available, bench
from untuned.lab.bench.training import overheads


@dataclass(frozen=True)
class Options:
    """What is measured, and how."""

    models: tyro.conf.Positional[tuple[str, ...]] = ()
    """By name: large, small, conv, thousand, resnet50, gpt2-small ...; none: all but the tiny."""
    optimizers: tuple[str, ...] = ()
    """As text: agd, 'adam / sgd', 'adamw(foreach=True)', muon, prodigy ...; none: a choice."""
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = 1
    """Of torch, on CPU."""
    repeats: int = 30
    """How many steps of each are timed."""
    seconds: float = 120
    """After which a model takes no more turns, once it has had three."""
    compile: bool = False
    """Whole steps by torch.compile, but those of the references."""
    eager: bool = False
    """Untuned's rules without a compiler; by default elementwise ones are compiled."""
    scaling: bool = False
    """Instead of models: time against parameters, tensors, floors of a tower, and processes."""
    training: bool = False
    """Instead of models: training steps of GPT-2 small, on 8 x 1024 tokens."""
    output: Path | None = None
    """A Markdown file; beside it lines of JSON (.jsonl), and the picture of --scaling (.png)."""

    def settings(self) -> Settings:
        """How steps are run."""
        return Settings(self.device, self.repeats, self.seconds, self.compile, self.eager)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print as it comes; exit with 2 for names that there are not."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = tyro.cli(Options, args=given, prog="untuned bench", description=__doc__)
    torch.set_num_threads(options.threads)
    console = Console(highlight=False)
    try:
        report = Report(console, options, shlex.join(["untuned", "bench", *given]))
        measure(options, report)
    except UntunedError as error:
        Console(stderr=True, highlight=False).print(f"error: {error}", markup=False)
        sys.exit(2)
    report.save()


def measure(options: Options, report: Report) -> None:
    """All that was asked for, told as it comes."""
    settings = options.settings()
    texts, missing = available(options.optimizers or CONTESTANTS)
    if missing and options.optimizers:
        raise UntunedError("; ".join(missing))
    if options.scaling:
        found = scaling.points(texts, settings)
        report.tell(tables.of_scaling(found), found)
        if options.output:
            scaling.draw(found, options.output.with_suffix(".png"))
        return
    if options.training:
        trained = overheads(texts, settings)
        report.tell(tables.of_training(trained), trained)
        return
    fitting = [n for n, m in MODELS.items() if options.device == "cuda" or not m.cuda_only]
    for name in options.models or [name for name in fitting if name != "tiny"]:
        rows = bench(name, texts, settings)
        report.tell(tables.of_steps(rows), rows)


class Report:
    """Tables, on the terminal and in files."""

    console: Console
    path: Path | None
    parts: list[str]
    lines: str

    def __init__(self, console: Console, options: Options, command: str) -> None:
        self.console, self.path = console, options.output
        heading = f"`{command}`\n\n{tables.machine(options.device)}; rules run "
        self.parts, self.lines = [heading + options.settings().kind], ""
        console.print(self.parts[0], markup=False)

    def tell(self, table: tables.Table, found: Sequence[Any]) -> None:
        """Print a table and keep it."""
        drawn = Drawn(title=table.title, box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1))
        for i, heading in enumerate(table.headings):
            drawn.add_column(heading, justify="right" if i else "left", no_wrap=not i)
        for row in table.rows:
            drawn.add_row(*row)
        self.console.print(drawn)
        self.parts.append(tables.markdown(table))
        self.lines += tables.json_lines(found)
        self.save()

    def save(self) -> None:
        """Write what there is so far."""
        if self.path:
            self.path.write_text("\n\n".join(self.parts) + "\n", encoding="utf-8")
            self.path.with_suffix(".jsonl").write_text(self.lines, encoding="utf-8")
