"""Images: bare chains of fully-connected layers."""

from __future__ import annotations

import math
from functools import partial

import torch.nn.functional as F

from untuned.lab.config import Size
from untuned.lab.data import Labelled, digits, images
from untuned.lab.networks import Chain
from untuned.lab.supervised import Supervised
from untuned.lab.task import ACCURACY, Pairs, Workload

VALIDATED = 1000  # images, at size small

# How a set is called in the names of workloads, and by itself
CHAINS = {"digits": "digits", "mnist": "mnist", "fashion": "fashion_mnist"}


def parts(name: str, train: int | None, valid: int | None) -> tuple[Labelled, Labelled]:
    """The first images of a set to train on, and of its test part to validate on."""
    if name == "digits":
        return digits()["train"], digits()["test"]
    return images(name, "train", train), images(name, "test", valid)


def _unit(found: Labelled) -> Pairs:
    """Flat images scaled to a root mean square of one, image by image, as AGD's theory has it."""
    flat = found.images.flatten(1)
    return Pairs(F.normalize(flat, dim=1) * math.sqrt(flat.shape[1]), found.labels)


def fcn(depth: int, name: str) -> Workload:
    """The AGD paper's network (arXiv:2304.05187): ReLU layers, no biases, no norms."""

    def at(size: Size) -> Supervised:
        small = size == "small"
        train, valid = map(
            _unit, parts(CHAINS[name], *((10_000, VALIDATED) if small else (None, None)))
        )
        width = 128 if small else 1024 if name != "digits" else 256
        model = partial(Chain, depth, width, train.inputs.shape[1])
        steps = 500 if small else 100 * math.ceil(len(train) / 128)
        return Supervised(model, train, valid, 64 if small else 128, steps, ACCURACY)

    return Workload(
        f"{depth} fully-connected ReLU layers without biases or norms, {CHAINS[name]}", at
    )


WORKLOADS = {
    f"fcn{depth}-{name}": fcn(depth, name)
    for depth, name in (
        (2, "digits"), (8, "digits"), (32, "digits"), (8, "mnist"), (32, "mnist"),
        (4, "fashion"), (16, "fashion"),
    )
}  # fmt: skip
