"""A physics-informed network (Raissi, Perdikaris and Karniadakis 2019): Poisson's equation.

    laplacian u = -f in (-1, 1)^2,    u = 0 on the boundary,    f = 2 pi^2 sin(pi x) sin(pi y)

is solved by u = sin(pi x) sin(pi y). The training loss is the mean square, over points inside and
on the boundary, of what the network misses of these two equations; the validation loss is its mean
square distance to the solution.
"""

import math
from functools import partial

import torch
import torch.nn.functional as F
from lightning.fabric import Fabric
from torch import Tensor, nn

from untuned.lab.config import Config, Size
from untuned.lab.workloads.supervised import Supervised, SupervisedLearner
from untuned.lab.workloads.task import Metric, Pairs, Workload, require_plain

BOUNDARY = 10.0  # weight of u on the boundary, beside the laplacian


def _solution(points: Tensor) -> Tensor:
    """u at points (n, 2): (n, 1)."""
    return (math.pi * points).sin().prod(1, keepdim=True)


def _source(points: Tensor) -> Tensor:
    """f at points (n, 2): (n, 1)."""
    return 2 * math.pi**2 * _solution(points)


def laplacian(outputs: Tensor, points: Tensor) -> Tensor:
    """The sum of the second derivatives, (n, 1).

    Args:
        outputs: (n, 1), each a function of its own point.
        points: (n, dimensions), with gradients.
    """
    (slopes,) = torch.autograd.grad(outputs.sum(), points, create_graph=True)
    second = [
        torch.autograd.grad(slope.sum(), points, create_graph=True)[0][:, i]
        for i, slope in enumerate(slopes.unbind(1))
    ]
    return torch.stack(second).sum(0)[:, None]


class _PhysicsInformed(SupervisedLearner):
    """The loss of a batch needs derivatives with respect to the points."""

    def _loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        points = inputs.requires_grad_()
        outputs = self._net(points)
        edge = inputs.detach().abs().amax(1, keepdim=True) == 1
        missed = torch.where(edge, BOUNDARY * outputs, laplacian(outputs, points) + targets)
        return missed.square().mean()


class _Equation(Supervised):
    """Training targets are f, validation targets u."""

    def learner(self, fabric: Fabric, config: Config) -> SupervisedLearner:
        require_plain(fabric, config)
        return _PhysicsInformed(self, fabric, config)


def _points(inside: int, edge: int, seed: int) -> Tensor:
    """Uniform points (inside + edge, 2) of the square; the latter lie on its boundary."""
    random = torch.Generator().manual_seed(seed)
    points = torch.rand(inside + edge, 2, generator=random) * 2 - 1
    which = torch.arange(edge)
    points[inside + which, which % 2] = (which % 4 // 2 * 2 - 1).float()
    return points


def _network(width: int, hidden: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Linear(2, width), nn.Tanh()]
    for _ in range(hidden - 1):
        layers += [nn.Linear(width, width), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(width, 1))


def _poisson(size: Size) -> Supervised:
    width, hidden = (32, 3) if size == "small" else (128, 5)
    batch, steps = (256, 500) if size == "small" else (4096, 20_000)
    inside, tested = _points(12_000, 4_000, seed=0), _points(1000, 0, seed=1)
    return _Equation(
        partial(_network, width, hidden), Pairs(inside, _source(inside)),
        Pairs(tested, _solution(tested)), batch, steps,
        Metric("root mean square error", F.mse_loss, math.sqrt), loss=F.mse_loss,
    )  # fmt: skip


WORKLOADS = {"pinn-poisson": Workload("a physics-informed network, Poisson's equation", _poisson)}
