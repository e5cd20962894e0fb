"""Ten times the budget: Auto beside AdamW with cosine decay, tuned for that many steps.

python benchmarks/long.py --folder docs/results/long

AdamW's grid starts with three learning rates around the best one of the small budget, half a decade
apart, on seed 0; where the best is at an end, the grid grows beyond it. Trials that have ended are
not trained again.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import tyro
from rich.console import Console

from untuned.lab.comparison.contestants import Contestant, contestant_of
from untuned.lab.comparison.executors import LocalExecutor
from untuned.lab.comparison.plan import Comparison, Problem
from untuned.lab.comparison.progress import train_missing
from untuned.lab.comparison.standings import standings
from untuned.lab.comparison.trials import Trials
from untuned.lab.report.tables import overview
from untuned.lab.workloads.registry import find

# By workload: the exponent, of the square root of ten, of AdamW's best rate for a tenth of the
# steps (housing's, 0.1 there, is lower for any long training)
RATES = {
    "lstm-shakespeare": -4, "gpt-shakespeare": -5, "autoencoder-fashion": -4,
    "resnet20-cifar10": -6, "vae-mnist": -4, "fcn8-digits": -6, "mlp-housing": -4,
    "fcn4-fashion": -5,
}  # fmt: skip


@dataclass(frozen=True)
class Options:
    """What to train."""

    optimizers: tuple[str, ...] = ("auto", "auto, horizon", "adamw-tuned")
    workloads: tuple[str, ...] = tuple(RATES)
    times: int = 10  # the workload's budget
    seeds: int = 3
    jobs: int = 2
    folder: Path = Path("docs/results/long")


def contestant(name: str, workload: str) -> Contestant:
    """AdamW's grid around the rate that suits the workload; others as they are."""
    found, k = contestant_of(name), RATES[workload]
    return replace(found, schedules=("cosine",), low=k - 1, high=k + 1) if found.tuned else found


def main(options: Options) -> None:
    """Train what is missing, workload by workload, then print the table of each."""
    console = Console(highlight=False)
    trials = Trials(options.folder / "cells.jsonl")
    for workload in options.workloads:
        steps = options.times * find(workload).at("small").steps
        contestants = [contestant(name, workload) for name in options.optimizers]
        problem = Problem(workload, "small", steps)
        comparison = Comparison(contestants, [problem], options.seeds)
        wanted, left = partial(comparison.wanted, trials), partial(comparison.remaining, trials)
        with trials.locked():
            train_missing(trials, wanted, partial(LocalExecutor, options.jobs), console, left)
        console.print(f"{workload}, {steps} steps")
        console.print(overview(standings(comparison, trials, {})).rich(console.width))


if __name__ == "__main__":
    main(tyro.cli(Options))
