"""`untuned bench`: time and memory of an optimizer's step alone, as ratios in one run.

Optimizers, by text, take turns on models of many shapes with random gradients, beside torch's fused
SGD and AdamW. The floor is the least memory traffic of a step; the floor reached is the time of
this traffic at the bandwidth of a copy in the same run, over the time of the step. On CUDA the
table also has the number of kernel launches, and whether the host waits in a step or a graph can
capture it.
"""

# Imports torch alone (but for rich, if installed, and matplotlib, for the picture of --scaling), so
# that benchmarks/gpu.py runs on a machine with nothing else.

import argparse
import shlex
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from untuned.errors import UntunedError
from untuned.lab.bench import tables
from untuned.lab.bench.models import MODELS
from untuned.lab.bench.scaling import draw_scaling, timings
from untuned.lab.bench.steps import OPTIMIZERS, Settings, available, step_costs
from untuned.lab.bench.training import overheads
from untuned.lab.report.table import Table

QUICK = ("tiny", "small")


def bench_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="untuned bench", description=__doc__)
    flag = {"action": argparse.BooleanOptionalAction, "default": False}
    add: Any = parser.add_argument
    add("models", nargs="*", help=f"{', '.join(MODELS)}; none: all but tiny")
    add("--models", nargs="+", dest="named", default=[], help="the same")
    add("--optimizers", nargs="+", default=[], help="as text: agd, 'adam / sgd', muon ...")
    add("--device", choices=["cpu", "cuda"], default="cpu")
    add("--threads", type=int, default=1, help="of torch, on CPU")
    add("--repeats", type=int, default=30, help="timed steps of each optimizer")
    add("--seconds", type=float, default=120, help="limit for a model, after three steps of each")
    add("--compile", **flag, help="whole steps by torch.compile, except of the references")
    add("--eager", **flag, help="untuned's rules without a compiler")
    add("--scaling", **flag, help="time by parameters, tensors, floors of a tower, and processes")
    add("--training", **flag, help="training steps of GPT-2 small, on 8 x 1024 tokens")
    add("--quick", **flag, help="tiny models, a few steps: does it run?")
    add("--output", type=Path, help="Markdown file; beside it .jsonl, and .png of --scaling")
    return parser


def main(arguments: Sequence[str] | None = None, **defaults: Any) -> None:
    """Measure. Exit codes: 2 for unknown names, 1 if a measurement has failed; the others go on.

    Args:
        arguments: of the command line; None: `sys.argv`.
        **defaults: in place of the parser's; `all=True` measures models and training steps.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser = bench_parser()
    parser.set_defaults(**{"all": False, **defaults})
    options = parser.parse_args(given)
    if options.threads:
        torch.set_num_threads(options.threads)
    texts, missing = available(options.optimizers or OPTIMIZERS)
    repeats, seconds, entries = options.repeats, options.seconds, None
    if options.quick:
        repeats, seconds, entries = 3, 5.0, 2**20
    eager = options.eager or options.quick
    settings = Settings(
        tuple(texts), options.device, repeats, seconds, options.compile, eager, entries
    )
    machine = f"{tables.machine(options.device)}; rules run {settings.kind}"
    command = f"`{parser.prog} {shlex.join(given)}`"
    report = _Report([command, machine, *missing], options.output)
    try:
        if missing and options.optimizers:
            raise UntunedError("; ".join(missing))
        for name in _measurements(options):
            report.measure(name, settings, options.quick)
    except UntunedError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
    if report.failed:
        sys.exit(1)


def _measurements(options: argparse.Namespace) -> Iterator[str]:
    """Names of models, "training" and "scaling"."""
    if options.all or not (options.scaling or options.training):
        fits = [n for n, m in MODELS.items() if options.device == "cuda" or not m.cuda_only]
        known = QUICK if options.quick else [name for name in fits if name != "tiny"]
        yield from [*options.models, *options.named] or known
    if options.all or (options.training and not options.scaling):
        yield "training"
    if options.scaling:
        yield "scaling"


class _Report:
    """Tables, printed and written as they come."""

    def __init__(self, parts: list[str], path: Path | None) -> None:
        self._parts, self._path, self._lines, self.failed = parts, path, "", False
        sys.stdout.write("\n\n".join(parts) + "\n\n")

    def measure(self, name: str, settings: Settings, quick: bool) -> None:
        try:
            found, table = self._measured(name, settings, quick)
            self._lines += tables.json_lines(found)
            self._parts.append(f"### {table.title}\n\n{table.markdown()}")
            self._print(table)
        except UntunedError:
            raise
        except Exception:  # a device without tests may refuse in many ways
            self.failed = True
            self._parts.append(f"{name} failed:\n\n```\n{traceback.format_exc()}```\n")
            sys.stdout.write(self._parts[-1] + "\n")
        sys.stdout.flush()
        if self._path:
            self._path.write_text("\n\n".join(self._parts), encoding="utf-8")
            self._path.with_suffix(".jsonl").write_text(self._lines, encoding="utf-8")

    def _measured(self, name: str, settings: Settings, quick: bool) -> tuple[Sequence[Any], Table]:
        if name == "training":
            trained = overheads(settings, quick)
            return trained, tables.of_training(trained)
        if name == "scaling":
            grown = timings(settings)
            if self._path:
                draw_scaling(grown, self._path.with_suffix(".png"))
            return grown, tables.of_scaling(grown)
        costs = step_costs(name, settings)
        return costs, tables.of_steps(costs)

    def _print(self, table: Table) -> None:
        """Aligned on a terminal, if rich is installed; else as Markdown."""
        if sys.stdout.isatty():
            with suppress(ModuleNotFoundError):
                from rich.console import Console

                return Console(highlight=False).print(table.rich())
        sys.stdout.write(self._parts[-1] + "\n")
