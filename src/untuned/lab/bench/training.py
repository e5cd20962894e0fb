"""What an optimizer adds to a training step of GPT-2, beside AdamW."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from untuned.lab.bench.measure import Copy, take_turns
from untuned.lab.bench.models import GPT2
from untuned.lab.bench.steps import Settings, optimizers


@dataclass(frozen=True)
class Overhead:
    """A training step with an optimizer."""

    optimizer: str
    ms: float  # the median
    ms_low: float
    ms_high: float
    over_adamw: float  # how much longer than with AdamW(fused), as a share


def overheads(texts: Sequence[str], settings: Settings, quick: bool = False) -> list[Overhead]:
    """Of GPT-2 small on 8 x 1024 random tokens, in bfloat16 by autocast; `quick`: a tiny one.

    The optimizers take turns on one model: its weights do not matter, as long as they are finite.
    """
    device = torch.device(settings.device)
    with torch.device(device):
        model: nn.Module = GPT2(64, 2, 256, 64) if quick else GPT2()
        tokens = torch.randint(256 if quick else 50257, (2, 32) if quick else (8, 1024))
    made = optimizers(model, texts, settings)
    steps = {who: _training_step(model, tokens, step) for who, (_, step) in made.items()}
    copy = Copy(device, 1)  # a training's step leaves no cache as it was
    times, _ = take_turns(steps, copy, settings.repeats, settings.limit)
    base = times["AdamW(fused)"].median
    return [
        Overhead(who, 1e3 * t.median, 1e3 * t.low, 1e3 * t.high, t.median / base - 1)
        for who, t in times.items()
    ]


def _training_step(
    model: nn.Module, tokens: Tensor, step: Callable[[], object]
) -> Callable[[], object]:
    def run() -> None:
        model.zero_grad()
        with torch.autocast(tokens.device.type, torch.bfloat16):
            logits = model(tokens)
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), tokens[:, 1:].flatten())
        loss.backward()
        step()

    return run
