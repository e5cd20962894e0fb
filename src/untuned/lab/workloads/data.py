"""Data sets: from the folder UNTUNED_DATA, or else from the hub.

The folder has a file NAME/PART.parquet for each part, or shards NAME/PART*.parquet; scikit-learn's
digits need neither folder nor hub. The folder may hold a data set in part, for size small, and the
whole beside it, in NAME_complete.
"""

import functools
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from untuned.lab.errors import MissingDataError

# Repository on the hub, and configuration if it has several
HUB: dict[str, tuple[str, ...]] = {
    "mnist": ("ylecun/mnist",),
    "fashion_mnist": ("zalando-datasets/fashion_mnist",),
    "cifar10": ("uoft-cs/cifar10",),
    "cifar100": ("uoft-cs/cifar100",),
    "imagenet": ("ILSVRC/imagenet-1k",),
    "wmt16": ("wmt/wmt16", "de-en"),
    "multi30k": ("bentrevett/multi30k",),
    "openwebtext": ("Skylion007/openwebtext",),
}
IMAGE_AND_LABEL = ("image", "label")  # the columns of image data sets, except of these
COLUMNS = {"cifar10": ("img", "label"), "cifar100": ("img", "fine_label")}
# Rows of whole data sets whose folder may hold a part of them
WHOLE = {"cifar10": {"train": 50_000, "test": 10_000}}


class Labelled(NamedTuple):
    """Images (n, channels, height, width) in [0, 1], and labels (n,)."""

    images: Tensor
    labels: Tensor


def rows(name: str, part: str, first: int | None = None, streaming: bool = False) -> Any:
    """One part of a data set.

    Args:
        name: of the data set.
        part: such as "train" or "test".
        first: how many rows; None: all.
        streaming: an `IterableDataset` instead of a `Dataset`.

    Raises:
        MissingDataError: neither in the folder nor available from the hub.
    """
    from datasets import load_dataset  # slow to import

    source: tuple[str, ...] = ("parquet",)
    files: dict[str, list[str]] | None = None
    folder = os.environ.get("UNTUNED_DATA")
    if folder:
        files = {part: [str(path) for path in sorted(Path(folder).glob(f"{name}/{part}*.parquet"))]}
        if not files[part]:
            raise _missing(f"{name}/{part}*.parquet", f"is not in UNTUNED_DATA={folder}")
    elif name in HUB:
        source = HUB[name]
    else:
        raise _missing(name, "is not on the hub")
    split = part if first is None else f"{part}[:{first}]"
    try:
        return load_dataset(*source, data_files=files, split=split, streaming=streaming)
    except (OSError, ValueError) as error:
        raise _missing(name, f"cannot be loaded ({source[0]}: {error})") from error


def _missing(name: str, why: str) -> MissingDataError:
    where = "let UNTUNED_DATA name a folder that holds it (docs/lab.md says how it is laid out)"
    network = ", or run once where there is a network" if name in HUB else ""
    return MissingDataError(f"the data set {name} {why}: {where}{network}")


def _all_rows(name: str, part: str) -> Any:
    """A part without a row missing, from the folder of the whole data set if there is one."""
    folder, complete = os.environ.get("UNTUNED_DATA"), f"{name}_complete"
    found = rows(complete if folder and (Path(folder) / complete).is_dir() else name, part)
    whole = WHOLE.get(name, {}).get(part, len(found))
    if len(found) < whole:
        raise MissingDataError(
            f"UNTUNED_DATA={folder} holds a subset of {name} ({part}: {len(found):,} of "
            f"{whole:,}): put the whole into {complete}/{part}.parquet"
        )
    return found


@functools.cache
def images(name: str, part: str, first: int | None = None) -> Labelled:
    """A data set of images; arguments as in `rows`.

    Raises:
        MissingDataError: not at hand; or a subset is, where all rows are asked for.
    """
    found = _all_rows(name, part) if first is None else rows(name, part, first)
    image, label = COLUMNS.get(name, IMAGE_AND_LABEL)
    pixels = np.stack([np.asarray(pixels) for pixels in found[image][:]])
    grey = pixels.ndim == 3
    tensor = torch.tensor(pixels).float().div_(255)
    tensor = tensor[:, None] if grey else tensor.permute(0, 3, 1, 2).contiguous()
    return Labelled(tensor, torch.tensor(found[label][:]))


@functools.cache
def digits() -> dict[str, Labelled]:
    """Scikit-learn's digits, 8x8, in a fixed split: 1347 for "train" and 450 for "test"."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)
    split = train_test_split(pixels, labels, stratify=labels, random_state=0)
    x_train, x_test, y_train, y_test = map(torch.as_tensor, split)
    x_train, x_test = (x.float().reshape(-1, 1, 8, 8) / 16 for x in (x_train, x_test))
    return {"train": Labelled(x_train, y_train), "test": Labelled(x_test, y_test)}


@functools.cache
def grey_images(name: str) -> dict[str, tuple[Tensor, Tensor]]:
    """Grey 28x28 images of "train" and "test", and labels.

    Images (n, 28, 28) are shifted and scaled to mean zero and variance one over the training set.
    """
    parts = {part: images(name, part) for part in ("train", "test")}
    mean, deviation = parts["train"].images.mean(), parts["train"].images.std()
    return {part: ((p.images[:, 0] - mean) / deviation, p.labels) for part, p in parts.items()}


@functools.cache
def text(file: str) -> str:
    """The text of a file text/FILE of the folder. Raises `MissingDataError`."""
    folder = os.environ.get("UNTUNED_DATA")
    if not folder:
        raise _missing(file, "is not on the hub")
    path = Path(folder) / "text" / file
    if not path.exists():
        raise _missing(f"text/{file}", f"is not in UNTUNED_DATA={folder}")
    with path.open(encoding="utf-8", newline="") as opened:
        return opened.read()
