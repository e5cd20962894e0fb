"""Networks of one architecture, stacked: ensembles that `torch.vmap` trains together."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from untuned.geometry.assignment import by_shape
from untuned.geometry.layer import BlockView, Layer, Shape


@dataclass(frozen=True)
class Stacked(Layer):
    """Tensors of several networks along the first dimension (`torch.func.stack_module_state`).

    Args:
        kind: the geometry of one network's tensor; None: by its shape.
    """

    kind: Layer | None = None

    def of_shape(self, shape: Shape) -> Layer:
        return Stacked(self.kind or by_shape(shape[1:]))

    @property
    def _kind(self) -> Layer:
        assert self.kind is not None  # an optimizer asks for `of_shape` first
        return self.kind

    def blocks(self, shape: Shape) -> BlockView:
        return _stacked(shape[0], self._kind.blocks(shape[1:]))

    def neurons(self, shape: Shape) -> BlockView:
        return _stacked(shape[0], self._kind.neurons(shape[1:]))

    def radius(self, shape: Shape) -> float:
        return self._kind.radius(shape[1:])

    def offsets(self, shape: Shape) -> float:
        return self._kind.offsets(shape[1:])

    def inputs(self, shape: Shape) -> float:
        return self._kind.inputs(shape[1:])

    def by_entry(self, shape: Shape) -> float | None:
        return self._kind.by_entry(shape[1:])

    def multiplies(self) -> bool:
        return self._kind.multiplies()

    def sees_inputs(self) -> bool:
        return self._kind.sees_inputs()

    def is_head(self) -> bool:
        return self._kind.is_head()

    def depth(self) -> int:
        return self._kind.depth()

    def initialise_(self, weight: Tensor, generator: torch.Generator | None) -> bool:
        return all([self._kind.initialise_(each, generator) for each in weight])


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
