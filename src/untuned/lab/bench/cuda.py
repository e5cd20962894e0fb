"""Facts about a step on a GPU: kernel launches, host synchronisation, capture in a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from untuned.lab.bench.measure import Call


def facts(step: Call) -> dict[str, Any]:
    """Number of kernel launches; errors of a step without synchronisation, and of its capture."""
    return {
        "launches": _launches(step),
        "waits": _error(_without_sync, step),
        "graph": _error(_captured, step),
    }


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
