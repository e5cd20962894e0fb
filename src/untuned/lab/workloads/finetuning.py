"""Networks that come trained and go on with other data: all weights, adapters, or the head alone.

A small GPT-2 has read the bytes of War and Peace and goes on with Shakespeare; adapters are those
of Hu et al. 2021 (arXiv:2106.09685), by peft, on every dense layer. A convolutional network has
learned MNIST and goes on with Fashion-MNIST, with a new head.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import Literal

import torch
from torch import Tensor, nn

from untuned.lab.config import Size
from untuned.lab.workloads.data import text
from untuned.lab.workloads.pretrained import weights_after
from untuned.lab.workloads.supervised import Supervised
from untuned.lab.workloads.task import ACCURACY, BITS, Pairs, Workload
from untuned.lab.workloads.text import GPT, GPT_SETTINGS, Corpus, language_task
from untuned.lab.workloads.vision import VALIDATED, parts

ALPHA = 16  # of adapters: their product counts ALPHA / rank times


@cache
def octets(file: str) -> Corpus:
    """The bytes of a text, split as `characters`: one vocabulary for every text."""
    tokens = torch.frombuffer(bytearray(text(file).encode()), dtype=torch.uint8).long()
    cut = int(0.9 * len(tokens))
    return Corpus(tokens[:cut], tokens[cut:], 256)


class _Frozen(nn.Sequential):
    """Layers that do not train; batch norms keep their statistics."""

    def train(self, mode: bool = True) -> _Frozen:
        return super().train(False)


class _ConvNet(nn.Module):
    """Three convolutions with norms, and a dense layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in ((1, width), (width, 2 * width), (2 * width, 4 * width)):
            conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
            layers += [conv, nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(4 * width, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Images (n, 1, 28, 28) to logits (n, 10)."""
        logits: Tensor = self.head(self.body(images))
        return logits


def _device(size: Size) -> str:
    """Small networks come from the same device everywhere."""
    return "cpu" if size == "small" else "auto"


def _goes_on(before: Supervised, size: Size, adapt: Callable[[nn.Module], None]) -> nn.Module:
    """The network of a task with the weights of its training, adapted."""
    network = before.model()
    network.load_state_dict(weights_after(before, _device(size)))
    adapt(network)
    return network


def _everything(network: nn.Module) -> None:
    """All weights train."""


def _adapters(rank: int, network: nn.Module) -> None:
    """Adapters train, all else is frozen."""
    from peft import LoraConfig, inject_adapter_in_model  # slow to import

    assert isinstance(network, GPT)
    config = LoraConfig(
        r=rank, lora_alpha=ALPHA, target_modules="all-linear",
        fan_in_fan_out=True,  # GPT-2 stores its matrices transposed
    )  # fmt: skip
    inject_adapter_in_model(config, network.gpt)


def _reader(file: str, size: Size) -> Supervised:
    """GPT-2 by bytes."""
    bits = BITS._replace(name="bits per byte")
    return language_task(lambda _: octets(file), GPT_SETTINGS, bits, size)


def _gpt(adapt: Callable[[nn.Module], None], size: Size) -> Supervised:
    before = replace(_reader("war_and_peace.txt", size), steps=2000 if size == "small" else 20_000)
    model = partial(_goes_on, before, size, adapt)
    return replace(_reader("tiny_shakespeare.txt", size), model=model, pretrained=True)


def _new_head(trains: Literal["all", "head"], network: nn.Module) -> None:
    """A head for other classes; the rest may be frozen."""
    assert isinstance(network, _ConvNet)
    network.head = nn.Linear(network.head.in_features, network.head.out_features)
    if trains == "head":
        network.body = _Frozen(*network.body).requires_grad_(False).eval()


def _images(name: str, size: Size) -> Supervised:
    small = size == "small"
    counts = (10_000, VALIDATED // 2) if small else (None, None)
    train, valid = (Pairs(*found) for found in parts(name, *counts))
    batch, steps = (64, 300) if small else (128, 4700)
    return Supervised(partial(_ConvNet, 8 if small else 64), train, valid, batch, steps, ACCURACY)


def _cnn(trains: Literal["all", "head"], size: Size) -> Supervised:
    before, after = _images("mnist", size), _images("fashion_mnist", size)
    before = replace(before, steps=2 * before.steps)
    model = partial(_goes_on, before, size, partial(_new_head, trains))
    return replace(after, model=model, pretrained=True)


_READER, _SEER = "GPT-2, from War and Peace to Shakespeare", "a CNN, from MNIST to Fashion-MNIST"
WORKLOADS = {
    "finetune-gpt": Workload(f"fine-tuning {_READER}", partial(_gpt, _everything)),
    **{
        f"lora{rank}-gpt": Workload(
            f"adapters of rank {rank} for {_READER}", partial(_gpt, partial(_adapters, rank))
        )
        for rank in (4, 32)
    },
    "finetune-cnn": Workload(f"fine-tuning {_SEER}", partial(_cnn, "all")),
    "probe-cnn": Workload(f"a new head for {_SEER}", partial(_cnn, "head")),
}
