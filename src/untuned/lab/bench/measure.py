"""Time and memory of single calls; on CUDA also kernel launches, host waits, graph capture."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile

Call = Callable[[], object]
WARM_UP_TURNS = 3  # the first compiles kernels and allocates state


class Times(NamedTuple):
    """Seconds: lower quartile, median, upper quartile."""

    low: float
    median: float
    high: float


def _seconds(call: Call, device: torch.device) -> float:
    """One call, timed; on CUDA by events, so that host work in parallel does not count."""
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
    """A copy of an array larger than any cache: measures bandwidth, and empties the caches.

    It reads and writes; a CPU also reads what it is about to overwrite.

    Args:
        device: of the array.
        entries: of float32.
    """

    def __init__(self, device: torch.device, entries: int) -> None:
        self.device: torch.device = device
        self._source = torch.zeros(entries, device=device)
        self._target = torch.zeros_like(self._source)
        self.nbytes: int = (2 if device.type == "cuda" else 3) * self._source.nbytes

    def __call__(self) -> None:
        self._target.copy_(self._source)


def take_turns(
    calls: Mapping[str, Call], copy: Copy, repeats: int, limit: float
) -> tuple[dict[str, Times], float]:
    """Time calls in turns, so that noise affects all alike, each after a copy.

    The copy empties the caches, as a backward pass would. Turns end after `repeats`, or after
    `limit` seconds once there are three.

    Args:
        calls: by name.
        copy: between the calls.
        repeats: number of turns after the warm-up.
        limit: seconds.

    Returns:
        Times by name, and the bandwidth of the copy in bytes a second.
    """
    taken: dict[str, list[float]] = {name: [] for name in calls}
    copies: list[float] = []
    start = time.perf_counter()
    for turn in range(WARM_UP_TURNS + repeats):
        if turn == WARM_UP_TURNS:
            start = time.perf_counter()
        if turn >= WARM_UP_TURNS + min(3, repeats) and time.perf_counter() - start > limit:
            break
        for name, call in calls.items():
            between = _seconds(copy, copy.device)
            spent = _seconds(call, copy.device)
            if turn >= WARM_UP_TURNS:
                copies.append(between)
                taken[name].append(spent)
    times = {name: _times_of(series) for name, series in taken.items()}
    return times, copy.nbytes / statistics.median(copies)


def _times_of(series: list[float]) -> Times:
    several = len(series) > 1
    return Times(
        *(statistics.quantiles(series, n=4, method="inclusive") if several else series * 3)
    )


def peak(call: Call, device: torch.device) -> int:
    """Peak bytes that a call allocates, beyond those allocated before it.

    Args:
        call: to measure.
        device: of its tensors.
    """
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


def cuda_facts(step: Call) -> dict[str, Any]:
    """Number of kernel launches; errors of a step without synchronisation, and of its capture."""
    waits, graph = _error(_without_sync, step), _error(_captured, step)
    return {"launches": _launches(step), "waits": waits, "graph": graph}


def _launches(step: Call) -> int:
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        step()
        torch.cuda.synchronize()
    return sum("LaunchKernel" in event.name for event in profiler.events() or ())


def _without_sync(step: Call) -> None:
    """Raises RuntimeError if the host waits for the device."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def _captured(step: Call) -> None:
    """Raises RuntimeError if the step cannot be captured in a graph and replayed."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step()
    torch.cuda.current_stream().wait_stream(side)
    recording = torch.cuda.CUDAGraph()
    with torch.cuda.graph(recording):
        step()
    recording.replay()
    torch.cuda.synchronize()


def _error(check: Callable[[Call], None], step: Call) -> str:
    """The first line of the error of a check; empty if it passes."""
    try:
        check(step)
    except RuntimeError as error:
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    return ""
