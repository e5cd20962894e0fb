"""What a floor of a tower takes: ours, and the paper's algorithm written plainly.

python benchmarks/floors.py

Whole training steps of arXiv:1909.13371's network for MNIST, batches of 256, on one core, in turns.
Plainly written, a floor is a few operations on the numbers of one network: the graph of the last
step stays until the next, and there are no charts, limits, records or checks.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn

import untuned
from untuned.lab.bench.measure import Copy, take_turns
from untuned.lab.report.table import Table

HEIGHTS = (1, 2, 3, 5, 10)
TURNS = 300
Step = Callable[[], list[Tensor]]  # it returns the weights
RATES = [10.0**-power for power in range(2, 2 + max(HEIGHTS))]


def network() -> nn.Module:
    """One hidden layer of 128."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(784, 128), nn.Tanh(), nn.Linear(128, 10), nn.Tanh())


def ours(height: int, x: Tensor, y: Tensor) -> Step:
    """A training step of sgd(lr=0.01) / sgd(lr=0.001) / ..., as published."""
    model = network()
    tower = " / ".join(f"sgd(lr={rate:g})" for rate in RATES[:height])
    opt = untuned.Optimizer(model, f"({tower}).as_published()")

    def step() -> list[Tensor]:
        opt.zero_grad()
        F.cross_entropy(model(x), y).backward()
        opt.step()
        return list(model.parameters())

    return step


def plain(height: int, x: Tensor, y: Tensor) -> Step:
    """The same step: each rate moves by the one above, which has just moved, then is used."""
    model = network()
    named = dict(model.named_parameters())
    rates = [torch.tensor(rate) for rate in RATES[:height]]

    def moved(old: Tensor, rate: Tensor) -> Tensor:
        slope = torch.zeros_like(old) if old.grad is None else old.grad
        new = old.detach() - rate * slope
        new.requires_grad_() if new.is_leaf else new.retain_grad()
        return new

    def step() -> list[Tensor]:
        F.cross_entropy(torch.func.functional_call(model, named, (x,)), y).backward()
        for level in reversed(range(height - 1)):
            rates[level] = moved(rates[level], rates[level + 1])
        for name, weight in named.items():
            named[name] = moved(weight, rates[0])
        return list(named.values())

    return step


def main(turns: int = TURNS) -> None:
    """A table: milliseconds of a step by height, ours and plain; a floor also in parts of a step.

    Args:
        turns: how often each step is timed.
    """
    torch.set_num_threads(1)
    x, y = torch.rand(256, 784), torch.randint(10, (256,))
    kinds = {"ours": ours, "plain": plain}
    steps = {f"{kind} {h}": build(h, x, y) for kind, build in kinds.items() for h in HEIGHTS}
    nothing = Copy(x.device, 1)  # a training step leaves its own data in the caches
    times, _ = take_turns(steps, nothing, turns, limit=math.inf)
    rows = []
    for kind in kinds:
        ms = [1e3 * times[f"{kind} {h}"].median for h in HEIGHTS]
        floor = (ms[-1] - ms[1]) / (HEIGHTS[-1] - HEIGHTS[1])
        rows.append([kind, *(f"{each:.2f}" for each in ms), f"{floor:.3f} ({floor / ms[0]:.1%})"])
    head = ["step, ms", *(f"height {h}" for h in HEIGHTS), "a floor"]
    Console().print(Table.of(head, rows, "What a floor takes").rich())


if __name__ == "__main__":
    main()
