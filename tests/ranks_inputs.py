"""What `tests/test_distributed.py` runs as two processes: Auto under DDP, each with its own data.

python -m torch.distributed.run --nproc-per-node 2 tests/ranks_inputs.py FOLDER
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

import untuned
from untuned.rules.auto import INPUT


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)).double()


def data() -> tuple[torch.Tensor, torch.Tensor]:
    """Sixteen rows: the first eight are small, the others large."""
    torch.manual_seed(1)
    sizes = torch.tensor([0.01, 3.0]).repeat_interleave(8)[:, None]
    return torch.randn(16, 4).double() * sizes, torch.randn(16, 2).double()


def train(model: nn.Module, xs: torch.Tensor, ys: torch.Tensor) -> tuple[list, float]:
    """The weights after five steps, and the size of the data as it was seen."""
    opt = untuned.Auto(model)
    for _ in range(5):
        opt.zero_grad()
        (model(xs) - ys).square().mean().backward()
        opt.step()
    weights = [weight.detach() for weight in model.parameters()]
    return weights, float(opt.state[next(model.parameters())][INPUT])


if __name__ == "__main__":
    dist.init_process_group("gloo")
    own = slice(8 * dist.get_rank(), 8 * dist.get_rank() + 8)
    xs, ys = data()
    found = train(nn.parallel.DistributedDataParallel(network()), xs[own], ys[own])
    torch.save(found, Path(sys.argv[1]) / f"{dist.get_rank()}.pt")
    dist.destroy_process_group()
