"""Which words occur near each other: two embedding tables, most of whose rows are rare.

Skip-grams (Mikolov et al. 2013, arXiv:1310.4546) with a sampled softmax: which of several contexts
belongs to the word? As in recommendation, the examples are the distinct pairs of a word and a
context; some pairs are held back.
"""

import re
from collections import Counter
from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import Tensor, nn

from untuned.lab.config import Size
from untuned.lab.workloads.data import text
from untuned.lab.workloads.supervised import Supervised
from untuned.lab.workloads.task import ACCURACY, Batch, Workload

WITHIN = 2  # words before and after
NEGATIVES = 5  # of each pair
VALIDATED_PAIRS = 1000


@dataclass(frozen=True)
class SkipGrams:
    """Pairs (n, 2) of a word and a context; torch's global seed decides the negatives.

    A batch has inputs (n, 2 + NEGATIVES), the word, its context, and contexts drawn uniformly; the
    target is always the first context.
    """

    inputs: Tensor
    tokens: int  # vocabulary size

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, chosen: Tensor) -> Batch:
        count = len(chosen)
        drawn = torch.randint(self.tokens, (count, NEGATIVES))
        inputs = torch.cat([self.inputs[chosen], drawn], dim=1)
        return Batch(inputs, torch.zeros(count, dtype=torch.long))


@cache
def cooccurrence(file: str, least: int) -> tuple[SkipGrams, SkipGrams]:
    """The pairs of a text, for training and for validation.

    Args:
        file: of the text.
        least: how often a word must occur; all others are left out.
    """
    found = re.findall(r"[^\W\d_]+", text(file).lower())
    frequent = [word for word, count in Counter(found).most_common() if count >= least]
    known = {word: i for i, word in enumerate(frequent)}
    tokens = torch.tensor([known[word] for word in found if word in known])
    near = [(tokens[d:], tokens[:-d]) for d in range(1, WITHIN + 1)]
    both = [*near, *(pair[::-1] for pair in near)]
    cells = torch.cat([word * len(known) + context for word, context in both]).unique()
    order = torch.randperm(len(cells), generator=torch.Generator().manual_seed(0))
    pairs = torch.stack([cells // len(known), cells % len(known)], dim=1)[order]
    valid, train = pairs[:VALIDATED_PAIRS], pairs[VALIDATED_PAIRS:]
    return SkipGrams(train, len(known)), SkipGrams(valid, len(known))


class _SkipGram(nn.Module):
    """Dot products of the embeddings of words and contexts."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.words = nn.Embedding(tokens, width)
        self.contexts = nn.Embedding(tokens, width)
        for table in (self.words, self.contexts):
            nn.init.normal_(table.weight, std=width**-0.5)  # rows of norm one

    def forward(self, tokens: Tensor) -> Tensor:
        """A word and contexts, (n, 1 + contexts), to logits (n, contexts)."""
        word, contexts = self.words(tokens[:, :1]), self.contexts(tokens[:, 1:])
        logits: Tensor = (word * contexts).sum(-1)
        return logits


def _skip_gram(size: Size) -> Supervised:
    least, width = (5, 32) if size == "small" else (2, 256)
    batch, steps = (512, 500) if size == "small" else (4096, 5000)
    train, valid = cooccurrence("war_and_peace.txt", least)
    model = partial(_SkipGram, train.tokens, width)
    return Supervised(model, train, valid, batch, steps, ACCURACY)


WORKLOADS = {
    "skipgram-warandpeace": Workload(
        "embeddings of words and contexts, sampled softmax, war_and_peace", _skip_gram
    )
}
