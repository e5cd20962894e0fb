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


class Busy(torch.optim.Optimizer):
    """Keeps the processor busy for so many seconds in every `every`-th step before `until`."""

    def __init__(self, params, seconds=0.0, every=1, until=10**9, asleep=0.0):
        super().__init__(params, {"lr": 0.0})
        self.seconds, self.every, self.until, self.asleep = seconds, every, until, asleep
        self.taken, self.training = 0, False

    def train(self):
        self.training = True

    def step(self, closure=None):
        assert self.training  # as those that average weights have it
        time.sleep(self.asleep)
        end = time.process_time() + self.seconds
        while self.taken < self.until and self.taken % self.every == 0:
            if time.process_time() >= end:
                break
        self.taken += 1
