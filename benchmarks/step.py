"""The time of an optimizer's step on CPU, as a ratio to fused SGD in the same run.

    python benchmarks/step.py [--threads 1] [--repeats 40]

The floor counts the bytes that an optimizer must move, over those that SGD moves (gradient and
weight read, weight written: 3): AGD and Nero read gradients once more (4 / 3), AdamW reads
and writes two moments (7 / 3). The optimizers take turns, so that noise is noise for all.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

import untuned

Params = list[torch.nn.Parameter]

OPTIMIZERS: dict[str, tuple[float, Callable[[Params], torch.optim.Optimizer]]] = {
    "SGD(fused)": (1.0, lambda params: torch.optim.SGD(params, lr=1e-6, fused=True)),
    "untuned.AGD": (4 / 3, lambda params: untuned.AGD(params, lr=1e-6)),
    "untuned.Nero": (4 / 3, lambda params: untuned.Nero(params, lr=1e-6)),
    "AdamW(fused)": (7 / 3, lambda params: torch.optim.AdamW(params, lr=1e-6, fused=True)),
}
SHAPES = {
    "10 x (1024, 1024)": [(1024, 1024)] * 10,
    "100 x (64, 64)": [(64, 64)] * 100,
    "20 x (256, 256, 3, 3)": [(256, 256, 3, 3)] * 20,
}


def seconds(step: Callable[[], object]) -> float:
    """One step, timed."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def measure(shapes: list[tuple[int, ...]], repeats: int) -> dict[str, float]:
    """The median seconds of a step of each optimizer, on tensors of its own."""
    steps = {}
    for name, (_, build) in OPTIMIZERS.items():
        params = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
        for param in params:
            param.grad = torch.randn_like(param)
        steps[name] = build(params).step
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats + 3):
        for name, step in steps.items():
            times[name].append(seconds(step))
    return {name: statistics.median(series[3:]) for name, series in times.items()}


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=40)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {options.threads} thread(s), {options.repeats} repeats\n")
    print("| tensors | optimizer | ms | ratio to SGD(fused) | floor |\n|---|---|---:|---:|---:|")
    for label, shapes in SHAPES.items():
        medians = measure(shapes, options.repeats)
        for name, (floor, _) in OPTIMIZERS.items():
            ratio = medians[name] / medians["SGD(fused)"]
            print(f"| {label} | {name} | {1e3 * medians[name]:.2f} | {ratio:.2f} | {floor:.2f} |")


if __name__ == "__main__":
    main()
