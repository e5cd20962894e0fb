"""What two ranks train that hold a share of the parameters each.

Returns, of each way to share and each rule, the weights after 20 steps, or what was said instead;
and a weight of 16 bits, sharded, after one step.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.tensor import Shard, distribute_tensor

import untuned
from support.networks import perceptron, train

RULES = ("adam", "adagrad", "agd", "nero", "adam / sgd", "sgd / sgd")


def zero(rule: str) -> list[torch.Tensor]:
    """torch's `ZeroRedundancyOptimizer` on ours."""
    torch.manual_seed(0)
    model = perceptron()
    optimizer = partial(untuned.Optimizer, rule=rule)
    opt = ZeroRedundancyOptimizer(model.parameters(), optimizer, lr=0.01)
    train(model, opt, 20)
    assert len(opt.optim.state) < len(list(model.parameters()))
    return [param.detach() for param in model.parameters()]


def fsdp1(rule: str, original: bool) -> list[torch.Tensor]:
    """The first FSDP, which flattens parameters."""
    torch.manual_seed(0)
    model = FullyShardedDataParallel(
        perceptron(), use_orig_params=original, device_id=torch.device("cpu")
    )
    train(model, untuned.Optimizer(model, rule, lr=0.01), 20)
    with FullyShardedDataParallel.summon_full_params(model):
        return [param.detach().clone().view(-1) for param in model.parameters()]


def rounded() -> torch.Tensor:
    """A matrix of 16 bits whose rows all move alike, but for their dice."""
    mesh = init_device_mesh("cpu", (2,))
    weight = nn.Parameter(distribute_tensor(torch.ones(64, 64).bfloat16(), mesh, [Shard(0)]))
    weight.grad = torch.ones_like(weight)
    untuned.Optimizer([weight], "sgd", lr=1e-3).step()
    return weight.full_tensor().detach()


def said(train: Callable[[], list[torch.Tensor]]) -> list[torch.Tensor] | str:
    """What came of a training, or the error's text."""
    try:
        return train()
    except untuned.errors.ParameterError as error:
        return str(error)


def main() -> dict[tuple[str, str], object]:
    """Train the same network on every rank."""
    found: dict[tuple[str, str], object] = {("rounded", "sgd"): rounded()}
    for rule in RULES:
        found["zero", rule] = said(partial(zero, rule))
        found["fsdp1", rule] = said(partial(fsdp1, rule, True))
        found["fsdp1, flat", rule] = said(partial(fsdp1, rule, False))
    return found
