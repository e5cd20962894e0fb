"""Real data: from the folder that UNTUNED_DATA names, or else from the hub."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

HUB = {"mnist": "ylecun/mnist", "fashion_mnist": "zalando-datasets/fashion_mnist"}


@functools.cache
def grey_images(name: str) -> dict[str, tuple[Tensor, Tensor]]:
    """A data set of grey 28x28 images, "train" and "test" each as images and labels.

    Images (n, 28, 28) are shifted and scaled to mean zero and variance one over the training set.
    """
    from datasets import load_dataset  # type: ignore[import-untyped]  # slow to import

    folder = os.environ.get("UNTUNED_DATA")
    if folder:
        files = {part: str(Path(folder) / name / f"{part}.parquet") for part in ("train", "test")}
        parts = load_dataset("parquet", data_files=files)
    else:
        parts = load_dataset(HUB[name])
    arrays = {
        part: (np.stack([np.asarray(image) for image in rows["image"]]), np.asarray(rows["label"]))
        for part, rows in parts.items()
    }
    mean, deviation = arrays["train"][0].mean(), arrays["train"][0].std()
    return {
        part: (torch.tensor((images - mean) / deviation).float(), torch.tensor(labels))
        for part, (images, labels) in arrays.items()
    }
