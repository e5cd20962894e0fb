"""Texts as pieces of words, by byte pairs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

PAD, START, END = 0, 1, 2  # what is no piece


def pieces(texts: Iterable[str], tokens: int) -> Any:
    """A tokenizer of byte pairs that these texts teach."""
    from tokenizers import ByteLevelBPETokenizer

    learnt: Any = ByteLevelBPETokenizer()
    learnt.train_from_iterator(
        texts, vocab_size=tokens, special_tokens=["<pad>", "<s>", "</s>"], show_progress=False
    )
    return learnt
