"""Language models of characters and words."""

from collections import Counter
from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from untuned.lab.config import Size
from untuned.lab.workloads.data import text
from untuned.lab.workloads.supervised import Supervised
from untuned.lab.workloads.task import BITS, PERPLEXITY, Metric, Pairs, Windows, Workload

VALID_WINDOWS = 64  # at size small


class Corpus(NamedTuple):
    """Tokens (length,) of the training and the validation text, and the vocabulary's size."""

    train: Tensor
    valid: Tensor
    tokens: int


@cache
def characters(file: str) -> Corpus:
    """The characters of a text: the first 90% for training, the rest for validation."""
    letters = text(file)
    known = {letter: i for i, letter in enumerate(sorted(set(letters)))}
    tokens = torch.tensor([known[letter] for letter in letters])
    cut = int(0.9 * len(tokens))
    return Corpus(tokens[:cut], tokens[cut:], len(known))


@cache
def wikitext2(size: Size) -> Corpus:
    """The words of WikiText-2: its test text for training, its validation text for validation.

    The training text is not among the offline data sets, so the perplexity is not comparable with
    published ones. At size small all but the 2000 most frequent words are one token.
    """
    train, valid = (text(f"wikitext2_{part}.txt").split() for part in ("test", "valid"))
    most = Counter(train).most_common(2000 if size == "small" else None)
    known = {word: i + 1 for i, (word, _) in enumerate(most)}  # 0: any other
    first, second = (torch.tensor([known.get(w, 0) for w in each]) for each in (train, valid))
    return Corpus(first, second, len(known) + 1)


class _Recurrent(nn.Module):
    """An embedding, an LSTM or a GRU, and a dense layer."""

    def __init__(
        self,
        tokens: int,
        width: int,
        layers: int,
        dropout: float,
        kind: type[nn.LSTM | nn.GRU] = nn.LSTM,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(tokens, width)
        self.rnn: nn.Module = kind(width, width, layers, batch_first=True, dropout=dropout)
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(width, tokens)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (n, length) to logits (n, length, tokens)."""
        out: Tensor = self.head(self.drop(self.rnn(self.embedding(tokens))[0]))
        return out


class _Encoder(nn.Module):
    """torch's transformer encoder with a causal mask."""

    def __init__(self, tokens: int, width: int, layers: int, heads: int, length: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(tokens, width)
        self.places = nn.Embedding(length, width)
        block = nn.TransformerEncoderLayer(width, heads, width, dropout=0.2, batch_first=True)
        self.encoder = nn.TransformerEncoder(block, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, tokens)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (n, length) to logits (n, length, tokens)."""
        length = tokens.shape[1]
        x = self.embedding(tokens) + self.places(torch.arange(length, device=tokens.device))
        later = nn.Transformer.generate_square_subsequent_mask(length, tokens.device, x.dtype)
        out: Tensor = self.head(self.encoder(x, mask=later, is_causal=True))
        return out


class GPT(nn.Module):
    """GPT-2 of the transformers library.

    Args:
        tokens: vocabulary size.
        width: of the model.
        layers: number of blocks.
        heads: of the attention.
        length: of the context.
        dropout: probability, of all kinds.
    """

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
        self.gpt: nn.Module = GPT2LMHeadModel(config)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (n, length) to logits (n, length, tokens)."""
        logits: Tensor = self.gpt(tokens).logits
        return logits


class Setting(NamedTuple):
    """A network (from the vocabulary size), length of windows, batch size and budget."""

    model: Callable[[int], nn.Module]
    length: int
    batch: int
    steps: int


def language_task(
    corpus: Callable[[Size], Corpus], settings: dict[Size, Setting], metric: Metric, size: Size
) -> Supervised:
    """Prediction of the next token.

    Args:
        corpus: from a size to the text.
        settings: by size.
        metric: beside the loss.
        size: of the workload.
    """
    found, setting = corpus(size), settings[size]
    span = setting.length + 1
    windows = found.valid[: len(found.valid) // span * span].view(-1, span)
    cut = windows[: VALID_WINDOWS if size == "small" else None]
    valid = Pairs(cut[:, :-1], cut[:, 1:])
    train = Windows(found.train, setting.length)
    model = partial(setting.model, found.tokens)
    return Supervised(model, train, valid, setting.batch, setting.steps, metric)


def _by_character(kind: str, file: str, settings: dict[Size, Setting]) -> Workload:
    at = partial(language_task, lambda _: characters(file), settings, BITS)
    return Workload(f"{kind} by characters, {file.removesuffix('.txt')}", at)


_LSTM: dict[Size, Setting] = {
    "small": Setting(partial(_Recurrent, width=128, layers=1, dropout=0.0), 48, 16, 400),
    # as of karpathy/char-rnn for this text
    "full": Setting(partial(_Recurrent, width=512, layers=2, dropout=0.5), 50, 50, 20_000),
}
_GRU: dict[Size, Setting] = {
    "small": Setting(
        partial(_Recurrent, width=128, layers=1, dropout=0.0, kind=nn.GRU), 48, 16, 400
    ),
    "full": Setting(
        partial(_Recurrent, width=512, layers=2, dropout=0.5, kind=nn.GRU), 50, 50, 20_000
    ),
}
_SMALL = {"width": 64, "layers": 2, "heads": 4, "length": 64}
_FULL = {"width": 384, "layers": 6, "heads": 6, "length": 256}
GPT_SETTINGS: dict[Size, Setting] = {
    "small": Setting(partial(GPT, **_SMALL, dropout=0.0), 64, 12, 300),
    # as of karpathy/nanoGPT for this text
    "full": Setting(partial(GPT, **_FULL, dropout=0.2), 256, 64, 5000),
}
_ENCODER: dict[Size, Setting] = {
    "small": Setting(partial(_Encoder, width=64, layers=2, heads=2, length=35), 35, 20, 300),
    # as of pytorch/examples, word_language_model
    "full": Setting(partial(_Encoder, width=200, layers=2, heads=2, length=35), 35, 20, 13_800),
}
_TEXTS = {"shakespeare": "tiny_shakespeare.txt", "warandpeace": "war_and_peace.txt"}
WORKLOADS = {
    **{f"lstm-{name}": _by_character("an LSTM", file, _LSTM) for name, file in _TEXTS.items()},
    "gru-shakespeare": _by_character("a GRU", _TEXTS["shakespeare"], _GRU),
    **{f"gpt-{name}": _by_character("GPT-2", file, GPT_SETTINGS) for name, file in _TEXTS.items()},
    "transformer-wikitext2": Workload(
        "a transformer by words, trained on WikiText-2's test text, validated on its valid text "
        "(not the perplexity that others report)",
        partial(language_task, wikitext2, _ENCODER, PERPLEXITY),
    ),
}
