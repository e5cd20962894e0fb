"""Networks of one architecture, stacked: ensembles that `torch.vmap` trains together."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from untuned.geometry.assignment import by_shape
from untuned.geometry.layer import BlockView, Layer, Shape, Wrapper


@dataclass(frozen=True)
class Stacked(Wrapper):
    """Tensors of several networks along the first dimension (`torch.func.stack_module_state`).

    Args:
        kind: the geometry of one network's tensor; None: by its shape.
    """

    def of_shape(self, shape: Shape) -> Layer:
        return Stacked(self.kind or by_shape(self.inner(shape)))

    def inner(self, shape: Shape) -> Shape:
        return shape[1:]

    def blocks(self, shape: Shape) -> BlockView:
        return _stacked(shape[0], self.inside.blocks(self.inner(shape)))

    def neurons(self, shape: Shape) -> BlockView:
        return _stacked(shape[0], self.inside.neurons(self.inner(shape)))

    def initialise_(self, weight: Tensor, generator: torch.Generator | None) -> bool:
        return all([self.inside.initialise_(each, generator) for each in weight])


def _stacked(count: int, view: BlockView) -> BlockView:
    return BlockView((count, *view.shape), tuple([dim + 1 for dim in view.dims]))


def is_stacked(shapes: Iterable[Shape]) -> bool:
    """Whether tensors can only be those of stacked networks, by their shapes.

    All have one first dimension, some are matrices, (networks, out, in), and those of two
    dimensions, (networks, out), are the biases of others.
    """
    each = list(shapes)
    if not any(len(shape) == 2 for shape in each) or len({shape[:1] for shape in each}) > 1:
        return False
    weights = {shape[:2] for shape in each if len(shape) > 2}
    biases = {shape for shape in each if len(shape) <= 2}
    return biases <= weights and any(len(shape) == 3 for shape in each)
