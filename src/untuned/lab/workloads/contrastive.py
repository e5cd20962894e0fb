"""Representations without labels: which two views are of the same image?

Chen et al. 2020 (arXiv:2002.05709). The loss is InfoNCE: the cross-entropy of the similarities
between each view and the other views of all images in its group, over a temperature.
"""

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from untuned.lab.config import Size
from untuned.lab.workloads.data import images
from untuned.lab.workloads.supervised import Supervised
from untuned.lab.workloads.task import Batch, Metric, Workload, accuracy, cross_entropy
from untuned.lab.workloads.vision import crop_and_flip

TEMPERATURE = 0.2


def _view(x: Tensor) -> Tensor:
    """Images (n, 1, h, w), shifted, perhaps flipped, of another contrast, and with noise."""
    contrast = torch.empty(len(x), 1, 1, 1).uniform_(0.5, 1.5)
    return crop_and_flip(x) * contrast + 0.1 * torch.randn_like(x)


@dataclass(frozen=True)
class TwoViews:
    """Two views of each image (n, 1, h, w); torch's global seed decides which.

    A batch has inputs (n, 2, 1, h, w); its targets, the places in the batch, are not used.
    """

    inputs: Tensor

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, chosen: Tensor) -> Batch:
        views = [_view(self.inputs[chosen]) for _ in range(2)]
        return Batch(torch.stack(views, dim=1), torch.arange(len(chosen)))


class _Encoder(nn.Module):
    """Three convolutions with norms, and a projection of two layers."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, channels in ((1, width), (width, 2 * width), (2 * width, 4 * width)):
            conv = nn.Conv2d(inputs, channels, 3, stride=2, padding=1, bias=False)
            layers += [conv, nn.BatchNorm2d(channels), nn.ReLU()]
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.projection = nn.Sequential(
            nn.Linear(4 * width, 4 * width), nn.ReLU(), nn.Linear(4 * width, outputs)
        )

    def forward(self, views: Tensor) -> Tensor:
        """Views (n, 2, 1, h, w) to unit vectors (n, 2, outputs)."""
        out: Tensor = self.projection(self.body(views.flatten(0, 1)))
        vectors: Tensor = F.normalize(out, dim=1).unflatten(0, (-1, 2))
        return vectors


def _similarities(vectors: Tensor, group: int) -> list[Tensor]:
    """Of the first to the second views of each group: (group, group), over the temperature."""
    return [part[:, 0] @ part[:, 1].T / TEMPERATURE for part in vectors.split(group)]


def _info_nce(vectors: Tensor, places: Tensor, group: int) -> Tensor:
    """InfoNCE of vectors (n, 2, outputs), within groups of images."""
    losses = [
        (cross_entropy(logits, places[: len(logits)])
         + cross_entropy(logits.T, places[: len(logits)])) / 2
        for logits in _similarities(vectors, group)
    ]  # fmt: skip
    return torch.stack(losses).mean()


def _found(vectors: Tensor, places: Tensor, group: int) -> Tensor:
    """For what share of the images the other view is the nearest of its group."""
    each = [accuracy(logits, places[: len(logits)]) for logits in _similarities(vectors, group)]
    return torch.stack(each).mean()


def _contrastive(size: Size) -> Supervised:
    width, outputs, batch, steps = (8, 32, 100, 300) if size == "small" else (64, 128, 500, 12_000)
    counts = (10_000, 500) if size == "small" else (None, None)
    train, valid = map(partial(images, "fashion_mnist"), ("train", "test"), counts)
    return Supervised(
        partial(_Encoder, width, outputs), TwoViews(train.images), TwoViews(valid.images),
        batch, steps, Metric("accuracy", partial(_found, group=batch)),
        loss=partial(_info_nce, group=batch),
    )  # fmt: skip


WORKLOADS = {
    "contrastive-fashion": Workload("a contrastive encoder (InfoNCE), Fashion-MNIST", _contrastive)
}
