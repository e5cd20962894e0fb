"""Auto's averages on several ranks: what is evaluated between steps and amid them, and saved."""

import functools

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

import untuned
from support.ranks.trained import Network, whole

STEPS = 5


def tokens_of(step: int) -> torch.Tensor:
    return torch.randint(7, (8, 5), generator=torch.Generator().manual_seed(step))


def evaluated(model: nn.Module) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        found = model(tokens_of(99))
    model.train()
    return found


def train(wrap) -> tuple[list, list, list]:
    """What evaluations say, then the averages and the iterates, whole."""
    torch.manual_seed(0)
    model = wrap(Network().double())
    opt = untuned.Auto(model)
    world = dist.get_world_size() if dist.is_initialized() else 1
    mine = dist.get_rank() if world > 1 else 0
    said = []
    for step in range(STEPS):
        opt.zero_grad()
        for part in range(2):  # of the gradient
            tokens = tokens_of(2 * step + part)[mine::world]
            loss = F.mse_loss(model(tokens), tokens.double() / 7)
            said.append(evaluated(model))
            loss.backward()
            said.append(evaluated(model))
        opt.step()
        said.append(evaluated(model))
    options = StateDictOptions(full_state_dict=True)
    many = world > 1  # then every rank takes part
    saved = get_model_state_dict(model, options=options) if many else model.state_dict()
    averages = [whole(p) for p in model.parameters()]
    if not mine:
        assert all(torch.equal(*pair) for pair in zip(saved.values(), averages, strict=True))
    iterates = [whole(opt.state[p]["average.iterate"]) for p in model.parameters()]
    return said, averages, iterates


def sharded(model: nn.Module, again: bool) -> nn.Module:
    """FSDP2; `again`: whether weights are gathered again for the backward pass."""
    from torch.distributed.fsdp import fully_shard

    fully_shard(model.lstm, reshard_after_forward=again)
    return fully_shard(model, reshard_after_forward=again)


WAYS = {
    "DDP": nn.parallel.DistributedDataParallel,
    "FSDP2": functools.partial(sharded, again=True),
    "FSDP2, kept": functools.partial(sharded, again=False),
}


def main() -> dict[str, tuple[list, list, list]]:
    return {name: train(wrap) for name, wrap in WAYS.items()}


def alone() -> tuple[list, list, list]:
    return train(lambda model: model)


def statistics() -> list[torch.Tensor]:
    """Those of a batch norm under DDP, in evaluation on this rank."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 2))
    model = nn.parallel.DistributedDataParallel(model)
    opt = untuned.Auto(model)
    for step in range(40):
        random = torch.Generator().manual_seed(2 * step + dist.get_rank())
        opt.zero_grad()
        model(torch.randn(16, 4, generator=random)).square().mean().backward()
        opt.step()
    model.eval()
    return [model(torch.ones(3, 4)).detach(), *(p.detach() for p in model.parameters())]
