"""Time and memory of single calls, on CPU and on CUDA. Nothing but torch."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile

Call = Callable[[], object]
WARM_UP = 3  # turns: kernels are compiled, and state is made, in the first


class Times(NamedTuple):
    """Seconds: the median, and the quartiles about it."""

    low: float
    median: float
    high: float


def seconds(call: Call, device: torch.device) -> float:
    """One call, timed: on CUDA by its events, so that what the host does beside it is free."""
    if device.type != "cuda":
        start = time.perf_counter()
        call()
        return time.perf_counter() - start
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    call()
    last.record()
    last.synchronize()
    return float(first.elapsed_time(last)) / 1e3


class Copy:
    """A copy of an array that no cache holds: the bandwidth of memory, and caches left cold.

    It reads and writes; and a CPU reads what it is about to overwrite, too.
    """

    source: torch.Tensor
    target: torch.Tensor
    nbytes: int

    def __init__(self, device: torch.device, entries: int) -> None:
        self.source = torch.zeros(entries, device=device)
        self.target = torch.zeros_like(self.source)
        self.nbytes = (2 if device.type == "cuda" else 3) * self.source.nbytes

    def __call__(self) -> None:
        self.target.copy_(self.source)


def take_turns(
    calls: Mapping[str, Call], copy: Copy, repeats: int, limit: float
) -> tuple[dict[str, Times], float]:
    """Times of all calls, and the bandwidth in bytes a second, in one run.

    The calls take turns, so that noise is noise for all, and each starts where a copy has emptied
    the caches, as a training's backward pass would. Turns end after `repeats`, or once there are
    three and `limit` seconds are over.
    """
    device = copy.source.device
    taken: dict[str, list[float]] = {name: [] for name in calls}
    copies: list[float] = []
    start = time.perf_counter()
    for turn in range(WARM_UP + repeats):
        if turn == WARM_UP:
            start = time.perf_counter()
        if turn >= WARM_UP + min(3, repeats) and time.perf_counter() - start > limit:
            break
        for name, call in calls.items():
            between = seconds(copy, device)
            spent = seconds(call, device)
            if turn >= WARM_UP:
                copies.append(between)
                taken[name].append(spent)
    times = {name: times_of(series) for name, series in taken.items()}
    return times, copy.nbytes / statistics.median(copies)


def times_of(series: list[float]) -> Times:
    """Of calls that were timed."""
    if len(series) < 2:
        return Times(*series * 3)
    return Times(*statistics.quantiles(series, n=4, method="inclusive"))


def peak(call: Call, device: torch.device) -> int:
    """The most bytes that a call has allocated at once, beyond what was there before it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    alive = highest = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            alive += event.nbytes()
            highest = max(highest, alive)
    return highest
