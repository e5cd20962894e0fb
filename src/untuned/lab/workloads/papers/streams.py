"""ImageNet and OpenWebText, streamed.

At size small networks and images are small, so that two cores can train on any part of the data.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from untuned.lab.config import Size
from untuned.lab.workloads.data import COLUMNS, IMAGE_AND_LABEL, rows
from untuned.lab.workloads.networks import bare
from untuned.lab.workloads.papers.image_transforms import collate_images
from untuned.lab.workloads.papers.streamed import StoredRows, Stream, Streamed
from untuned.lab.workloads.papers.tokenizer import END, train_tokenizer
from untuned.lab.workloads.task import ACCURACY, PERPLEXITY, Batch, Workload
from untuned.lab.workloads.text import GPT


class _ResNet50(nn.Module):
    """ResNet-50 of the transformers library; if small, one block a stage and half the width."""

    def __init__(self, classes: int, small: bool) -> None:
        super().__init__()
        from transformers import ResNetConfig, ResNetForImageClassification  # slow to import

        shape: dict[str, Any] = {}
        if small:
            shape = {"embedding_size": 16, "hidden_sizes": [32, 64, 128, 256], "depths": [1] * 4}
        config = ResNetConfig.from_dict({"num_labels": classes, **shape})
        self.resnet = ResNetForImageClassification(config)

    def forward(self, images: Tensor) -> Tensor:
        """(n, 3, h, w) to logits (n, classes)."""
        logits: Tensor = self.resnet(images).logits
        return logits


def _encoded(name: str, part: str, streaming: bool = False) -> Any:
    """Rows with encoded images, which are decoded when they are collated."""
    from datasets import Image  # slow to import

    column, _ = COLUMNS.get(name, IMAGE_AND_LABEL)
    return rows(name, part, streaming=streaming).cast_column(column, Image(decode=False))


def _resnet50(name: str, classes: int, valid: str, without: bool) -> Workload:
    """ResNet-50 on a streamed set of images, optionally `without` biases and gains."""

    def at(size: Size) -> Streamed:
        small = size == "small"
        columns = COLUMNS.get(name, IMAGE_AND_LABEL)
        collate = partial(collate_images, columns=columns, pixels=32 if small else 224)
        opened = partial(_encoded, name, "train", streaming=True)
        train = Stream(opened, partial(collate, crop=True))
        held = _encoded(name, valid)
        held = held.select(range(min(500, len(held)))) if small else held
        network = partial(_ResNet50, classes, small)
        model = (lambda: bare(network())) if without else network
        # as of AGD's paper: 350 epochs in batches of 1024
        batch, steps = (32, 200) if small else (1024, 350 * (1_281_167 // 1024))
        return Streamed(model, train, StoredRows(held, collate), batch, steps, ACCURACY)

    bareness = " without biases and gains of norms" if without else ""
    return Workload(f"ResNet-50{bareness}, {name}, streamed", at)


def _packed(texts: dict[str, list[str]], tokenizer: Any, length: int) -> dict[str, list[list[int]]]:
    """Documents end to end, cut into windows of length + 1."""
    ids = [i for each in tokenizer.encode_batch(texts["text"]) for i in (*each.ids, END)]
    return {"ids": [ids[at : at + length + 1] for at in range(0, len(ids) - length, length + 1)]}


def _windows(packed: list[Any]) -> Batch:
    tokens = torch.tensor([row["ids"] for row in packed])
    return Batch(tokens[:, :-1], tokens[:, 1:])


def _openwebtext(size: Size) -> Streamed:
    """The first documents are for validation: the data set has one part only."""
    small = size == "small"
    held, length, tokens = (20, 64, 1000) if small else (1000, 1024, 50_257)
    texts = rows("openwebtext", "train", streaming=True)
    tokenizer = train_tokenizer((row["text"] for row in texts.take(10 * held)), tokens)
    pack = partial(_packed, tokenizer=tokenizer, length=length)

    def windows(documents: Any) -> Any:
        columns = list(documents.column_names or ["text"])
        return documents.map(pack, batched=True, remove_columns=columns)

    valid = StoredRows(list(windows(texts.take(held))), _windows)
    train = Stream(lambda: windows(texts.skip(held)), _windows)
    width, layers = (32, 1) if small else (768, 12)
    heads, (batch, steps) = (2, (8, 200)) if small else (12, (480, 10_000))
    model = partial(GPT, tokens, width, layers, heads, length, dropout=0.0)
    return Streamed(model, train, valid, batch, steps, PERPLEXITY)


WORKLOADS = {
    "resnet50-imagenet": _resnet50("imagenet", 1000, "validation", without=False),
    "resnet50-imagenet-bare": _resnet50("imagenet", 1000, "validation", without=True),
    "resnet50-cifar10": _resnet50("cifar10", 10, "test", without=False),
    "resnet50-cifar10-bare": _resnet50("cifar10", 10, "test", without=True),
    "gpt2-openwebtext": Workload("GPT-2, OpenWebText, streamed", _openwebtext),
}
