"""Tiny data sets in the format of large ones: folders of Parquet shards."""

import random

import numpy as np
from datasets import ClassLabel, Dataset, Features, Image, Value
from PIL import Image as Picture

WORDS = [
    "the",
    "a",
    "house",
    "dog",
    "sees",
    "runs",
    "red",
    "small",
    "tree",
    "and",
    "in",
    "of",
    "mountain",
    "river",
    "bread",
]


def imagenet(folder, classes=1000):
    """Two shards to train on and one to validate on; pictures of different sizes, not all RGB."""
    dice = np.random.default_rng(0)
    features = Features({"image": Image(), "label": ClassLabel(num_classes=classes)})
    (folder / "imagenet").mkdir()
    for shard, count in (("train-00000-of-00002", 40), ("train-00001-of-00002", 40),
                         ("validation-00000-of-00001", 16)):  # fmt: skip
        pictures = [
            Picture.fromarray(dice.integers(0, 256, (40 + i % 7, 50), dtype=np.uint8)).convert(
                "L" if i % 5 == 0 else "RGB"
            )
            for i in range(count)
        ]
        labels = dice.integers(0, classes, count).tolist()
        rows = Dataset.from_dict({"image": pictures, "label": labels}, features)
        rows.to_parquet(str(folder / "imagenet" / f"{shard}.parquet"))


def sentence(dice):
    return " ".join(dice.choices(WORDS, k=dice.randrange(3, 12)))


def translations(folder, name, nested):
    """Pairs as of WMT16 (a struct for each) or of Multi30k (a column for each language)."""
    dice = random.Random(0)
    (folder / name).mkdir()
    for part, count in (("train-0", 60), ("train-1", 60), ("validation-0", 10)):
        pairs = [{"de": sentence(dice).upper(), "en": sentence(dice)} for _ in range(count)]
        rows = Dataset.from_list([{"translation": pair} for pair in pairs] if nested else pairs)
        rows.to_parquet(str(folder / name / f"{part}.parquet"))


def openwebtext(folder):
    dice = random.Random(0)
    texts = [". ".join(sentence(dice) for _ in range(60)) for _ in range(100)]
    (folder / "openwebtext").mkdir()
    rows = Dataset.from_dict({"text": texts}, Features({"text": Value("string")}))
    rows.to_parquet(str(folder / "openwebtext" / "train-0.parquet"))


def cifar10(folder, name, counts):
    """As on the hub, one shade an image: the first image of a folder is of the shade of its size.

    Args:
        folder: for the data set's folder.
        name: of that folder.
        counts: of images by part.
    """
    features = Features({"img": Image(), "label": ClassLabel(num_classes=10)})
    (folder / name).mkdir()
    for part, count in counts.items():
        shades = [np.full((32, 32, 3), count + i, dtype=np.uint8) for i in range(count)]
        labels = [i % 10 for i in range(count)]
        rows = Dataset.from_dict(
            {"img": [Picture.fromarray(s) for s in shades], "label": labels}, features
        )
        rows.to_parquet(str(folder / name / f"{part}.parquet"))
