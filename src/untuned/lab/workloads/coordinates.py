"""Regression from the coordinates of a pixel to its colour, for one image.

Tancik et al. 2020 (arXiv:2006.10739): the inputs are sin(2 pi B v) and cos(2 pi B v), with v the
coordinates in [0, 1] and B normal.
"""

import math
from functools import cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from untuned.lab.config import Size
from untuned.lab.workloads.data import images
from untuned.lab.workloads.supervised import Supervised
from untuned.lab.workloads.task import DECIBELS, Pairs, Workload

SCALE = 10.0  # standard deviation of B
VALIDATED_PIXELS = 1000


def _mosaic(side: int) -> Tensor:
    """The first `side`^2 training images of CIFAR-10 as one: (3, 32 side, 32 side)."""
    tiles = images("cifar10", "train", side**2).images.view(side, side, 3, 32, 32)
    return tiles.permute(2, 0, 3, 1, 4).reshape(3, 32 * side, 32 * side)


def _features(length: int, frequencies: int) -> Tensor:
    """Fourier features of the pixels of a square image, (length^2, 2 frequencies)."""
    axis = (torch.arange(length) + 0.5) / length
    places = torch.cartesian_prod(axis, axis)
    b = SCALE * torch.randn(2, frequencies, generator=torch.Generator().manual_seed(0))
    angles = 2 * math.pi * places @ b
    return torch.cat([angles.sin(), angles.cos()], dim=1)


@cache
def _pixels(side: int, frequencies: int) -> tuple[Pairs, Pairs]:
    """Features and colours of the pixels for training, and of those held back."""
    image = _mosaic(side)
    features, colours = _features(32 * side, frequencies), image.flatten(1).T.contiguous()
    order = torch.randperm(len(colours), generator=torch.Generator().manual_seed(0))
    valid, train = order[:VALIDATED_PIXELS], order[VALIDATED_PIXELS:]
    return Pairs(features[train], colours[train]), Pairs(features[valid], colours[valid])


def _network(inputs: int, width: int) -> nn.Sequential:
    hidden: list[nn.Module] = []
    for d_in in (inputs, width, width):
        hidden += [nn.Linear(d_in, width), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(width, 3), nn.Sigmoid())


def _coordinates(size: Size) -> Supervised:
    side, frequencies, width = (4, 64, 64) if size == "small" else (8, 128, 256)
    batch, steps = (256, 500) if size == "small" else (4096, 5000)
    train, valid = _pixels(side, frequencies)
    model = partial(_network, 2 * frequencies, width)
    return Supervised(model, train, valid, batch, steps, DECIBELS, loss=F.mse_loss)


WORKLOADS = {
    "coordinates-cifar10": Workload(
        "a network from coordinates to colours, images of CIFAR-10", _coordinates
    )
}
