"""The time that an optimizer adds to a training step of GPT-2, beside AdamW."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from untuned.lab.bench.measure import Call, Copy, take_turns
from untuned.lab.bench.models import GPT2
from untuned.lab.bench.steps import Settings, optimizers


@dataclass(frozen=True)
class Overhead:
    """A training step with an optimizer."""

    optimizer: str
    ms: float  # the median
    ms_low: float  # the quartiles
    ms_high: float
    over_adamw: float  # share of the time with AdamW(fused) that is added


def overheads(settings: Settings, quick: bool = False) -> list[Overhead]:
    """Time training steps of GPT-2 small on 8 x 1024 random tokens, in bfloat16 by autocast.

    The optimizers take turns on one model: its weights do not matter, as long as they are finite.

    Args:
        settings: optimizers, device, repeats and limits.
        quick: a tiny model instead.
    """
    device = torch.device(settings.device)
    with torch.device(device):
        model: nn.Module = GPT2(64, 2, 256, 64) if quick else GPT2()
        tokens = torch.randint(256 if quick else 50257, (2, 32) if quick else (8, 1024))
    made = optimizers(model, settings)
    steps = {who: _training_step(model, tokens, step) for who, (_, step) in made.items()}
    copy = Copy(device, 1)  # a training step empties the caches itself
    times, _ = take_turns(steps, copy, settings.repeats, settings.limit)
    base = times["AdamW(fused)"].median
    return [
        Overhead(who, 1e3 * t.median, 1e3 * t.low, 1e3 * t.high, t.median / base - 1)
        for who, t in times.items()
    ]


def _training_step(model: nn.Module, tokens: Tensor, step: Call) -> Call:
    def run() -> None:
        model.zero_grad()
        with torch.autocast(tokens.device.type, torch.bfloat16):
            logits = model(tokens)
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), tokens[:, 1:].flatten())
        loss.backward()
        step()

    return run
