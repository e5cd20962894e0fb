"""Data sets too large to hold: ImageNet and OpenWebText, streamed.

At size small the networks and pictures are small, so that two cores can run them on any part of
the data.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from untuned.lab.config import Size
from untuned.lab.convnets import bare
from untuned.lab.data import COLUMNS, shards
from untuned.lab.pictures import batch_of
from untuned.lab.pieces import END, pieces
from untuned.lab.streamed import Rows, Stream, Streamed
from untuned.lab.task import ACCURACY, PERPLEXITY, Batch, Workload, cross_entropy
from untuned.lab.workloads.text import GPT


class ResNet50(nn.Module):
    """ResNet-50 of the transformers library; one block a stage and half the width if small."""

    resnet: nn.Module

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


def _bare_resnet50(classes: int, small: bool) -> nn.Module:
    return bare(ResNet50(classes, small))


def _files(name: str, part: str, streaming: bool = False) -> Any:
    """Rows with files of pictures, which become pictures in a batch alone."""
    from datasets import Image  # slow to import

    column, _ = COLUMNS.get(name, ("image", "label"))
    return shards(name, part, streaming).cast_column(column, Image(decode=False))


def pictures(name: str, classes: int, valid: str, without: bool) -> Workload:
    """ResNet-50 on a streamed set of pictures; `without` biases and gains if asked for."""

    def at(size: Size) -> Streamed:
        small = size == "small"
        columns = COLUMNS.get(name, ("image", "label"))
        collate = partial(batch_of, columns=columns, pixels=32 if small else 224)
        train = Stream(partial(_files, name, "train", streaming=True), partial(collate, crop=True))
        held = _files(name, valid)
        held = held.select(range(min(500, len(held)))) if small else held
        model = partial(_bare_resnet50 if without else ResNet50, classes, small)
        # as of AGD's paper: 350 epochs in batches of 1024
        batch, steps = (32, 200) if small else (1024, 350 * (1_281_167 // 1024))
        return Streamed(model, train, Rows(held, collate), batch, steps, ACCURACY)

    told = " without biases and gains of norms" if without else ""
    return Workload(f"ResNet-50{told}, {name}, streamed", at)


def packed(rows: dict[str, list[str]], tokenizer: Any, length: int) -> dict[str, list[list[int]]]:
    """Documents end to end, cut into windows of length + 1."""
    ids = [i for each in tokenizer.encode_batch(rows["text"]) for i in (*each.ids, END)]
    return {"ids": [ids[at : at + length + 1] for at in range(0, len(ids) - length, length + 1)]}


def _windows(rows: list[Any]) -> Batch:
    tokens = torch.tensor([row["ids"] for row in rows])
    return Batch(tokens[:, :-1], tokens[:, 1:])


def _openwebtext(size: Size) -> Streamed:
    """The first documents are kept for validation: the set has no other part."""
    small = size == "small"
    kept, length, tokens = (20, 64, 1000) if small else (1000, 1024, 50_257)
    texts = shards("openwebtext", "train", streaming=True)
    tokenizer = pieces((row["text"] for row in texts.take(10 * kept)), tokens)
    pack = partial(packed, tokenizer=tokenizer, length=length)

    def windows(rows: Any) -> Any:
        return rows.map(pack, batched=True, remove_columns=list(rows.column_names or ["text"]))

    valid = Rows(list(windows(texts.take(kept))), _windows)
    train = Stream(lambda: windows(texts.skip(kept)), _windows)
    shape = (
        {"width": 32, "layers": 1, "heads": 2}
        if small
        else {"width": 768, "layers": 12, "heads": 12}
    )
    model = partial(GPT, tokens, length=length, dropout=0.0, **shape)
    batch, steps = (8, 200) if small else (480, 10_000)
    return Streamed(model, train, valid, batch, steps, PERPLEXITY, cross_entropy)


WORKLOADS = {
    "resnet50-imagenet": pictures("imagenet", 1000, "validation", without=False),
    "resnet50-imagenet-bare": pictures("imagenet", 1000, "validation", without=True),
    "resnet50-cifar10": pictures("cifar10", 10, "test", without=False),
    "resnet50-cifar10-bare": pictures("cifar10", 10, "test", without=True),
    "gpt2-openwebtext": Workload("GPT-2, OpenWebText, streamed", _openwebtext),
}
