"""AGD: automatic gradient descent.

Bernstein, Mingard, Huang, Azizan, Yue (2023), "Automatic Gradient Descent: Deep Learning without
Hyperparameters", arXiv:2304.05187, algorithm 1.

    G    = (1 / L) sum_l <g_l, dual(g_l)>                  (the gradient summary)
    eta  = log((1 + sqrt(1 + 4 G)) / 2)                    (the automatic learning rate)
    W_l <- W_l - gain * (eta / L) * dual(g_l)

Legend: g_l = gradient of layer l; L = number of layers; dual(g) = sqrt(d_l / d_(l-1)) g / ||g||_F,
the steepest direction of unit size (`geometry`); d_l = width of layer l; gain = how large a
function is wanted (1 in the paper).

The step minimises the paper's majorisation of the loss: moving every layer by a relative size
eta / L changes the network's function by at most exp(eta) - 1, whatever its depth.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from untuned._tensors import cached
from untuned.blockwise import Blockwise, ByShape, Leaves, Step
from untuned.domain import POSITIVE, hyperparameter
from untuned.errors import ParameterError
from untuned.geometry.block_vector import BlockVector


@dataclass(frozen=True)
class AGD(Blockwise):
    """Automatic gradient descent: no learning rate; the step follows from the architecture.

    Args:
        gain: multiplies each step, in (0, inf).
    """

    gain: float = hyperparameter(1.0, POSITIVE)

    def step_size(self, groups: Sequence[Leaves], L: int) -> Tensor:
        sizes = [torch.dot(leaves.blocks.radius(leaves.sizes), leaves.sizes) for leaves in groups]
        G = functools.reduce(torch.add, sizes) / L
        # log((1 + sqrt(1 + 4 G)) / 2), without cancelling where G is small
        return torch.log1p(G / (0.5 + torch.sqrt(0.25 + G)))

    def update(self, leaves: Leaves, eta: Tensor | float, L: Tensor | int) -> Step:
        dual = leaves.blocks.dual(leaves.sizes)
        return Step((-self.gain / L) * eta * dual, leaves.grads)

    def as_published(self) -> PublishedAGD:
        """The authors' treatment of biases and norms (experimental code; see `PublishedAGD`)."""
        return PublishedAGD(self.gain)


@dataclass(frozen=True)
class PublishedAGD(ByShape, AGD):
    """AGD as its authors' experimental code treats vectors (biases, gains of norms).

    Geometry is by shape alone. A vector belongs to the weight listed before it in its group:
    it moves by `(eta / L) * radius_W * g / ||g_W||`, with the radius of that weight's blocks and
    the norm of its whole gradient; it adds nothing to G, and `gain` does not reach it.
    """

    def check_group(self, names: Sequence[str], tensors: Sequence[Tensor]) -> None:
        if tensors and tensors[0].ndim < 2:
            raise ParameterError(
                f"{names[0]}: as published, AGD moves a vector with the weight listed before it, "
                "and none is; list the weight first, or use AGD() without as_published()"
            )
        for name, tensor in zip(names, tensors, strict=True):
            placements = getattr(tensor, "placements", ())
            if any(getattr(placed, "dim", 0) > 1 for placed in placements):
                raise ParameterError(
                    f"{name} is sharded over its kernel's offsets, which AGD as published cannot "
                    "do: shard rows or columns"
                )

    def step_size(self, groups: Sequence[Leaves], L: int) -> Tensor:
        weights = []
        for leaves in groups:
            own, _ = _hosts(leaves.blocks, leaves.sizes.device)
            weights.append(leaves._replace(sizes=torch.where(own, leaves.sizes, 0.0)))
        return super().step_size(weights, L)

    def update(self, leaves: Leaves, eta: Tensor | float, L: Tensor | int) -> Step:
        blocks, grads, norms, *_ = leaves
        owner, (own, host) = blocks.owner(norms.device), _hosts(blocks, norms.device)
        squares = norms.new_zeros(len(grads)).index_add(0, owner, norms**2)
        radius = norms.new_zeros(len(grads)).index_copy(0, owner, blocks.radius(norms))
        attached = torch.where(squares > 0, radius / squares.sqrt(), 0.0)[host]
        step = super().update(leaves, eta, L)
        return step._replace(
            coefficients=torch.where(own, step.coefficients, (-1 / L) * eta * attached)
        )


@cached(256)
def _hosts(blocks: BlockVector, device: torch.device) -> tuple[Tensor, Tensor]:
    """(blocks,) each: whether it is a weight's, and the index of the last weight up to it."""
    weight = torch.tensor([layer.depth() > 0 for layer in blocks.layers])
    last = torch.where(weight, torch.arange(len(weight)), 0).cummax(0).values
    owner = blocks.owner(torch.device("cpu"))
    return weight[owner].to(device), last[owner].to(device)
