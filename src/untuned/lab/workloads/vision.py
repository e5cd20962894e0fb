"""Image classification by chains of dense layers and by convolutional networks."""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from untuned.lab.config import Size
from untuned.lab.workloads.data import Labelled, digits, images
from untuned.lab.workloads.networks import Chain, preact_resnet18, resnet20, vgg16
from untuned.lab.workloads.supervised import Supervised
from untuned.lab.workloads.task import ACCURACY, Loss, Pairs, Workload, cross_entropy

VALIDATED = 1000  # images, at size small
# From the suffix of a workload's name to the data set
CHAINS = {"digits": "digits", "mnist": "mnist", "fashion": "fashion_mnist"}


def parts(name: str, train: int | None, valid: int | None) -> tuple[Labelled, Labelled]:
    """Training and validation images: the first of the parts "train" and "test".

    Args:
        name: of the data set.
        train: number of training images; None: all.
        valid: number of validation images; None: all.
    """
    if name == "digits":
        return digits()["train"], digits()["test"]
    return images(name, "train", train), images(name, "test", valid)


def _unit(found: Labelled) -> Pairs:
    """Flat images, each scaled to a root mean square of one, as AGD's theory assumes."""
    flat = found.images.flatten(1)
    return Pairs(F.normalize(flat, dim=1) * math.sqrt(flat.shape[1]), found.labels)


def chain_workload(depth: int, name: str) -> Workload:
    """The AGD paper's network (arXiv:2304.05187): dense ReLU layers, no biases, no norms.

    Args:
        depth: number of layers.
        name: a key of `CHAINS`.
    """

    def at(size: Size) -> Supervised:
        small = size == "small"
        counts = (10_000, VALIDATED) if small else (None, None)
        train, valid = map(_unit, parts(CHAINS[name], *counts))
        width = 128 if small else 1024 if name != "digits" else 256
        model = partial(Chain, depth, width, train.inputs.shape[1])
        steps = 500 if small else 100 * math.ceil(len(train) / 128)
        return Supervised(model, train, valid, 64 if small else 128, steps, ACCURACY)

    return Workload(
        f"{depth} fully-connected ReLU layers without biases or norms, {CHAINS[name]}", at
    )


def crop_and_flip(x: Tensor) -> Tensor:
    """Random crops of images (n, c, h, w) padded by 4 pixels, flipped with probability 1/2."""
    n, c, h, w = x.shape
    down, right = torch.randint(9, (2, n, 1), device=x.device)
    ys = down + torch.arange(h, device=x.device)
    xs = right + torch.arange(w, device=x.device)
    xs = torch.where(torch.rand(n, 1, device=x.device) < 0.5, xs, xs.flip(1))
    every = torch.arange(n, device=x.device)[:, None, None, None]
    channels = torch.arange(c, device=x.device)[:, None, None]
    return F.pad(x, (4, 4, 4, 4))[every, channels, ys[:, None, :, None], xs[:, None, None, :]]


# Of CIFAR-10's training images, by channel; deviations of all pixels, and, smaller, within images
CIFAR_MEAN = torch.tensor([0.4914, 0.4822, 0.4465])[:, None, None]
CIFAR_DEVIATION = torch.tensor([0.2470, 0.2435, 0.2616])[:, None, None]
CIFAR_WITHIN = torch.tensor([0.2023, 0.1994, 0.2010])[:, None, None]
BLACK = -CIFAR_MEAN / CIFAR_WITHIN  # standardised


def standard(found: Labelled, deviation: Tensor = CIFAR_DEVIATION) -> Pairs:
    """Channels standardised.

    Args:
        found: images, from 0 to 1.
        deviation: to divide by, (channels, 1, 1).
    """
    return Pairs((found.images - CIFAR_MEAN) / deviation, found.labels)


def with_black_edges(augment: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """An augmentation of images standardised by the deviations within images.

    Args:
        augment: an augmentation that fills with zeros.
    """

    def augmented(x: Tensor) -> Tensor:
        black = BLACK.to(x)
        return augment(x - black) + black

    return augmented


class Treatment(NamedTuple):
    """What becomes of CIFAR's images before training."""

    about: str
    standard: Callable[[Labelled], Pairs]
    augment: Callable[[Tensor], Tensor] | None  # of training images, in each step


# AGD's authors' (github.com/jxbz/agd, data/cifar10.py), as in github.com/kuangliu/pytorch-cifar:
# images are cropped before they are standardised, so that crops have black edges
CUSTOMARY = Treatment(
    "", partial(standard, deviation=CIFAR_WITHIN), with_black_edges(crop_and_flip)
)
TREATMENTS: dict[str | None, Treatment] = {
    None: CUSTOMARY,
    "unaugmented": CUSTOMARY._replace(about=" without augmentation", augment=None),
    "grey": Treatment(" padded with its mean colour", standard, crop_and_flip),
}


def cifar_workload(
    network: Callable[[int], nn.Module], about: str, small: int, full: int,
    name: str = "cifar10", loss: Loss = cross_entropy, treatment: Treatment = CUSTOMARY,
) -> Workload:  # fmt: skip
    """A convolutional network; at size small images have half their resolution.

    Args:
        network: from a width to the network.
        about: a description of it.
        small: width at size small.
        full: width at size full.
        name: of the data set.
        loss: to train with.
        treatment: of images, at size full.
    """

    def at(size: Size) -> Supervised:
        width = small if size == "small" else full
        return cifar_task(partial(network, width), size, name, loss, treatment)

    return Workload(f"{about}, {name.replace('cifar', 'CIFAR-')}", at)


def cifar_task(
    model: Callable[[], nn.Module], size: Size, name: str = "cifar10", loss: Loss = cross_entropy,
    treatment: Treatment = CUSTOMARY,
) -> Supervised:  # fmt: skip
    """Classification of images; at size small they have half their resolution.

    Args:
        model: makes the network.
        size: of the workload.
        name: of the data set.
        loss: to train with.
        treatment: of images, at size full.
    """
    if size == "full":
        train, valid = map(treatment.standard, parts(name, None, None))
        steps = 200 * (len(train) // 128)
        return Supervised(model, train, valid, 128, steps, ACCURACY, loss, treatment.augment)
    train, valid = (
        standard(Labelled(F.avg_pool2d(found.images, 2), found.labels))
        for found in parts(name, 5000, VALIDATED // 2)
    )
    return Supervised(model, train, valid, 32, 300, ACCURACY, loss)


WORKLOADS = {
    "resnet18-cifar10": cifar_workload(preact_resnet18, "a pre-activation ResNet-18", 8, 64),
    "resnet20-cifar10": cifar_workload(resnet20, "ResNet-20", 8, 16),
    "vgg16-cifar10": cifar_workload(vgg16, "VGG-16 with norms", 16, 64),
} | {
    f"fcn{depth}-{name}": chain_workload(depth, name)
    for depth, name in (
        (2, "digits"), (8, "digits"), (32, "digits"), (8, "mnist"), (32, "mnist"),
        (4, "fashion"), (16, "fashion"),
    )
}  # fmt: skip
