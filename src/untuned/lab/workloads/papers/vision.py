"""The papers' networks for MNIST and CIFAR."""

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from untuned.lab.config import Size
from untuned.lab.workloads.data import grey_images, images
from untuned.lab.workloads.networks import (
    Chain,
    bare,
    preact_resnet18,
    resnet18,
    vgg11,
    vgg16,
)
from untuned.lab.workloads.supervised import Supervised
from untuned.lab.workloads.task import ACCURACY, Pairs, Workload, square
from untuned.lab.workloads.vision import (
    CUSTOMARY,
    VALIDATED,
    Treatment,
    cifar_workload,
    crop_and_flip,
    parts,
    standard,
    with_black_edges,
)


def wide_chain_workload(
    depth: int, width: int, bias: bool, batch: int, treatment: Treatment
) -> Workload:
    """The AGD paper's dense network (arXiv:2304.05187), CIFAR-10, square loss.

    Args:
        depth: number of layers.
        width: of the hidden layers.
        bias: whether layers have biases.
        batch: batch size.
        treatment: of images, at size full.
    """

    def at(size: Size) -> Supervised:
        small = size == "small"
        found = parts("cifar10", *((5000, VALIDATED) if small else (None, None)))
        train, valid = map(standard if small else treatment.standard, found)
        steps = 300 if small else 200 * (len(train) // batch)
        return Supervised(
            partial(Chain, depth, width, 3 * 32 * 32, bias), train, valid, batch, steps, ACCURACY,
            square, augment=None if small else treatment.augment,
        )  # fmt: skip

    about = f"{depth} fully-connected ReLU layers of width {width}, CIFAR-10{treatment.about}"
    return Workload(about, at)


def _mnist(
    network: Callable[[Size], nn.Module], about: str, batch: int, epochs: int,
    digits: Callable[[Size], dict[str, Pairs]],
) -> Workload:  # fmt: skip
    """A network on all of MNIST at either size.

    Args:
        network: from a size to the network.
        about: a description of it.
        batch: batch size.
        epochs: of the budget.
        digits: from a size to the parts "train" and "test".
    """

    def at(size: Size) -> Supervised:
        found = digits(size)
        train, valid = found["train"], found["test"]
        steps = epochs * (len(train) // batch)
        return Supervised(partial(network, size), train, valid, batch, steps, ACCURACY)

    return Workload(f"{about}, MNIST", at)


def turned(x: Tensor) -> Tensor:
    """Images (n, c, h, w) turned by up to 15 degrees, to the nearest pixels; outside is zero."""
    angles = (2 * torch.rand(len(x), device=x.device) - 1) * math.radians(15)
    cosine, sine, zero = angles.cos(), angles.sin(), torch.zeros_like(angles)
    rows = torch.stack([cosine, sine, zero, -sine, cosine, zero], dim=1)
    grid = F.affine_grid(rows.view(-1, 2, 3), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="nearest", align_corners=False)


def _standardised(size: Size) -> dict[str, Pairs]:
    """Pixels of mean zero and variance one, at either size."""
    return {part: Pairs(*pair) for part, pair in grey_images("mnist").items()}


def _as_the_towers_see(size: Size) -> dict[str, Pairs]:
    """Pixels in [0, 1] at size full, as in the authors' code."""
    if size == "small":
        return _standardised(size)
    return {part: Pairs(*images("mnist", part)) for part in ("train", "test")}


def _tanh(size: Size) -> nn.Module:
    """One hidden layer; at size full logits are tanh's as well, as in the authors' code."""
    layers = [nn.Flatten(), nn.Linear(784, 128), nn.Tanh(), nn.Linear(128, 10)]
    return nn.Sequential(*layers, nn.Tanh()) if size == "full" else nn.Sequential(*layers)


# github.com/jxbz/nero, cifar/utils.py
CROPPED_AND_TURNED = CUSTOMARY._replace(
    augment=with_black_edges(lambda x: turned(crop_and_flip(x)))
)
BARE = "without biases and gains of norms, square loss"
WORKLOADS = {
    # Nero's (arXiv:2102.07227, figure 3); narrower at size small
    "mlp100-mnist": _mnist(
        lambda size: Chain(100, 784 if size == "full" else 128, 784, bias=True),
        "100 fully-connected layers with biases", 250, 50, _standardised,
    ),
    # the towers' (arXiv:1909.13371)
    "tanh-mnist": _mnist(_tanh, "one hidden layer of 128 tanh units", 256, 30, _as_the_towers_see),
    "vgg11-cifar10": cifar_workload(
        vgg11, "VGG-11 without norms", 16, 64, treatment=CROPPED_AND_TURNED
    ),
    "resnet18-cifar10-original": cifar_workload(
        resnet18, "ResNet-18 of the original blocks", 8, 64, treatment=CROPPED_AND_TURNED
    ),
    "resnet18-cifar10-bare": cifar_workload(
        lambda width: bare(preact_resnet18(width)), f"a pre-activation ResNet-18 {BARE}", 8, 64,
        loss=square,
    ),
    "vgg16-cifar10-bare": cifar_workload(
        lambda width: bare(vgg16(width)), f"VGG-16 {BARE}", 16, 64, loss=square,
    ),
    "vgg16-cifar100-bare": cifar_workload(
        lambda width: bare(vgg16(width, 100)), f"VGG-16 {BARE}", 16, 64, "cifar100", square,
    ),
}  # fmt: skip
