"""What only a GPU shows of a step: launches of kernels, waits of the host, capture in a graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from untuned.lab.bench.measure import Call


def facts(step: Call) -> dict[str, Any]:
    """How many kernels a step launches; why it has the host wait, or cannot be captured."""
    return {
        "launches": launches(step),
        "waits": trouble(unwaiting, step),
        "graph": trouble(captured, step),
    }


def launches(step: Call) -> int:
    """How many kernels a step launches."""
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        step()
        torch.cuda.synchronize()
    return sum("LaunchKernel" in event.name for event in profiler.events() or ())


def unwaiting(step: Call) -> None:
    """Take a step; raises RuntimeError where the host would wait for the device."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def captured(step: Call) -> None:
    """Capture a step in a graph, and replay it; raises RuntimeError where that cannot be done."""
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


def trouble(check: Callable[[Call], None], step: Call) -> str:
    """The first line of the error that a check of a step raises; empty where it passes."""
    try:
        check(step)
    except RuntimeError as error:
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    return ""
