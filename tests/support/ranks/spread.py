"""Every way to spread parameters over ranks, trained by every rule.

Each case trains for 10 steps and returns whole weights, hyperparameters, and the most collectives
that a step took; alone, a process runs the same cases on plain tensors.
"""

from collections.abc import Callable

import torch.distributed as dist
from torch import nn

from support.networks import equal
from support.ranks.trained import Chain, Network, Result, tensors, train

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
)  # where processes share cores


# to four processes as to two
ALIKE = ("tensors, columns", "tensors, third", "tensors, copies", "network, copies", "chain, tp")


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
        for name in ALIKE:
            del found[name]
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


def main() -> dict[tuple[str, str], tuple]:
    world = dist.get_world_size() if dist.is_initialized() else 1
    results = {}
    for name, run in cases(world).items():
        for rule in RULES if world < 4 else RULES_OF_MANY:
            published = name.startswith("tensors") and "third" not in name
            if rule == "agd.published" and not published:
                continue
            results[name, rule] = tuple(run(rule))
    if world > 1:
        check_ranks_agree(results)
    return results
