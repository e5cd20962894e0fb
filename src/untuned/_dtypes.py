"""In what precision to calculate with tensors."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def compute_dtype(tensor: Tensor) -> torch.dtype:
    """In what to calculate with a tensor: at least 32 bits."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def shared_dtype(tensors: Iterable[Tensor]) -> torch.dtype:
    """In what to keep a number that several tensors share."""
    double = torch.float64 in {tensor.dtype for tensor in tensors}
    return torch.float64 if double else torch.float32
