"""Networks that experiments share."""

from __future__ import annotations

import math
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn


class Chain(nn.Module):
    """Fully-connected ReLU layers, 10 outputs; no norms, and biases only if asked for.

    relu(x) * sqrt(2) between the layers keeps the size of what passes.
    """

    layers: nn.ModuleList

    def __init__(self, depth: int, width: int, inputs: int = 64, bias: bool = False) -> None:
        super().__init__()
        widths = [inputs, *[width] * (depth - 1), 10]
        self.layers = nn.ModuleList(
            nn.Linear(d_in, d_out, bias=bias) for d_in, d_out in pairwise(widths)
        )

    def forward(self, images: Tensor) -> Tensor:
        """From images (n, ...) of `inputs` pixels to logits (n, 10)."""
        x: Tensor = self.layers[0](images.flatten(1))
        for layer in self.layers[1:]:
            x = layer(F.relu(x) * math.sqrt(2))
        return x
