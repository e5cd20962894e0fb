"""What each ingredient of Auto is worth: steps saved without it, on the lab's small workloads.

python benchmarks/auto.py --jobs 2 --output runs/auto-ablation.md

The reference, a tuned AdamW, is read from the trials of `untuned compare` (docs/results). What has
been trained is kept beside the table, and the same command goes on.
"""

import itertools
import math
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch
import tyro
from rich.progress import track

from untuned import geometry
from untuned.averaging import batch_norm, weight_average
from untuned.inference.input_scale import InputScale
from untuned.lab.comparison.contestants import contestant_of
from untuned.lab.comparison.measure import FAILURE, mean, mean_curve, step_reduction, steps_to
from untuned.lab.comparison.plan import Problem, tuning
from untuned.lab.comparison.standings import REFERENCE
from untuned.lab.comparison.trials import LOSS, Trial, TrialKey, Trials
from untuned.lab.config import Config
from untuned.lab.training.run import run
from untuned.lab.workloads.registry import find
from untuned.optimizer import auto as optimizer
from untuned.rules import auto

EVER = 1e30
VARIANTS = {
    "as it is": {},
    "no average": {"AVERAGE": None},
    "an average, and the clock of none": {"POWER": 1.0},
    "whole first steps": {"FIRST": 1.0},
    "first steps that never fall": {"OPPOSED": EVER},
    "a free head": {"IN_BALL": None},
    "norms' statistics of the iterate": {"STATISTICS": None},
    "one ball for all degrees": {"GAIN": EVER},
    "no ball": {"GAIN": EVER, "REACH": EVER},
    "the prescribed ball": {"REACH": 1.0},
    "no trust region over depth": {"TRUST": EVER},
    "steps that do not get shorter": {"PATIENCE": EVER},
    "every step counts as turned back": {"CLOCK": None},
    "whole steps of cancelling gradients": {"NOISE": 1 / EVER},
    "no momentum": {"MOMENTUM": 0.0, "NOISE": 1.0},
    "a head that moves as vectors do": {"HEAD": None},
    "vectors and head half as fast": {"ENTRY": auto.ENTRY / 2},
    "vectors and head twice as fast": {"ENTRY": auto.ENTRY * 2},
    "no look at the data": {"INPUTS": None},
    "offsets of a kernel as unrelated": {"OFFSETS": 0.0},
    "offsets of a kernel as equal": {"OFFSETS": 0.5},
    "steps half as long": {"STEP": auto.STEP / 2},
    "steps twice as long": {"STEP": auto.STEP * 2},
}
WORKLOADS = (
    "fcn2-digits", "fcn8-digits", "fcn32-digits", "fcn4-fashion", "lstm-shakespeare",
    "gpt-shakespeare", "gcn-cora", "mlp-housing", "autoencoder-fashion", "vae-mnist",
    "resnet20-cifar10",
)  # fmt: skip


@dataclass(frozen=True)
class Options:
    """What to train."""

    workloads: tuple[str, ...] = WORKLOADS
    variants: tuple[str, ...] = tuple(VARIANTS)
    seeds: int = 2
    jobs: int = 2
    reference: Path = Path("docs/results/cells.jsonl")
    output: Path = Path("runs/auto-ablation.md")


def change(variant: str) -> None:
    """Make this process's Auto the variant."""
    for name, value in VARIANTS[variant].items():
        if name == "HEAD":
            geometry.Head.by_entry = lambda self, shape: 1.0
        elif name == "INPUTS":
            InputScale.watch = lambda self, module: None
        elif name == "AVERAGE":
            weight_average.WeightAverage.watch = lambda self, module: None
        elif name == "POWER":
            weight_average.AVERAGED = optimizer.AVERAGED = value
        elif name == "IN_BALL":
            auto._in_ball = lambda layer, shape: float(layer.by_entry(shape) is None)
        elif name == "STATISTICS":
            batch_norm.BatchNormStatistics.begin = lambda self: None
        elif name == "OFFSETS":
            auto._radius = partial(radius, value)
        elif name == "CLOCK":
            auto.Auto._shorter = lambda self, groups, t: (1 + t / auto.PATIENCE) ** -self.power
        else:
            setattr(auto, name, value)


def radius(power: float, layer: geometry.Layer, shape: tuple[int, ...]) -> float:
    """Of a unit step, offsets going the same way up to a power of their number."""
    return layer.radius(shape) / layer.offsets(shape) ** power


def train(variant: str, workload: str, seed: int) -> dict:
    """In a process of its own."""
    torch.set_num_threads(1)
    change(variant)
    return vars(run(Config(workload, "auto", seed=seed)))


def key_of(variant: str, workload: str, seed: int) -> TrialKey:
    """Of a trial."""
    steps = find(workload).at("small").steps
    return TrialKey(workload, "small", f"auto, {variant}", "constant", seed, steps)


def train_missing(options: Options, trials: Trials) -> None:
    """All that the table wants."""
    seeds = range(1, options.seeds + 1)
    wanted = itertools.product(options.variants, options.workloads, seeds)
    missing = [each for each in wanted if key_of(*each) not in trials]
    context = get_context("spawn")
    with ProcessPoolExecutor(options.jobs, context, max_tasks_per_child=1) as pool:
        futures = {pool.submit(train, *each): key_of(*each) for each in missing}
        for future in track(as_completed(futures), "Training", total=len(futures)):
            trials.append(Trial.of({**future.result(), **futures[future]._asdict()}))


def saved(workload: str, ours: list[Trial], reference: Trials) -> float:
    """How many times fewer steps than the tuned AdamW's."""
    problem = Problem(workload, "small", find(workload).at("small").steps)
    keys = tuning(contestant_of(REFERENCE), problem, reference).fresh(3) or []
    tuned = [reference[key] for key in keys]
    target = mean([trial.last(LOSS) for trial in tuned])
    needed = [
        steps_to(target, mean_curve([trial.loss for trial in each])) for each in (tuned, ours)
    ]
    return step_reduction(*needed)


def table(options: Options, trials: Trials, reference: Trials) -> str:
    """A row for each variant, with the geometric mean at its end."""
    lines = [
        "| | " + " | ".join(options.workloads) + " | all |",
        "| --- |" + " ---: |" * (len(options.workloads) + 1),
    ]
    for variant in options.variants:
        found = []
        for workload in options.workloads:
            keys = [key_of(variant, workload, seed + 1) for seed in range(options.seeds)]
            found.append(saved(workload, [trials[key] for key in keys], reference))
        whole = math.exp(sum(math.log(max(number, FAILURE)) for number in found) / len(found))
        texts = [f"{number:.2f}" if number else "never" for number in found]
        lines.append(f"| {variant} | " + " | ".join(texts) + f" | {whole:.2f} |")
    return "\n".join(lines) + "\n"


def main(options: Options) -> None:
    """Train what is missing, then write the table."""
    trials = Trials(options.output.with_suffix(".jsonl"))
    trials.path.parent.mkdir(parents=True, exist_ok=True)
    train_missing(options, trials)
    options.output.write_text(table(options, trials, Trials(options.reference)), encoding="utf-8")
    print(options.output.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main(tyro.cli(Options))
