"""Work for the processes of an engine, which import it from here."""

import os
import signal
import time
from pathlib import Path

import torch


def tell(key):
    """Where it runs."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return {"pid": os.getpid(), "cores": cores, "threads": torch.get_num_threads()}


def die(key):
    """As if out of memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_once(key):
    """The first time, that is, by a file that the key names."""
    been = Path(key.workload)
    if not been.exists():
        been.touch()
        die(key)
    return tell(key)


def sleep(key):
    """Long; its process leaves its number in a file that the key names."""
    Path(key.workload).write_text(str(os.getpid()))
    time.sleep(600)
