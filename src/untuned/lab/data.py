"""Real data: from the folder that UNTUNED_DATA names, or else from the hub.

The folder is laid out as the names below; scikit-learn's digits need neither.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from untuned.lab.errors import MissingDataError

HUB = {
    "mnist": "ylecun/mnist",
    "fashion_mnist": "zalando-datasets/fashion_mnist",
    "cifar10": "uoft-cs/cifar10",
    "cifar100": "uoft-cs/cifar100",
}
# What comes in shards, and may be too large to hold; the second name is a configuration's
SHARDED: dict[str, tuple[str, ...]] = {
    "cifar10": ("uoft-cs/cifar10",),
    "imagenet": ("ILSVRC/imagenet-1k",),
    "wmt16": ("wmt/wmt16", "de-en"),
    "multi30k": ("bentrevett/multi30k",),
    "openwebtext": ("Skylion007/openwebtext",),
}
# Columns of images and labels, where they are not "image" and "label"
COLUMNS = {"cifar10": ("img", "label"), "cifar100": ("img", "fine_label")}


class Labelled(NamedTuple):
    """Images in [0, 1], (n, channels, height, width), and their labels (n,)."""

    images: Tensor
    labels: Tensor


def rows(name: str, part: str, first: int | None = None) -> Any:
    """The first rows of a part of a data set, as `datasets` has them.

    Raises `MissingDataError` where there is none.
    """
    from datasets import load_dataset  # slow to import

    split = part if first is None else f"{part}[:{first}]"
    folder = os.environ.get("UNTUNED_DATA")
    if folder:
        files = {part: str(existing(f"{name}/{part}.parquet"))}
        return load_dataset("parquet", data_files=files, split=split)
    if name not in HUB:
        raise _missing(name, "is not on the hub")
    try:
        return load_dataset(HUB[name], split=split)
    except (OSError, ValueError) as error:
        raise _missing(name, f"cannot be had from the hub ({HUB[name]}: {error})") from error


def shards(name: str, part: str, streaming: bool = False) -> Any:
    """A part of a data set, of any number of files NAME/PART*.parquet; as a stream if asked for.

    Raises `MissingDataError` where there is none.
    """
    from datasets import load_dataset  # slow to import

    folder = os.environ.get("UNTUNED_DATA")
    if folder:
        files = [str(path) for path in sorted(Path(folder).glob(f"{name}/{part}*.parquet"))]
        if not files:
            raise _missing(f"{name}/{part}*.parquet", f"is not in UNTUNED_DATA={folder}")
        found = {part: files}
        return load_dataset("parquet", data_files=found, split=part, streaming=streaming)
    try:
        return load_dataset(*SHARDED[name], split=part, streaming=streaming)
    except (OSError, ValueError) as error:
        raise _missing(name, f"cannot be had from the hub ({SHARDED[name]}: {error})") from error


def existing(file: str) -> Path:
    """A file of the folder that UNTUNED_DATA names; raises `MissingDataError` without."""
    folder = os.environ.get("UNTUNED_DATA")
    if not folder:
        raise _missing(file, "is not on the hub")
    path = Path(folder) / file
    if not path.exists():
        raise _missing(file, f"is not in UNTUNED_DATA={folder}")
    return path


def _missing(name: str, why: str) -> MissingDataError:
    where = "let UNTUNED_DATA name a folder that holds it (docs/lab.md says how it is laid out)"
    network = ", or run once where there is a network" if name in HUB else ""
    return MissingDataError(f"the data set {name} {why}: {where}{network}")


@functools.cache
def images(name: str, part: str, first: int | None = None) -> Labelled:
    """The first images of a part ("train", "test") of a set."""
    found = rows(name, part, first)
    image, label = COLUMNS.get(name, ("image", "label"))
    pixels = np.stack([np.asarray(pixels) for pixels in found[image]])
    grey = pixels.ndim == 3
    tensor = torch.tensor(pixels).float().div_(255)
    tensor = tensor[:, None] if grey else tensor.permute(0, 3, 1, 2).contiguous()
    return Labelled(tensor, torch.tensor(found[label]))


@functools.cache
def digits() -> dict[str, Labelled]:
    """Scikit-learn's digits, 8x8: 1347 to train on and 450 to test on, always the same."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)
    split = train_test_split(pixels, labels, stratify=labels, random_state=0)
    x_train, x_test, y_train, y_test = map(torch.as_tensor, split)

    def shaped(x: Tensor) -> Tensor:
        return x.float().reshape(-1, 1, 8, 8) / 16

    return {"train": Labelled(shaped(x_train), y_train), "test": Labelled(shaped(x_test), y_test)}


@functools.cache
def grey_images(name: str) -> dict[str, tuple[Tensor, Tensor]]:
    """A data set of grey 28x28 images, "train" and "test" each as images and labels.

    Images (n, 28, 28) are shifted and scaled to mean zero and variance one over the training set.
    """
    parts = {part: images(name, part) for part in ("train", "test")}
    mean, deviation = parts["train"].images.mean(), parts["train"].images.std()
    return {
        part: ((found.images[:, 0] - mean) / deviation, found.labels)
        for part, found in parts.items()
    }


@functools.cache
def text(file: str) -> str:
    """A text of the folder."""
    with existing(f"text/{file}").open(encoding="utf-8", newline="") as opened:
        return opened.read()
