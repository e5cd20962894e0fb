"""What the tests of distributed training run on every process: `torchrun ranks.py FOLDER`.

Each case trains for 20 steps and leaves whole weights, hyperparameters, and the most collectives
that a step took, in FOLDER; alone, a process runs the same cases on plain tensors.
"""

import os
import sys
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

import untuned
from networks import equal
from untuned.geometry import Conv, Dense, Embedding, Stack, Vector

STEPS = 20
RULES = (
    "agd",
    "nero",
    "free_nero",
    "adam / sgd(lr=0.1)",
    "adam / adam(lr=0.05) / sgd",
    "sgd(lr=0.1, momentum=0.9).per_tensor('lr') / adam(lr=0.1)",
    "agd / sgd",
    "nero / sgd",
    "agd.published",
    "auto",
)

RULES_OF_MANY = (
    "agd",
    "nero",
    "auto",
    "adam / sgd(lr=0.1)",
    "agd / sgd",
)  # where processes share cores

# Of each geometry tensors that two and four processes share unevenly, or have too little of
TENSORS = (
    (Dense(), (7, 6)),
    (Dense(), (6, 1)),
    (Dense(), (1, 5)),
    (Dense(parts=3), (12, 5)),
    (Dense(parts=4), (20, 3)),
    (Dense(parts=3, transposed=True), (5, 12)),
    (Embedding(), (9, 4)),
    (Vector(), (7,)),
    (Vector(parts=3), (9,)),
    (Conv(), (5, 3, 3, 2)),
    (Conv(groups=3), (6, 2, 2, 2)),
    (Conv(groups=5), (5, 1, 3)),
    (Conv(transposed=True), (3, 5, 2, 2)),
    (Conv(groups=2, transposed=True, stride=4), (6, 4, 2, 2)),
    (Stack(), (3, 4, 5)),
)


class Result(NamedTuple):
    """What came of a case."""

    weights: list[Tensor]
    hyperparameters: list[list[dict[str, float]]]
    collectives: int


