"""What tuning costs: time and peak memory of a tower's step, beside torch's fused optimizers.

    python benchmarks/towers.py [--threads 2] [--repeats 30] [--eager] [--width 2048]

A perceptron of 10 million parameters, if its width is 2048. Times are medians of optimizers that
take turns; memory is the most that was alive at once during a step beyond weights and gradients, in
multiples of the weights. The floor counts the bytes that must move, over those that fused AdamW
moves: gradients and records are read for the hypergradient, then everything is read and written
once.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile

import untuned
from untuned.rules import SGD, Adam

Params = list[torch.nn.Parameter]


class Entry(NamedTuple):
    """An optimizer, and how many times a tensor of a weight's size passes through memory."""

    build: Callable[[Params], torch.optim.Optimizer]
    passes: int


def entries(compile: bool | None) -> dict[str, Entry]:
    """Who runs."""

    def ours(rule: object) -> Callable[[Params], torch.optim.Optimizer]:
        return lambda params: untuned.Optimizer(params, rule, compile=compile)

    return {
        "SGD(fused)": Entry(lambda params: torch.optim.SGD(params, lr=1e-6, fused=True), 3),
        "sgd": Entry(ours(SGD(1e-6)), 4),
        "sgd / sgd": Entry(ours(SGD(1e-6) / SGD(1e-9)), 6),
        "sgd / sgd / sgd / sgd / sgd": Entry(
            ours(SGD(1e-6) / SGD(1e-9) / SGD(1e-9) / SGD(1e-9) / SGD(1e-9)), 6
        ),
        "AdamW(fused)": Entry(lambda params: torch.optim.AdamW(params, lr=1e-6, fused=True), 7),
        "adam": Entry(ours(Adam(1e-6)), 8),
        "adam.tuning('lr') / sgd": Entry(ours(Adam(1e-6).tuning("lr") / SGD(1e-9)), 10),
        "adam / sgd": Entry(ours(Adam(1e-6) / SGD(1e-9)), 13),
    }


def parameters(width: int) -> Params:
    """The network's tensors, with gradients."""
    sizes = [784, width, width, width * 29 // 32, 10]
    shapes = [shape for d_in, d_out in pairwise(sizes) for shape in ((d_out, d_in), (d_out,))]
    params = [torch.nn.Parameter(torch.randn(shape) * 0.02) for shape in shapes]
    for param in params:
        param.grad = torch.randn_like(param)
    return params


def peak(opt: torch.optim.Optimizer, weights: int) -> float:
    """State, and the most that one step allocates beside it, over the weights' bytes."""
    tensors = [v for state in opt.state.values() for v in state.values() if torch.is_tensor(v)]
    state = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        opt.step()
    alive = highest = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            alive += event.nbytes()
            highest = max(highest, alive)
    return (state + highest) / weights


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--eager", action="store_true", help="without a compiler")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    chosen = entries(False if options.eager else None)
    opts = {name: entry.build(parameters(options.width)) for name, entry in chosen.items()}
    times: dict[str, list[float]] = {name: [] for name in opts}
    for _ in range(options.repeats + 3):
        for name, opt in opts.items():
            start = time.perf_counter()
            opt.step()
            times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(series[3:]) for name, series in times.items()}
    weights = sum(param.nbytes for param in parameters(options.width))
    kind = "eager" if options.eager else "compiled"
    print(f"torch {torch.__version__}, {options.threads} thread(s), {kind}\n")
    print("| rule | ms | / SGD(fused) | / AdamW(fused) | floor / AdamW | peak memory |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, entry in chosen.items():
        sgd, adamw = medians["SGD(fused)"], medians["AdamW(fused)"]
        cells = (
            f"{1e3 * medians[name]:.2f} | {medians[name] / sgd:.2f} | {medians[name] / adamw:.2f}"
        )
        memory = peak(opts[name], weights)
        print(f"| {name} | {cells} | {entry.passes / 7:.2f} | {memory:.2f} |")


if __name__ == "__main__":
    main()
