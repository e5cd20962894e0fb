"""Import torch once, then fork it into the ranks of each launch: `python -m support.ranks.server`.

A launch is a line of JSON on stdin, `[job, world, folder, arguments]`: every rank calls the
function `module:name` that `job` names, in a gloo process group if there are several ranks, and
leaves what it returns in `folder/RANK.pt`, or its traceback in `folder/RANK.err`. The answer, a
line on stdout, is the list of the ranks' exit codes. Where one rank fails, or after `SECONDS`, the
others are killed.
"""

import importlib
import json
import os
import signal
import sys
import time
import traceback
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint.state_dict
import torch.distributed.fsdp
import torch.distributed.tensor.debug
import torch.distributed.tensor.parallel

SECONDS = 240


def run(job: str, rank: int, world: int, folder: Path, arguments: list) -> None:
    """Run the job as one rank, and save what it returns."""
    torch.set_num_threads(1)
    module, name = job.split(":")
    if world > 1:
        dist.init_process_group(
            "gloo",
            init_method=f"file://{folder}/store",
            rank=rank,
            world_size=world,
            timeout=timedelta(seconds=SECONDS),
        )
    result = getattr(importlib.import_module(module), name)(*arguments)
    torch.save(result, folder / f"{rank}.pt")
    if dist.is_initialized():
        dist.destroy_process_group()


def fork(job: str, rank: int, world: int, folder: Path, arguments: list) -> int:
    """Start one rank; returns its process id."""
    if child := os.fork():
        return child
    code = 1
    try:
        errors = os.open(folder / f"{rank}.err", os.O_CREAT | os.O_WRONLY)
        os.dup2(errors, 1)  # stdout carries the answers
        os.dup2(errors, 2)
        run(job, rank, world, folder, arguments)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def wait(children: list[int]) -> list[int]:
    """The exit codes of all ranks, once they have ended or been killed."""
    codes: dict[int, int] = {}
    deadline = time.monotonic() + SECONDS
    while len(codes) < len(children):
        for child in set(children) - codes.keys():
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                codes[child] = os.waitstatus_to_exitcode(status)
        if any(codes.values()):  # the others wait for it: a moment to say so themselves
            deadline = min(deadline, time.monotonic() + 2)
        if time.monotonic() > deadline:
            for child in set(children) - codes.keys():
                os.kill(child, signal.SIGKILL)
            deadline = float("inf")
        time.sleep(0.01)
    return [codes[child] for child in children]


def main() -> None:
    for line in sys.stdin:
        job, world, folder, arguments = json.loads(line)
        children = [fork(job, rank, world, Path(folder), arguments) for rank in range(world)]
        sys.stdout.write(json.dumps(wait(children)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
