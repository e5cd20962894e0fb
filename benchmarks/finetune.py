"""Weights that come trained: Auto beside AdamW at its best, with nothing touched.

python benchmarks/finetune.py --jobs 2 --output runs/auto-finetune.md

A small GPT-2 is trained by AdamW on the bytes of War and Peace, then goes on with Shakespeare.
"Forgets" is how far its loss on War and Peace, before and after, has then grown.
"""

import math
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import torch
import torch.nn.functional as F
import tyro
from ranges import AUTO, DEFAULT, TUNED, Method, descend
from rich.progress import track
from torch import Tensor, nn

from untuned.lab.workloads.data import text
from untuned.lab.workloads.text import GPT

LENGTH, BATCH = 64, 16
SHORTER = ("auto", 0.25)
FIRST, THEN = "war_and_peace.txt", "tiny_shakespeare.txt"


@dataclass(frozen=True)
class Options:
    """What to train."""

    before: int = 2000
    steps: tuple[int, ...] = (50, 200, 800)
    seeds: int = 2
    jobs: int = 2
    output: Path = Path("runs/auto-finetune.md")


class Ended(NamedTuple):
    """Validation losses in bits per byte: of the text at hand, and of the one before."""

    loss: float
    before: float


def network() -> nn.Module:
    """GPT-2's kind, 2 layers of width 64."""
    return GPT(256, width=64, layers=2, heads=4, length=LENGTH, dropout=0.0)


@cache
def windows(file: str) -> Tensor:
    """(n, LENGTH + 1) bytes of a text."""
    found = torch.frombuffer(bytearray(text(file).encode()), dtype=torch.uint8)
    return found[: len(found) // (LENGTH + 1) * (LENGTH + 1)].view(-1, LENGTH + 1).long()


def loss_on(model: nn.Module, chosen: Tensor) -> Tensor:
    """Of the next byte, in nats."""
    return F.cross_entropy(model(chosen[:, :-1]).flatten(0, 1), chosen[:, 1:].flatten())


def drawn(model: nn.Module, file: str, order: torch.Generator) -> Tensor:
    """The loss on a batch of the first nine tenths."""
    last = len(windows(file)) * 9 // 10
    return loss_on(model, windows(file)[torch.randint(last, (BATCH,), generator=order)])


@torch.no_grad()
def validated(model: nn.Module, file: str) -> float:
    """In bits, on 500 windows of the last tenth."""
    return float(loss_on(model, windows(file)[-500:])) / math.log(2)


def pretrain(folder: Path, steps: int, seed: int) -> None:
    """Keep what AdamW makes of the first text."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    model, order = network(), torch.Generator().manual_seed(seed)
    descend(model, ("adamw", 3e-3), steps, partial(drawn, model, FIRST, order))
    torch.save(model.state_dict(), folder / f"seed{seed}.pt")


def train(folder: Path, method: Method, steps: int, seed: int) -> Ended:
    """Go on with the second text."""
    torch.set_num_threads(1)
    model, order = network(), torch.Generator().manual_seed(100 + seed)
    model.load_state_dict(torch.load(folder / f"seed{seed}.pt", weights_only=True))
    descend(model, method, steps, partial(drawn, model, THEN, order))
    return Ended(validated(model, THEN), validated(model, FIRST))


def row(steps: int, ended: dict[Method, Ended], start: Ended) -> str:
    """A row of the table."""
    best = min(TUNED, key=lambda method: ended[method].loss)
    pairs = [ended[method] for method in (AUTO, SHORTER, DEFAULT, best)]
    texts = [f"{pair.loss:.3f} | {pair.before - start.before:.3f}" for pair in pairs]
    return f"| {steps} | {start.loss:.3f} | {' | '.join(texts)} | {best[1]:g} |"


def main(options: Options) -> None:
    """Train, then write the table."""
    folder = options.output.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    seeds, methods = range(options.seeds), (AUTO, SHORTER, *TUNED)
    wanted = [*product(methods, options.steps, seeds), *product([AUTO], [0], seeds)]
    with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
        list(pool.map(partial(pretrain, folder, options.before), seeds))
        futures = {pool.submit(train, folder, *each): each for each in wanted}
        found = {
            futures[future]: future.result()
            for future in track(as_completed(futures), "Training", total=len(futures))
        }

    def ended(method: Method, steps: int) -> Ended:
        every = [found[method, steps, seed] for seed in seeds]
        return Ended(mean(each.loss for each in every), mean(each.before for each in every))

    titles = ["Auto", "Auto, a quarter of its steps", "AdamW, 0.001", "AdamW, best"]
    lines = [
        f"| steps | before | {' | '.join(f'{title} | forgets' for title in titles)} | its rate |",
        "| ---: |" + " ---: |" * 10,
        *(
            row(n, {each: ended(each, n) for each in methods}, ended(AUTO, 0))
            for n in options.steps
        ),
    ]
    options.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(options.output.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main(tyro.cli(Options))
