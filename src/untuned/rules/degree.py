"""Numbers of a whole network: its degree, and means over its matrices (`auto.py`)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from untuned.blockwise import Leaves
from untuned.geometry.layer import Layer, Shape

HEAD_AND_BIAS = 2  # tensors
LAST = "auto.last"  # in the state of a tensor: one if it is a head, whatever its geometry says


def degree(product: Tensor, square: Tensor) -> Tensor:
    """D, 0-d.

    Args:
        product: the average of sum_l <g_l, W_l> times <g_h, W_h>, 0-d.
        square: the average of <g_h, W_h> squared, 0-d.
    """
    return torch.where(square > 0, product / square, 1.0).clamp(min=1.0)


def every_and_head(groups: Sequence[Leaves]) -> list[Tensor]:
    """<gradient, weights> of all matrices and of the heads, 0-d each."""
    every, heads, each = [], [], []
    for leaves in groups:
        inner = leaves.radial
        assert inner is not None
        last = _last(leaves, inner)
        matrices = inner * torch.maximum(leaves.blocks.of_layers(_multiplies, inner), last)
        every.append(matrices.sum())
        heads.append(torch.dot(inner, last))
        sums = inner.new_zeros(len(leaves.blocks.shapes))
        each.append(sums.index_add(0, leaves.blocks.owner(inner.device), matrices))
    tensors, head = torch.cat(each), torch.stack(heads).sum()
    largest = tensors.gather(0, tensors.abs().argmax(keepdim=True)).sum()
    return [torch.stack(every).sum(), torch.where(head != 0, head, largest)]


def _last(leaves: Leaves, like: Tensor) -> Tensor:
    """One for blocks of heads, zero for others, (blocks,)."""
    marks = [state.get(LAST) for state in leaves.states]
    found = [mark for mark in marks if mark is not None]
    if not found:
        return leaves.blocks.of_layers(_is_head, like)
    no = torch.zeros_like(found[0])
    numbers = [no if mark is None else mark for mark in marks]
    return torch.stack(numbers).to(like)[leaves.blocks.owner(like.device)]


class Counted(NamedTuple):
    """The blocks that means are over."""

    matrices: Tensor  # 0-d, whether any matrix but the head moves
    weights: Tensor  # (blocks,) of all groups: one for each of these; with none, for every block

    def mean(self, numbers: Sequence[Tensor | None]) -> Tensor:
        """The mean of numbers of blocks, 0-d; they come group by group, (blocks,) each."""
        every = torch.cat([number for number in numbers if number is not None])
        return torch.dot(every, self.weights) / self.weights.sum()


def counted(groups: Sequence[Leaves]) -> Counted:
    """The blocks of matrices but the head, or all."""
    found = torch.cat([each.blocks.of_layers(is_spectral, each.sizes) for each in groups])
    matrices = found.any()
    return Counted(matrices, torch.where(matrices, found, 1.0))


def alone(groups: Sequence[Leaves]) -> bool:
    """Whether nothing moves but one head, and its bias."""
    layers = [layer for each in groups for layer in each.blocks.layers]
    heads = [layer.is_head() for layer in layers if layer.depth()]
    return heads == [True] and len(layers) <= HEAD_AND_BIAS


def _multiplies(layer: Layer, shape: Shape) -> float:
    return float(layer.multiplies())


def _is_head(layer: Layer, shape: Shape) -> float:
    return float(layer.is_head())


def is_spectral(layer: Layer, shape: Shape) -> float:
    """One for matrices that move by their singular values.

    Args:
        layer: the tensor's geometry.
        shape: the tensor's.
    """
    return float(layer.by_entry(shape) is None)
