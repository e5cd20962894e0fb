"""Byte-pair encoding, trained on the texts of a workload."""

from collections.abc import Iterable
from typing import Any

PAD, START, END = 0, 1, 2  # special tokens


def train_tokenizer(texts: Iterable[str], tokens: int) -> Any:
    """Train a byte-level BPE tokenizer.

    Args:
        texts: to train on.
        tokens: vocabulary size.
    """
    from tokenizers import ByteLevelBPETokenizer

    tokenizer: Any = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(
        texts, vocab_size=tokens, special_tokens=["<pad>", "<s>", "</s>"], show_progress=False
    )
    return tokenizer
