"""Streams that ranks share: `main(FOLDER, NAMES)` trains each workload for three steps."""

import os

import datasets
import torch.distributed as dist

from support.ranks.script import as_torchrun


def main(folder: str, names: list[str]) -> dict[str, tuple]:
    """By workload: how the training ended, its last step, its losses."""
    as_torchrun(dist.get_rank(), dist.get_world_size())
    os.environ["UNTUNED_DATA"] = folder
    datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN = 0  # a rank ends without Python's shutdown
    from untuned.lab.config import Config
    from untuned.lab.training.run import run

    results = {name: run(Config(name, "agd", steps=3, accelerator="cpu")) for name in names}
    return {
        name: (result.status, result.stopped_at, [point["valid_loss"] for point in result.curve])
        for name, result in results.items()
    }
