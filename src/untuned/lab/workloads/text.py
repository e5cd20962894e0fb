"""Texts, of which the next character or word is to be told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from untuned.lab.config import Size
from untuned.lab.data import text
from untuned.lab.supervised import Supervised
from untuned.lab.task import BITS, PERPLEXITY, Metric, Pairs, Windows, Workload

VALIDATED = 64  # windows, at size small


class Corpus(NamedTuple):
    """A text as tokens, (length,) each, and how many different ones there are."""

    train: Tensor
    valid: Tensor
    tokens: int


@cache
def characters(file: str) -> Corpus:
    """The first 90 % of a text to train on, the rest to validate on."""
    letters = text(file)
    known = {letter: i for i, letter in enumerate(sorted(set(letters)))}
    tokens = torch.tensor([known[letter] for letter in letters])
    cut = int(0.9 * len(tokens))
    return Corpus(tokens[:cut], tokens[cut:], len(known))


@cache
def words(size: Size) -> Corpus:
    """WikiText-2's test text to train on and its validation text to validate on.

    The training text is not among the offline data sets: what comes of this is no perplexity of
    WikiText-2's. At size small all but the 2000 most frequent words are one.
    """
    train, valid = (text(f"wikitext2_{part}.txt").split() for part in ("test", "valid"))
    most = Counter(train).most_common(2000 if size == "small" else None)
    known = {word: i + 1 for i, (word, _) in enumerate(most)}  # 0: any other

    def tokens(of: Iterable[str]) -> Tensor:
        return torch.tensor([known.get(word, 0) for word in of])

    return Corpus(tokens(train), tokens(valid), len(known) + 1)


class Recurrent(nn.Module):
    """An LSTM between an embedding and a dense layer."""

    embedding: nn.Embedding
    lstm: nn.LSTM
    drop: nn.Dropout
    head: nn.Linear

    def __init__(self, tokens: int, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(tokens, width)
        self.lstm = nn.LSTM(width, width, layers, batch_first=True, dropout=dropout)
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(width, tokens)

    def forward(self, tokens: Tensor) -> Tensor:
        """(n, length) to logits (n, length, tokens)."""
        out: Tensor = self.head(self.drop(self.lstm(self.embedding(tokens))[0]))
        return out


class Encoder(nn.Module):
    """torch's transformer, each place blind to those after it."""

    embedding: nn.Embedding
    places: nn.Embedding
    encoder: nn.TransformerEncoder
    head: nn.Linear

    def __init__(self, tokens: int, width: int, layers: int, heads: int, length: int) -> None:
        super().__init__()
        self.embedding, self.places = nn.Embedding(tokens, width), nn.Embedding(length, width)
        block = nn.TransformerEncoderLayer(width, heads, width, dropout=0.2, batch_first=True)
        self.encoder = nn.TransformerEncoder(block, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, tokens)

    def forward(self, tokens: Tensor) -> Tensor:
        """(n, length) to logits (n, length, tokens)."""
        length = tokens.shape[1]
        x = self.embedding(tokens) + self.places(torch.arange(length, device=tokens.device))
        later = nn.Transformer.generate_square_subsequent_mask(length, tokens.device, x.dtype)
        out: Tensor = self.head(self.encoder(x, mask=later, is_causal=True))
        return out


class GPT(nn.Module):
    """GPT-2 of the transformers library."""

    gpt: nn.Module

    def __init__(
        self, tokens: int, width: int, layers: int, heads: int, length: int, dropout: float
    ) -> None:
        super().__init__()
        from transformers import GPT2Config, GPT2LMHeadModel  # slow to import

        config = GPT2Config(
            vocab_size=tokens, n_positions=length, n_embd=width, n_layer=layers, n_head=heads,
            resid_pdrop=dropout, embd_pdrop=dropout, attn_pdrop=dropout,
            bos_token_id=0, eos_token_id=0, use_cache=False,
        )  # fmt: skip
        self.gpt = GPT2LMHeadModel(config)

    def forward(self, tokens: Tensor) -> Tensor:
        """(n, length) to logits (n, length, tokens)."""
        logits: Tensor = self.gpt(tokens).logits
        return logits


class Shape(NamedTuple):
    """Of a network (given the number of tokens), windows, batches and budget."""

    model: Callable[[int], nn.Module]
    length: int
    batch: int
    steps: int


def _at(
    corpus: Callable[[Size], Corpus], shapes: dict[Size, Shape], metric: Metric, size: Size
) -> Supervised:
    found, shape = corpus(size), shapes[size]
    windows = found.valid[: len(found.valid) // (shape.length + 1) * (shape.length + 1)]
    cut = windows.view(-1, shape.length + 1)[: VALIDATED if size == "small" else None]
    valid = Pairs(cut[:, :-1], cut[:, 1:])
    train = Windows(found.train, shape.length)
    model = partial(shape.model, found.tokens)
    return Supervised(model, train, valid, shape.batch, shape.steps, metric)


def _by_character(kind: str, file: str, shapes: dict[Size, Shape]) -> Workload:
    def at(size: Size) -> Supervised:
        return _at(lambda _: characters(file), shapes, BITS, size)

    return Workload(f"{kind} by characters, {file.removesuffix('.txt')}", at)


LSTM: dict[Size, Shape] = {
    "small": Shape(partial(Recurrent, width=128, layers=1, dropout=0.0), 48, 16, 400),
    # as of karpathy/char-rnn for this text
    "full": Shape(partial(Recurrent, width=512, layers=2, dropout=0.5), 50, 50, 20_000),
}
GPT2: dict[Size, Shape] = {
    "small": Shape(partial(GPT, width=64, layers=2, heads=4, length=64, dropout=0.0), 64, 12, 300),
    # as of karpathy/nanoGPT for this text
    "full": Shape(
        partial(GPT, width=384, layers=6, heads=6, length=256, dropout=0.2), 256, 64, 5000
    ),
}
WORDS: dict[Size, Shape] = {
    "small": Shape(partial(Encoder, width=64, layers=2, heads=2, length=35), 35, 20, 300),
    # as of pytorch/examples, word_language_model
    "full": Shape(partial(Encoder, width=200, layers=2, heads=2, length=35), 35, 20, 13_800),
}
TEXTS: Sequence[tuple[str, str]] = (
    ("shakespeare", "tiny_shakespeare.txt"),
    ("warandpeace", "war_and_peace.txt"),
)
WORKLOADS = {
    **{f"lstm-{name}": _by_character("an LSTM", file, LSTM) for name, file in TEXTS},
    **{f"gpt-{name}": _by_character("GPT-2", file, GPT2) for name, file in TEXTS},
    "transformer-wikitext2": Workload(
        "a transformer by words, trained on WikiText-2's test text, validated on its valid text "
        "(not the perplexity that others report)",
        partial(_at, words, WORDS, PERPLEXITY),
    ),
}
