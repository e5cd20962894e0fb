"""Networks to time steps on, from many small tensors to few large ones.

They are modules, so that geometry goes by layers. Except GPT-2 they are never run: gradients are
random.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def dense(count: int, width: int, bias: bool = False) -> nn.Module:
    """Square dense layers.

    Args:
        count: of layers.
        width: of each.
        bias: whether they have biases.
    """
    return nn.Sequential(*(nn.Linear(width, width, bias) for _ in range(count)))


def _resnet50() -> nn.Module:
    """The layers of ResNet-50 (He et al. 2015, arXiv:1512.03385): 161 tensors, 25.6 million."""
    return nn.Sequential(*_normed(3, 64, 7), *_bottlenecks(), nn.Linear(2048, 1000))


def _bottlenecks() -> Iterator[nn.Module]:
    fan_in = 64
    for blocks, width in ((3, 64), (4, 128), (6, 256), (3, 512)):
        for block in range(blocks):
            if block == 0:  # the shortcut widens
                yield from _normed(fan_in, 4 * width, 1)
            yield from _normed(fan_in, width, 1)
            yield from _normed(width, width, 3)
            yield from _normed(width, 4 * width, 1)
            fan_in = 4 * width


def _normed(fan_in: int, fan_out: int, size: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(fan_in, fan_out, size, bias=False), nn.BatchNorm2d(fan_out)


class _Block(nn.Module):
    """A block of GPT-2: attention, then a perceptron, each after a norm and beside a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // 64
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.c_attn, self.c_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:  # (batch, tokens, width)
        parts = self.c_attn(self.ln_1(x)).unflatten(-1, (3, self.heads, 64))
        q, k, v = parts.transpose(1, 3).unbind(2)  # (batch, heads, tokens, 64) each
        heard = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.c_proj(heard.transpose(1, 2).flatten(2))
        out: Tensor = x + self.down(F.gelu(self.up(self.ln_2(x)), approximate="tanh"))
        return out


class GPT2(nn.Module):
    """GPT-2 (Radford et al. 2019), by default small: 148 tensors, 124 million parameters.

    Args:
        width: of the model.
        depth: number of blocks.
        vocabulary: number of tokens.
        context: longest sequence.
    """

    def __init__(
        self, width: int = 768, depth: int = 12, vocabulary: int = 50257, context: int = 1024
    ) -> None:
        super().__init__()
        self.tokens: nn.Embedding = nn.Embedding(vocabulary, width)
        self.positions: nn.Parameter = nn.Parameter(torch.zeros(context, width))
        self.blocks: nn.Sequential = nn.Sequential(*(_Block(width) for _ in range(depth)))
        self.ln_f: nn.LayerNorm = nn.LayerNorm(width)
        self.head: nn.Linear = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.tokens.weight
        nn.init.normal_(self.tokens.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, tokens) to logits (batch, tokens, vocabulary)."""
        x = self.tokens(tokens) + self.positions[: tokens.shape[1]]
        logits: Tensor = self.head(self.ln_f(self.blocks(x)))
        return logits


class Model(NamedTuple):
    """A network, and whether it fits a GPU alone."""

    build: Callable[[], nn.Module]
    title: str
    cuda_only: bool = False


PERCEPTRON = ((784, 2048), (2048, 2048), (2048, 1856), (1856, 10))
MODELS = {
    "large": Model(lambda: dense(10, 1024), "10 x (1024, 1024)"),
    "small": Model(lambda: dense(100, 64), "100 x (64, 64)"),
    "conv": Model(
        lambda: nn.Sequential(*(nn.Conv2d(256, 256, 3, bias=False) for _ in range(20))),
        "20 x (256, 256, 3, 3)",
    ),
    "thousand": Model(lambda: dense(500, 64, bias=True), "500 x (64, 64), 500 x (64,)"),
    "perceptron": Model(
        lambda: nn.Sequential(*(nn.Linear(*size) for size in PERCEPTRON)),
        "perceptron of 10 million",
    ),
    "mlp-100": Model(lambda: dense(100, 784, bias=True), "MLP, 100 layers of 784"),
    "resnet50": Model(_resnet50, "ResNet-50"),
    "gpt2-small": Model(GPT2, "GPT-2 small"),
    "block-1b": Model(
        lambda: nn.Sequential(*(_Block(2048) for _ in range(20))),
        "20 blocks of width 2048, 10^9 parameters",
        cuda_only=True,
    ),
    "tiny": Model(lambda: dense(3, 8, bias=True), "3 x (8, 8), 3 x (8,), for trying out"),
}
