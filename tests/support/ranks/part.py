"""What five ranks train.

Four share tensors over a mesh of two dimensions, of two precisions and some as copies; the fifth,
which the mesh knows nothing of, takes the same steps with all of them.
"""

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

import untuned
from support.ranks.trained import whole

PLACES = [Shard(0), Shard(1)], [Replicate(), Replicate()]
KINDS = ((5, 8), torch.float32), ((7, 6), torch.float64), ((7, 6), torch.float32)


def train(place) -> list[Tensor]:
    """The weights after five steps along random gradients."""
    random = torch.Generator().manual_seed(0)

    def draw(kind: tuple) -> list[Tensor]:
        shape, dtype = kind
        return [place(torch.randn(shape, generator=random).to(dtype), how) for how in PLACES]

    groups = [[nn.Parameter(each) for kind in KINDS for each in draw(kind)] for _ in range(2)]
    groups[1] = groups[1][1::2]  # copies alone
    opt = untuned.Optimizer([{"params": params} for params in groups], "auto")
    params = [param for group in groups for param in group]
    for _ in range(5):
        grads = [grad for kind in KINDS for grad in draw(kind)]
        copied = [grad for kind in KINDS for grad in draw(kind)[1:]]
        for param, grad in zip(params, [*grads, *copied], strict=True):
            param.grad = grad
        opt.step()
    return [whole(param) for param in params]


def main() -> list[Tensor]:
    mesh = DeviceMesh("cpu", torch.arange(4).view(2, 2))
    alone = dist.get_rank() == 4
    return train(lambda t, how: t if alone else distribute_tensor(t, mesh, how))
