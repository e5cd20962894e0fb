"""A script of the pages, or a program of the lab, as torchrun runs it."""

import os
import runpy

import pytest


def as_torchrun(rank: int, world: int) -> None:
    """Tell this process what torchrun would, on one machine."""
    for name, number in (("RANK", rank), ("WORLD_SIZE", world)):
        os.environ[name] = os.environ[f"LOCAL_{name}"] = str(number)
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": "0", "TORCHELASTIC_RUN_ID": "none"}


def main(path: str, folder: str) -> None:
    os.chdir(folder)
    as_torchrun(0, 1)
    runpy.run_path(path, run_name="__main__")


def reproduce(*arguments: str) -> None:
    """`untuned reproduce`, by all ranks."""
    import torch.distributed as dist

    as_torchrun(dist.get_rank(), dist.get_world_size())
    from untuned.lab.programs.reproduce import main

    with pytest.raises(SystemExit, match="0"):
        main(arguments)


def fail(rank: int) -> None:
    """Fail as this rank, while the others wait for it."""
    import torch.distributed as dist

    assert dist.get_rank() != rank, "this rank fails"
    dist.barrier()
