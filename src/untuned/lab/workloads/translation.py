"""German to English, streamed: WMT16, and Multi30k.

The Nero paper (arXiv:2102.07227, figure 8) tells of WMT16; its authors' code trains on Multi30k,
the pairs of WMT16's multimodal task.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from untuned.lab.config import Size
from untuned.lab.data import shards
from untuned.lab.pieces import END, PAD, START, pieces
from untuned.lab.streamed import Rows, Stream, Streamed
from untuned.lab.task import PERPLEXITY, Batch, Workload

IGNORED = -100  # targets that cross-entropy leaves out


class Sizes(NamedTuple):
    """Of a transformer and its batches."""

    width: int
    layers: int
    heads: int
    tokens: int
    length: int
    batch: int
    steps: int


class Translator(nn.Module):
    """A transformer with encoder and decoder (Marian's, of the transformers library)."""

    marian: nn.Module

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        from transformers import MarianConfig, MarianMTModel  # slow to import

        layers, heads, wide = sizes.layers, sizes.heads, 4 * sizes.width
        config = MarianConfig(
            vocab_size=sizes.tokens, d_model=sizes.width, max_position_embeddings=sizes.length,
            encoder_layers=layers, decoder_layers=layers, encoder_attention_heads=heads,
            decoder_attention_heads=heads, encoder_ffn_dim=wide, decoder_ffn_dim=wide,
            pad_token_id=PAD, bos_token_id=START, eos_token_id=END, decoder_start_token_id=START,
            forced_eos_token_id=END, use_cache=False, scale_embedding=True,
        )  # fmt: skip
        self.marian = MarianMTModel(config)

    def forward(self, pairs: Tensor) -> Tensor:
        """Sources and what precedes each target, (n, 2, length), to logits (n, length, tokens)."""
        source, before = pairs.unbind(1)
        out = self.marian(source, attention_mask=source != PAD, decoder_input_ids=before)
        logits: Tensor = out.logits
        return logits


def _padded(rows: list[list[int]], length: int, fill: int) -> Tensor:
    return torch.tensor([(row + [fill] * length)[:length] for row in rows])


def translated(rows: list[Any], tokenizer: Any, length: int) -> Batch:
    """German in, English out: pairs (n, 2, length), and targets (n, length)."""
    pairs = [row.get("translation", row) for row in rows]
    source, target = (
        [each.ids for each in tokenizer.encode_batch([pair[part] for pair in pairs])]
        for part in ("de", "en")
    )
    ends = [[*row[: length - 1], END] for row in target]
    before = _padded([[START, *row[:-1]] for row in ends], length, PAD)
    source_ = _padded([[*row[: length - 1], END] for row in source], length, PAD)
    return Batch(torch.stack([source_, before], 1), _padded(ends, length, IGNORED))


def smoothed(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy with labels smoothed by 0.1."""
    return F.cross_entropy(logits.flatten(0, -2), targets.flatten(), label_smoothing=0.1)


@cache
def _pairs_taught(name: str, first: int, tokens: int) -> Any:
    rows = shards(name, "train", streaming=True).take(first)
    pairs = (row.get("translation", row) for row in rows)
    return pieces((pair[part] for pair in pairs for part in ("de", "en")), tokens)


def translation(name: str) -> Workload:
    """German to English."""
    shapes: dict[Size, Sizes] = {
        "small": Sizes(32, 1, 2, 1000, 32, 16, 200),
        "full": Sizes(512, 6, 8, 32_000, 100, 128, 100 * (29_000 // 128)),
    }

    def at(size: Size) -> Streamed:
        sizes = shapes[size]
        tokenizer = _pairs_taught(name, 2000 if size == "small" else 200_000, sizes.tokens)
        collate = partial(translated, tokenizer=tokenizer, length=sizes.length)
        train = Stream(partial(shards, name, "train", streaming=True), collate)
        held = shards(name, "validation")
        held = held.select(range(min(200, len(held)))) if size == "small" else held
        model = partial(Translator, sizes)
        return Streamed(
            model, train, Rows(held, collate), sizes.batch, sizes.steps, PERPLEXITY, smoothed
        )

    return Workload(f"a transformer, German to English, {name}, streamed", at)


WORKLOADS = {f"translation-{name}": translation(name) for name in ("wmt16", "multi30k")}
