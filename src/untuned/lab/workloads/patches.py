"""Image classification from patches: a vision transformer, and an MLP-mixer.

Dosovitskiy et al. 2020 (arXiv:2010.11929; here the mean over patches instead of a class token), and
Tolstikhin et al. 2021 (arXiv:2105.01601).
"""

from functools import partial

import torch
from torch import Tensor, nn

from untuned.lab.config import Size
from untuned.lab.workloads.supervised import Supervised
from untuned.lab.workloads.task import ACCURACY, Pairs, Workload
from untuned.lab.workloads.vision import VALIDATED, cifar_task, parts

PATCH = 4  # pixels


class _Patches(nn.Module):
    """Embeddings of the patches of an image."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, PATCH, stride=PATCH)

    def forward(self, images: Tensor) -> Tensor:
        """(n, channels, h, w) to (n, patches, width)."""
        out: Tensor = self.conv(images)
        return out.flatten(2).transpose(1, 2)


class _VisionTransformer(nn.Module):
    """torch's transformer encoder, norms first."""

    def __init__(self, patches: int, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.patches = _Patches(1, width)
        self.places = nn.Embedding(patches, width)
        block = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True,
            norm_first=True,
        )  # fmt: skip
        norm = nn.LayerNorm(width)
        self.encoder = nn.TransformerEncoder(block, layers, norm, enable_nested_tensor=False)
        self.head = nn.Linear(width, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Images (n, 1, h, w) to logits (n, 10)."""
        x = self.patches(images)
        x = x + self.places(torch.arange(x.shape[1], device=x.device))
        out: Tensor = self.head(self.encoder(x).mean(1))
        return out


def _mlp(inputs: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, inputs))


class _Mixing(nn.Module):
    """One network across patches, then one across channels, each beside an identity."""

    def __init__(self, patches: int, width: int) -> None:
        super().__init__()
        self.norm1, self.across_patches = nn.LayerNorm(width), _mlp(patches, width // 2)
        self.norm2, self.across_channels = nn.LayerNorm(width), _mlp(width, 4 * width)

    def forward(self, x: Tensor) -> Tensor:
        """(n, patches, width) to the same."""
        x = x + self.across_patches(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        out: Tensor = self.across_channels(self.norm2(x))
        return x + out


class _Mixer(nn.Module):
    """Blocks of `_Mixing`."""

    def __init__(self, patches: int, width: int, blocks: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _Patches(3, width), *(_Mixing(patches, width) for _ in range(blocks)),
            nn.LayerNorm(width),
        )  # fmt: skip
        self.head = nn.Linear(width, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Images (n, 3, h, w) to logits (n, 10)."""
        out: Tensor = self.head(self.body(images).mean(1))
        return out


def _vision_transformer(size: Size) -> Supervised:
    counts = (10_000, VALIDATED // 2) if size == "small" else (None, None)
    mean, deviation = 0.286, 0.353  # of the training images
    train, valid = (
        Pairs((found.images - mean) / deviation, found.labels)
        for found in parts("fashion_mnist", *counts)
    )
    width, layers, heads = (32, 2, 4) if size == "small" else (192, 6, 6)
    batch, steps = (32, 300) if size == "small" else (128, 23_400)
    model = partial(_VisionTransformer, (28 // PATCH) ** 2, width, layers, heads)
    return Supervised(model, train, valid, batch, steps, ACCURACY)


def _mixer(size: Size) -> Supervised:
    side, width, blocks = (16, 64, 3) if size == "small" else (32, 256, 8)
    return cifar_task(partial(_Mixer, (side // PATCH) ** 2, width, blocks), size)


WORKLOADS = {
    "vit-fashion": Workload("a small vision transformer, Fashion-MNIST", _vision_transformer),
    "mixer-cifar10": Workload("an MLP-mixer, CIFAR-10", _mixer),
}
