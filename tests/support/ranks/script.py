"""A script of the pages, as `torchrun --nproc-per-node 1` runs it."""

import os
import runpy


def main(path: str, folder: str) -> None:
    os.chdir(folder)
    only = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "0"}
    os.environ |= only
    runpy.run_path(path, run_name="__main__")


def fail(rank: int) -> None:
    """Fail as this rank, while the others wait for it."""
    import torch.distributed as dist

    assert dist.get_rank() != rank, "this rank fails"
    dist.barrier()
