"""German to English, streamed: WMT16, and Multi30k.

The Nero paper (arXiv:2102.07227, figure 8) reports WMT16; its authors' code trains on Multi30k,
the pairs of WMT16's multimodal task.
"""

from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from untuned.lab.config import Size
from untuned.lab.workloads.data import rows
from untuned.lab.workloads.papers.streamed import StoredRows, Stream, Streamed
from untuned.lab.workloads.papers.tokenizer import END, PAD, START, train_tokenizer
from untuned.lab.workloads.task import PERPLEXITY, Batch, Workload

IGNORED = -100  # targets that cross-entropy leaves out


class _Translator(nn.Module):
    """A transformer with encoder and decoder: Marian's, of the transformers library."""

    def __init__(self, width: int, layers: int, heads: int, tokens: int, length: int) -> None:
        super().__init__()
        from transformers import MarianConfig, MarianMTModel  # slow to import

        config = MarianConfig(
            vocab_size=tokens, d_model=width, max_position_embeddings=length,
            encoder_layers=layers, decoder_layers=layers, encoder_attention_heads=heads,
            decoder_attention_heads=heads, encoder_ffn_dim=4 * width, decoder_ffn_dim=4 * width,
            pad_token_id=PAD, bos_token_id=START, eos_token_id=END, decoder_start_token_id=START,
            forced_eos_token_id=END, use_cache=False, scale_embedding=True,
        )  # fmt: skip
        self.marian = MarianMTModel(config)

    def forward(self, pairs: Tensor) -> Tensor:
        """Sources and shifted targets (n, 2, length) to logits (n, length, tokens)."""
        source, before = pairs.unbind(1)
        out = self.marian(source, attention_mask=source != PAD, decoder_input_ids=before)
        logits: Tensor = out.logits
        return logits


def _padded(ids: list[list[int]], length: int, fill: int) -> Tensor:
    return torch.tensor([(row + [fill] * length)[:length] for row in ids])


def collate_pairs(pairs: list[Any], tokenizer: Any, length: int) -> Batch:
    """Tokenize pairs of sentences, German to English.

    Args:
        pairs: rows with "de" and "en", or with a "translation" that has them.
        tokenizer: of both languages.
        length: of the sequences; padded or truncated.

    Returns:
        Sources and shifted targets (n, 2, length), and targets (n, length).
    """
    pairs = [row.get("translation", row) for row in pairs]
    source, target = (
        [
            [*each.ids[: length - 1], END]
            for each in tokenizer.encode_batch([p[part] for p in pairs])
        ]
        for part in ("de", "en")
    )
    before = _padded([[START, *row[:-1]] for row in target], length, PAD)
    inputs = torch.stack([_padded(source, length, PAD), before], 1)
    return Batch(inputs, _padded(target, length, IGNORED))


def _smoothed(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy with labels smoothed by 0.1."""
    return F.cross_entropy(logits.flatten(0, -2), targets.flatten(), label_smoothing=0.1)


@cache
def _tokenizer(name: str, first: int, tokens: int) -> Any:
    taken = rows(name, "train", streaming=True).take(first)
    pairs = (row.get("translation", row) for row in taken)
    return train_tokenizer((pair[part] for pair in pairs for part in ("de", "en")), tokens)


def _translation(name: str) -> Workload:
    def at(size: Size) -> Streamed:
        small = size == "small"
        width, layers, heads = (32, 1, 2) if small else (512, 6, 8)
        tokens, length = (1000, 32) if small else (32_000, 100)
        batch, steps = (16, 200) if small else (128, 100 * (29_000 // 128))
        tokenizer = _tokenizer(name, 2000 if small else 200_000, tokens)
        collate = partial(collate_pairs, tokenizer=tokenizer, length=length)
        train = Stream(partial(rows, name, "train", streaming=True), collate)
        held = rows(name, "validation")
        held = held.select(range(min(200, len(held)))) if small else held
        valid = StoredRows(held, collate)
        model = partial(_Translator, width, layers, heads, tokens, length)
        return Streamed(model, train, valid, batch, steps, PERPLEXITY, _smoothed)

    return Workload(f"a transformer, German to English, {name}, streamed", at)


WORKLOADS = {f"translation-{name}": _translation(name) for name in ("wmt16", "multi30k")}
