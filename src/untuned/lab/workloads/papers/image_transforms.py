"""ImageNet's customary crops for training and validation."""

import math
from io import BytesIO
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from untuned.lab.workloads.task import Batch

# Of ImageNet's channels
MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
DEVIATION = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
AREA = (0.08, 1.0)  # of a random crop, as a share
RATIO = (3 / 4, 4 / 3)  # its width to its height
MARGIN = 256 / 224  # shorter side over crop, in validation


def _uniform(low: float, high: float) -> float:
    return low + (high - low) * torch.rand(()).item()


def _random_crop(image: Image.Image, pixels: int) -> Image.Image:
    """A crop of random area and aspect ratio, resized, flipped with probability 1/2.

    Szegedy et al. 2014 (arXiv:1409.4842); random numbers are torch's.
    """
    width, height = image.size
    area = width * height * _uniform(*AREA)
    ratio = math.exp(_uniform(math.log(RATIO[0]), math.log(RATIO[1])))
    w = min(width, max(1, round(math.sqrt(area * ratio))))
    h = min(height, max(1, round(math.sqrt(area / ratio))))
    left, top = round(_uniform(0, width - w)), round(_uniform(0, height - h))
    part = image.resize((pixels, pixels), box=(left, top, left + w, top + h))
    mirrored = Image.Transpose.FLIP_LEFT_RIGHT
    return part.transpose(mirrored) if _uniform(0, 1) < 0.5 else part


def _centre_crop(image: Image.Image, pixels: int) -> Image.Image:
    """The centre, of side 224/256 of the shorter side, resized."""
    side = min(image.size) / MARGIN
    left, top = ((length - side) / 2 for length in image.size)
    return image.resize((pixels, pixels), box=(left, top, left + side, top + side))


def standardised(image: Image.Image) -> Tensor:
    """(3, h, w), by ImageNet's mean and deviation."""
    pixels = torch.tensor(np.asarray(image)).permute(2, 0, 1)
    return (pixels / 255 - MEAN) / DEVIATION


def collate_images(
    rows: list[Any], columns: tuple[str, str], pixels: int, crop: bool = False
) -> Batch:
    """Decode, crop and standardise images.

    Args:
        rows: with encoded images.
        columns: of images and of labels.
        pixels: side of the crops.
        crop: at random instead of at the centre.

    Returns:
        Images (n, 3, pixels, pixels) and labels (n,).
    """
    image, label = columns
    cut = _random_crop if crop else _centre_crop
    decoded = (Image.open(BytesIO(row[image]["bytes"])).convert("RGB") for row in rows)
    images = [standardised(cut(each, pixels)) for each in decoded]
    return Batch(torch.stack(images), torch.tensor([row[label] for row in rows]))
