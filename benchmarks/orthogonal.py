"""What ways to orthogonalise cost, and how close to one singular values come.

python benchmarks/orthogonal.py
python benchmarks/orthogonal.py --shapes 1x512x512 100x64x64 --seconds 10 --device cuda

The ways take turns in one process, on one thread; times are the least of all turns, on a CPU the
processor's. Two kinds of matrices: of singular values 1 / k, and momenta of a layer of that shape
in a small network that learns. `above`: where values end that are more than a thousandth of the
largest; `below`: the largest of others.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from untuned.geometry import polar

SHAPES = (
    "20x16x16", "8x64x64", "100x64x64", "8x128x128", "1x128x784", "4x256x256", "1x256x1024",
    "1x512x512", "1x512x2048", "1x1024x1024",
)  # fmt: skip


@dataclass(frozen=True)
class Options:
    """What to measure."""

    shapes: tuple[str, ...] = SHAPES
    seconds: float = 5.0  # of turns for each shape
    device: str = "cpu"


def newton_schulz_in_16_bits(G: Tensor) -> Tensor:
    """Of which only CUDA makes use."""
    return polar.newton_schulz(G.bfloat16()).to(G.dtype)


def gram_newton_schulz(G: Tensor) -> Tensor:
    """The same polynomials of the Gram matrix, applied at the end."""
    a, b, c = polar.QUINTIC
    G = G / torch.linalg.matrix_norm(G, keepdim=True)
    R = G @ G.mT
    lift = torch.eye(len(R[0]), device=G.device).expand_as(R)
    for _ in range(polar.ITERATIONS):
        P = torch.baddbmm(R, R, R, beta=b, alpha=c)
        P.diagonal(dim1=1, dim2=2).add_(a)
        lift, R = P @ lift, P @ R @ P
    return lift @ G


def eigenvectors(G: Tensor) -> Tensor:
    """Exactly, but for values that rounding of the Gram matrix hides."""
    values, vectors = torch.linalg.eigh(G @ G.mT)
    least = torch.finfo(G.dtype).eps * values[:, -1:]
    return (vectors * values.clamp_min(least).rsqrt()[:, None]) @ vectors.mT @ G


WAYS: dict[str, Callable[[Tensor], Tensor]] = {
    "newton_schulz": polar.newton_schulz,
    "halley": polar.halley,
    "newton_schulz, 16 bits": newton_schulz_in_16_bits,
    "gram_newton_schulz": gram_newton_schulz,
    "eigenvectors": eigenvectors,
}


def reciprocals(count: int, rows: int, columns: int) -> Tensor:
    """Of singular values 1 / k."""
    U, V = (torch.linalg.qr(torch.randn(count, n, rows))[0] for n in (rows, columns))
    return (U / torch.arange(1, rows + 1)) @ V.mT


def momenta(count: int, rows: int, columns: int) -> Tensor:
    """Of the layer (rows, columns) of a network that learns a random one's outputs, in batches."""
    teacher, model = (
        nn.Sequential(nn.Linear(columns, rows), nn.Tanh(), nn.Linear(rows, 10)) for _ in range(2)
    )
    scales = 1 / torch.arange(1, columns + 1).sqrt()  # of the inputs, as in data
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    momentum = torch.zeros(rows, columns)
    for _ in range(50):
        x = torch.randn(64, columns) * scales
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), teacher(x).detach()).backward()
        momentum.lerp_(model[0].weight.grad, 0.1)
        optimizer.step()
    return momentum.expand(count, -1, -1).contiguous()


def ends(way: Callable[[Tensor], Tensor], G: Tensor) -> tuple[str, str]:
    """Where the singular values of the first matrix end: those above a thousandth, and others."""
    U, values, V = torch.linalg.svd(G[0].double(), full_matrices=False)
    made = ((U.mT @ way(G)[0].double()) * V).sum(1)
    above = values > values[0] / 1e3
    below = f"{made[~above].max():.2f}" if not above.all() else ""
    return f"{made[above].min():.2f} to {made[above].max():.2f}", below


def times(G: Tensor, seconds: float) -> dict[str, float]:
    """The least seconds of each way, in turns."""
    taken: dict[str, list[float]] = {name: [] for name in WAYS}
    until = time.perf_counter() + seconds
    clock = time.perf_counter if G.is_cuda else time.process_time  # others do not count
    while time.perf_counter() < until or len(taken["halley"]) < 5:
        for name, way in WAYS.items():
            start = clock()
            way(G)
            if G.is_cuda:
                torch.cuda.synchronize()
            taken[name].append(clock() - start)
    return {name: min(each) for name, each in taken.items()}


def main(options: Options) -> None:
    """A row for each shape and way."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    table = Table(
        "shape", "way", "ms", "/ newton_schulz", "1 / k: above", "momenta: above", "below"
    )
    for text in options.shapes:
        shape = tuple(map(int, text.split("x")))
        given = [make(*shape).to(options.device) for make in (reciprocals, momenta)]
        given = [G / G.abs().amax((1, 2), keepdim=True) for G in given]
        found = times(given[0], options.seconds)
        for name, way in WAYS.items():
            ratio = found[name] / found["newton_schulz"]
            learnt, below = ends(way, given[1])
            table.add_row(
                text, name, f"{1e3 * found[name]:.3g}", f"{ratio:.2f}", ends(way, given[0])[0],
                learnt, below, end_section=name == list(WAYS)[-1],
            )  # fmt: skip
    Console(width=120).print(table)


if __name__ == "__main__":
    main(tyro.cli(Options))
