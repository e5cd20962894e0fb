"""The time of a step by number of processes: replicated (DDP) or sharded (FSDP2) weights."""

import dataclasses
import math
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from untuned.lab.bench.measure import Copy, take_turns
from untuned.lab.bench.models import dense
from untuned.lab.bench.steps import Settings, optimizers

RANKS = (1, 2, 4)
WIDTH, LAYERS = 256, 20
ENTRIES = 2**22  # of the array that each process copies between steps


def rank_times(settings: Settings) -> dict[tuple[int, str], float]:
    """Time steps on the first rank. Processes share this machine's cores, or have a GPU each.

    Returns:
        Milliseconds by number of processes and "OPTIMIZER, DDP" or "OPTIMIZER, FSDP2".
    """
    from torch.multiprocessing.spawn import spawn

    most = torch.cuda.device_count() if settings.device == "cuda" else math.inf
    found = {}
    for count in (count for count in RANKS if count <= most):
        for way in _WAYS:
            with tempfile.TemporaryDirectory() as folder:
                spawn(_measure, (count, way, settings, folder), nprocs=count)
                taken = torch.load(Path(folder) / "times")
            found.update({(count, f"{who}, {way}"): ms for who, ms in taken.items()})
    return found


def _measure(rank: int, count: int, way: str, settings: Settings, folder: str) -> None:
    """One process; the first writes milliseconds by optimizer to the folder."""
    torch.set_num_threads(1)
    device = torch.device(f"cuda:{rank}" if settings.device == "cuda" else "cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    meeting = f"file://{folder}/meeting"
    dist.init_process_group(backend, init_method=meeting, rank=rank, world_size=count)
    try:
        torch.manual_seed(0)
        model = _WAYS[way](dense(LAYERS, WIDTH).to(device))
        model(torch.randn(8, WIDTH, device=device)).square().mean().backward()
        made = optimizers(model, dataclasses.replace(settings, eager=True))
        made.pop("SGD(fused)")  # torch has none for shards
        steps = {who: step for who, (_, step) in made.items()}
        copy = Copy(device, settings.entries or ENTRIES)
        # all ranks take the same number of turns: collectives would wait for the others
        taken, _ = take_turns(steps, copy, settings.repeats, math.inf)
        if rank == 0:
            torch.save({who: 1e3 * t.median for who, t in taken.items()}, Path(folder) / "times")
    finally:
        dist.destroy_process_group()


def _sharded(model: nn.Module) -> nn.Module:
    from torch.distributed.fsdp import fully_shard

    for layer in model.children():
        fully_shard(layer)
    fully_shard(model)
    return model


_WAYS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "DDP": nn.parallel.DistributedDataParallel,
    "FSDP2": _sharded,
}
