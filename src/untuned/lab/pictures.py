"""Pictures of any size, as they are cut for training and for validation (ImageNet's custom)."""

from __future__ import annotations

import math
from io import BytesIO
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from untuned.lab.task import Batch

# Of ImageNet's channels
MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
DEVIATION = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
AREA = (0.08, 1.0)  # of a random crop
RATIO = (3 / 4, 4 / 3)  # its width to its height
MARGIN = 256 / 224  # what validation scales to, before it cuts the centre out


def _uniform(low: float, high: float) -> float:
    return low + (high - low) * torch.rand(()).item()


def random_crop(picture: Image.Image, pixels: int) -> Image.Image:
    """A part of random area and ratio, scaled to a square; mirrored half of the time.

    By torch's dice. Szegedy et al. 2014 (arXiv:1409.4842).
    """
    width, height = picture.size
    area = width * height * _uniform(*AREA)
    ratio = math.exp(_uniform(math.log(RATIO[0]), math.log(RATIO[1])))
    w = min(width, max(1, round(math.sqrt(area * ratio))))
    h = min(height, max(1, round(math.sqrt(area / ratio))))
    left, top = round(_uniform(0, width - w)), round(_uniform(0, height - h))
    part = picture.resize((pixels, pixels), box=(left, top, left + w, top + h))
    mirrored = Image.Transpose.FLIP_LEFT_RIGHT
    return part.transpose(mirrored) if _uniform(0, 1) < 0.5 else part


def centre(picture: Image.Image, pixels: int) -> Image.Image:
    """The centre, once the shorter side is a little longer than `pixels`."""
    side = min(picture.size) / MARGIN
    left, top = ((length - side) / 2 for length in picture.size)
    return picture.resize((pixels, pixels), box=(left, top, left + side, top + side))


def standardised(picture: Image.Image) -> Tensor:
    """(3, h, w), by ImageNet's mean and deviation."""
    pixels = torch.tensor(np.asarray(picture)).permute(2, 0, 1)
    return (pixels / 255 - MEAN) / DEVIATION


def batch_of(rows: list[Any], columns: tuple[str, str], pixels: int, crop: bool = False) -> Batch:
    """Images (n, 3, pixels, pixels) and labels (n,), from rows of files of pictures."""
    image, label = columns
    cut = random_crop if crop else centre
    opened = (Image.open(BytesIO(row[image]["bytes"])).convert("RGB") for row in rows)
    images = [standardised(cut(picture, pixels)) for picture in opened]
    return Batch(torch.stack(images), torch.tensor([row[label] for row in rows]))
