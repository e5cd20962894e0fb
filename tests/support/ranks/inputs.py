"""Auto on two ranks: DDP, FSDP2 and tensor parallelism, on data of very different sizes."""

import torch
import torch.distributed as dist
from torch import nn

import untuned
from support.ranks.trained import whole
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
    weights = [whole(weight.detach()) for weight in model.parameters()]
    assert set(opt.state) == set(model.parameters())
    return weights, float(opt.state[next(model.parameters())][INPUT])


def spread(model: nn.Module) -> nn.Module:
    """Over processes, layer by layer (FSDP2)."""
    from torch.distributed.fsdp import fully_shard

    fully_shard(model[0])
    fully_shard(model)
    return model


def divided(model: nn.Module) -> nn.Module:
    """Tensor parallelism: every process has some of the hidden units, and all of the data."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel
    from torch.distributed.tensor.parallel import parallelize_module as parallelize

    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    return parallelize(model, mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})


class Experts(nn.Module):
    """Two layers, called in an order that differs between processes, or only one of them."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other, self.head = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = (self.one, self.other) if dist.get_rank() else (self.other, self.one)
        return self.head(first(x) + second(2 * x) if x.mean() > 0 else first(x))


def expert_sizes(value: float) -> list[float]:
    """What is known of the sizes of what both layers see: such data on the first process."""
    model = nn.parallel.DistributedDataParallel(Experts(), find_unused_parameters=True)
    opt = untuned.Auto(model)
    model(torch.full((4, 3), 3.0 if dist.get_rank() else value)).sum().backward()
    opt.step()
    own = model.module
    return [float(opt.state[layer.weight][INPUT]) for layer in (own.one, own.other)]


class Tabled(nn.Module):
    """Indices alone on the first process, also numbers on the others."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(4, 2), nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.table(x) if x.dtype == torch.int64 else self.head(x)


def size_of_others() -> float:
    """What is known of the size of data that the first process has none of."""
    model = nn.parallel.DistributedDataParallel(Tabled(), find_unused_parameters=True)
    opt = untuned.Auto(model)
    x = torch.full((4, 3), 3.0) if dist.get_rank() else torch.ones(4, dtype=torch.int64)
    model(x).sum().backward()
    opt.step()
    return float(opt.state[model.module.head.weight][INPUT])


def size_of_a_lone_one() -> float:
    """What the first process knows that trains a network that no other has."""
    return 1.0 if dist.get_rank() else train(network(), *data())[1]


WAYS = {"DDP": nn.parallel.DistributedDataParallel, "FSDP2": spread, "TP": divided}


def main() -> tuple:
    own = slice(8 * dist.get_rank(), 8 * dist.get_rank() + 8)
    xs, ys = data()
    found = {
        name: train(wrap(network()), *((xs, ys) if name == "TP" else (xs[own], ys[own])))
        for name, wrap in WAYS.items()
    }
    sizes = [expert_sizes(value) for value in (4.0, -4.0)]
    apart = size_of_others(), size_of_a_lone_one()
    return found, sizes, apart