def rule_of(text: str):
    """A rule or tower by its text."""
    if text == "free_nero":
        return untuned.rules.nero.FreeNero()
    return untuned.rules.AGD().as_published() if text == "agd.published" else text


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor."""
    full = getattr(tensor, "full_tensor", None)
    return tensor.detach().clone() if full is None else full().detach()


def counted(step: Callable[[], None], number: int) -> int:
    """How many collectives one of the first two steps takes: the first, and one like all others."""
    if not dist.is_initialized() or number > 1:
        step()
        return 0
    from torch.distributed.tensor.debug import CommDebugMode

    with CommDebugMode() as seen:
        step()
    return sum(seen.get_comm_counts().values())


def tensors(rule: str, place: Callable[[Tensor], Tensor] = Tensor.clone) -> Result:
    """Steps along random gradients, on tensors of every geometry."""
    random = torch.Generator().manual_seed(1)

    def draw(shape):
        return torch.randn(shape, generator=random, dtype=torch.float64)

    groups = [
        {"params": [nn.Parameter(place(draw(shape)))], "layer": layer} for layer, shape in TENSORS
    ]
    if rule == "agd.published":  # a vector goes with the weight before it, all by shape
        weights = [draw((6, 5)), draw((6,)), draw((4, 3, 2, 2)), draw((4,))]
        groups = [{"params": [nn.Parameter(place(weight)) for weight in weights]}]
    opt = untuned.Optimizer(groups, rule_of(rule))
    params = [param for group in groups for param in group["params"]]
    most = 0
    for step in range(STEPS):
        for param in params:
            param.grad = place(draw(param.shape))
        most = max(most, counted(opt.step, step))
    return Result([whole(p) for p in params], opt.hyperparameters(), most)


class Network(nn.Module):
    """Layers of many kinds; two and four processes cannot share them evenly."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 6)
        self.conv = nn.Conv1d(6, 5, 3, padding=1)
        self.norm = nn.LayerNorm(5)
        self.lstm = nn.LSTM(5, 3, batch_first=True)
        self.up = nn.Linear(3, 9)
        self.down = nn.Linear(9, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.conv(self.table(tokens).mT).mT
        x = self.lstm(self.norm(x))[0]
        return self.down(torch.tanh(self.up(x)))[..., 0]


def train(
    rule: str,
    build: Callable[[], nn.Module],
    shard: Callable[[nn.Module], nn.Module | None] | None,
    parts=1,
) -> Result:
    """Steps of a network, each process of `parts` on its own share of the batch.

    `shard` changes it in place, or wraps it.
    """
    torch.manual_seed(0)
    model = build().double()
    net = (shard(model) if shard is not None else None) or model
    opt = untuned.Optimizer(model, rule_of(rule))
    mine = dist.get_rank() % parts if dist.is_initialized() else 0
    most = 0
    for step in range(STEPS):
        random = torch.Generator().manual_seed(step)
        tokens = torch.randint(7, (8, 6), generator=random)[mine::parts]
        opt.zero_grad()
        F.mse_loss(net(tokens), tokens.double() / 7).backward()
        most = max(most, counted(opt.step, step))
    return Result([whole(p) for p in model.parameters()], opt.hyperparameters(), most)


class Chain(nn.Module):
    """Two layers, for tensor parallelism."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 4)
        self.norm = nn.LayerNorm(4)
        self.up = nn.Linear(4, 12)
        self.down = nn.Linear(12, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.down(torch.tanh(self.up(self.norm(self.table(tokens)))))[..., 0]


def cases(world: int) -> dict[str, Callable[[str], Result]]:
    """Each way to spread parameters over so many processes, by name."""
    if world == 1:
        plain = {"tensors": tensors}
        plain["network"] = lambda rule: train(rule, Network, None)
        plain["chain"] = lambda rule: train(rule, Chain, None)
        return plain
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        RowwiseParallel,
        SequenceParallel,
        parallelize_module,
    )

    line = init_device_mesh("cpu", (world,), mesh_dim_names=("dp",))

    def spread(mesh, *placements):
        def place(tensor):
            fitting = [
                p if not isinstance(p, Shard) or p.dim < tensor.ndim else Replicate()
                for p in placements
            ]
            return distribute_tensor(tensor, mesh, fitting)

        return lambda rule: tensors(rule, place)

    def sharded(mesh, parts):
        def shard(model):
            fully_shard(model.lstm, mesh=mesh)
            fully_shard(model, mesh=mesh)

        return lambda rule: train(rule, Network, shard, parts)

    def copied(model):
        return nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True)

    def parallel(mesh):
        return lambda model: parallelize_module(
            model, mesh, {"up": ColwiseParallel(), "down": RowwiseParallel()}
        )

    def sequential(model):
        plan = {
            "table": RowwiseParallel(input_layouts=Replicate(), output_layouts=Shard(1)),
            "norm": SequenceParallel(),
            "up": ColwiseParallel(input_layouts=Shard(1)),
            "down": RowwiseParallel(),
        }
        parallelize_module(model, line, plan)

    found = {
        "tensors, rows": spread(line, Shard(0)),
        "tensors, columns": spread(line, Shard(1)),
        "tensors, third": spread(line, Shard(2)),
        "tensors, copies": spread(line, Replicate()),
        "network, copies": lambda rule: train(rule, Network, copied, world),
        "network, fsdp": sharded(line, world),
        "chain, tp": lambda rule: train(rule, Chain, parallel(line)),
    }
    if world == 2:  # torch wants sequences that divide evenly
        found["chain, summands"] = lambda rule: train(rule, Chain, sequential)
    if world == 4:
        square = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))

        def both(model):
            parallel(square["tp"])(model)
            fully_shard(model, mesh=square["dp"])

        def apart(model):
            parallel(square["tp"])(model)
            fully_shard(model.table, mesh=square["dp"])

        def by_turns(tensor):
            mesh = square["tp" if tensor.ndim == 2 else "dp"]
            return distribute_tensor(tensor, mesh, [Shard(0)]) if tensor.ndim > 1 else tensor

        found |= {
            "tensors, two meshes": lambda rule: tensors(rule, by_turns),
            "chain, fsdp beside tp": lambda rule: train(rule, Chain, apart),
            "tensors, rows and columns": spread(square, Shard(0), Shard(1)),
            "tensors, rows twice": spread(square, Shard(0), Shard(0)),
            "tensors, copies of columns": spread(square, Replicate(), Shard(1)),
            "network, hsdp": sharded(square, world),
            "chain, fsdp and tp": lambda rule: train(rule, Chain, both),
        }
    return found


def check_ranks_agree(results: dict[tuple[str, str], tuple]) -> None:
    """Raise unless every process has come to the same, bit for bit."""
    everyone: list = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, results)
    for other in everyone:
        differ = [case for case in results if not equal(list(other[case]), list(results[case]))]
        assert not differ, f"processes differ: {differ}"


def main() -> None:
    torch.set_num_threads(1)
    folder = sys.argv[1]
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1:
        dist.init_process_group("gloo")
    results = {}
    for name, run in cases(world).items():
        for rule in RULES if world < 4 else RULES_OF_MANY:
            published = name.startswith("tensors") and "third" not in name
            if rule == "agd.published" and not published:
                continue
            results[name, rule] = tuple(run(rule))
    if world > 1:
        check_ranks_agree(results)
    if world == 1 or dist.get_rank() == 0:
        torch.save(results, f"{folder}/{world}.pt")
    if world > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
