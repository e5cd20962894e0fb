"""What whole training steps cost: forward, backward and step on one thread, over fused AdamW's.

python benchmarks/training_step.py --output runs/training-step.md
python benchmarks/training_step.py --chains 256x4x128 --gpt2 --resnet50

A chain of WIDTHxDEPTHxBATCH has DEPTH square dense layers with biases, and ReLU between them. The
optimizers take turns in one process, each on a network of its own. Times are means over rounds of
steps, in which Auto's matrices take all their turns: the least of all rounds, and a ratio is their
median. Seconds are the processor's, so that other programs do not count.
"""

import copy
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
import tyro
from torch import Tensor, nn

from untuned.lab.baselines.methods import method_of
from untuned.lab.bench.models import GPT2
from untuned.lab.bench.tables import machine
from untuned.lab.comparison.step_times import ROUND, SETTLED

REFERENCE = "adamw(fused=True)"
CHAINS = (
    "64x8x16", "64x8x64", "64x8x1024", "128x8x64", "256x4x16", "256x4x128", "256x4x1024",
    "512x4x128", "512x4x1024", "1024x3x128", "1024x3x1024", "2048x3x128", "2048x3x1024",
)  # fmt: skip


@dataclass(frozen=True)
class Options:
    """What to measure."""

    chains: tuple[str, ...] = CHAINS
    optimizers: tuple[str, ...] = ("auto", "muon")
    gpt2: bool = False  # GPT-2 small, on 1 x 256 tokens
    resnet50: bool = False  # on 4 images of 224 x 224
    seconds: float = 10.0  # of turns for each network
    output: Path | None = None


Loss = Callable[[nn.Module], Tensor]


def chain(text: str) -> tuple[nn.Module, Loss]:
    """The network, and its loss."""
    width, depth, batch = map(int, text.split("x"))
    layers = [each for _ in range(depth) for each in (nn.Linear(width, width), nn.ReLU())]
    x, y = torch.randn(batch, width), torch.randint(width, (batch,))
    return nn.Sequential(*layers[:-1]), lambda model: F.cross_entropy(model(x), y)


def gpt2() -> tuple[nn.Module, Loss]:
    """GPT-2 small."""
    tokens = torch.randint(50257, (1, 257))
    target = tokens[:, 1:].flatten()
    return GPT2(), lambda model: F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), target)


def resnet50() -> tuple[nn.Module, Loss]:
    """ResNet-50, transformers' own."""
    from transformers import ResNetConfig, ResNetForImageClassification

    x, y = torch.randn(4, 3, 224, 224), torch.randint(1000, (4,))
    model = ResNetForImageClassification(ResNetConfig(num_labels=1000))
    return model, lambda model: F.cross_entropy(model(x).logits, y)


class Contender:
    """An optimizer on a copy of a network."""

    def __init__(self, text: str, model: nn.Module, loss: Loss) -> None:
        self.model, self.loss = copy.deepcopy(model), loss
        self.optimizer = method_of(text).make(self.model)

    def seconds(self) -> tuple[float, float]:
        """Of forward and backward, and of the step."""
        start = time.process_time()
        self.optimizer.zero_grad()
        self.loss(self.model).backward()
        middle = time.process_time()
        self.optimizer.step()
        return middle - start, time.process_time() - middle


def _mean(steps: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Of forward and backward, and of the step, over a round, in which matrices take all turns."""
    return statistics.fmean(step[0] for step in steps), statistics.fmean(step[1] for step in steps)


def row(name: str, model: nn.Module, loss: Loss, options: Options) -> str:
    """A line of the table."""
    texts = (REFERENCE, *options.optimizers)
    contenders = [Contender(text, model, loss) for text in texts]
    turns: list[list[tuple[float, float]]] = []
    for _ in range(SETTLED):
        for each in contenders:
            each.seconds()
    until = time.perf_counter() + options.seconds
    while len(turns) < 2 or time.perf_counter() < until:
        steps = [[each.seconds() for each in contenders] for _ in range(ROUND)]
        turns.append([_mean(own) for own in zip(*steps, strict=True)])
    cells = [name, f"{1e3 * min(turn[0][0] for turn in turns):.3g}"]
    for place in range(len(texts)):
        cells.append(f"{1e3 * min(turn[place][1] for turn in turns):.3g}")
        if place:
            ratios = [sum(turn[place]) / sum(turn[0]) for turn in turns]
            cells.append(f"{statistics.median(ratios):.2f}")
    print(" | ".join(cells), flush=True)
    return f"| {' | '.join(cells)} |\n"


def main(options: Options) -> None:
    """A line for each network."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    heads = ["network", "forward + backward, ms", "step of AdamW, ms"]
    for text in options.optimizers:
        heads += [f"step of {text}, ms", f"training step, {text} / AdamW"]
    table = f"{machine('cpu')}\n\n| {' | '.join(heads)} |\n| --- |{' ---: |' * (len(heads) - 1)}\n"
    print(table)
    networks = {text: lambda text=text: chain(text) for text in options.chains}
    networks |= {"GPT-2 small, 1 x 256 tokens": gpt2} if options.gpt2 else {}
    networks |= {"ResNet-50, 4 images": resnet50} if options.resnet50 else {}
    for name, make in networks.items():
        table += row(name, *make(), options)
        if options.output:
            options.output.parent.mkdir(parents=True, exist_ok=True)
            options.output.write_text(table, encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Options))
