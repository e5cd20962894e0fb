"""Tables of measurements, and lines of JSON."""

import dataclasses
import json
import platform
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

import untuned
from untuned.lab.bench.models import MODELS
from untuned.lab.bench.scaling import Timing
from untuned.lab.bench.steps import StepCost
from untuned.lab.bench.training import Overhead
from untuned.lab.report.table import Table

_COLUMNS = (
    "optimizer", "ms", "quartiles", "/ AdamW(fused)", "/ SGD(fused)", "state, B/param",
    "peak, x weights", "floor, B/param", "floor reached",
)  # fmt: skip
_CUDA_COLUMNS = ("launches", "host waits", "graph")


def of_steps(rows: Sequence[StepCost]) -> Table:
    """The table of one model."""
    first = rows[0]
    title = (
        f"{MODELS[first.model].title}: {first.tensors} tensors, {first.parameters:,} parameters; "
        f"copies at {first.bandwidth:.1f} GB/s"
    )
    if first.launches is None:
        return Table.of(_COLUMNS, map(_texts, rows), title)
    texts = [[*_texts(r), str(r.launches), r.waits or "no", r.graph or "yes"] for r in rows]
    return Table.of(_COLUMNS + _CUDA_COLUMNS, texts, title)


def _texts(row: StepCost) -> list[str]:
    return [
        row.optimizer, f"{row.ms:.3g}", f"{row.ms_low:.3g}-{row.ms_high:.3g}",
        f"{row.to_adamw:.2f}", f"{row.to_sgd:.2f}", f"{row.state:.3g}", f"{row.peak:.2f}",
        "?" if row.floor is None else f"{row.floor:.0f}",
        "?" if row.reached is None else f"{row.reached:.0%}",
    ]  # fmt: skip


def of_training(found: Sequence[Overhead]) -> Table:
    """The table of training steps."""
    texts = [
        [o.optimizer, f"{o.ms:.4g}", f"{o.ms_low:.4g}-{o.ms_high:.4g}", f"{o.over_adamw:+.1%}"]
        for o in found
    ]
    headings = ("optimizer", "ms", "quartiles", "over AdamW(fused)")
    return Table.of(headings, texts, "A whole training step of GPT-2")


def of_scaling(found: Sequence[Timing]) -> Table:
    """The table of all axes."""
    texts = [[t.axis, f"{t.x:,}", t.optimizer, f"{t.ms:.3g}"] for t in found]
    return Table.of(("axis", "size", "optimizer", "ms"), texts, "Time of a step")


def json_lines(found: Iterable[Any]) -> str:
    """A line for each of some dataclasses."""
    return "".join(json.dumps(dataclasses.asdict(one)) + "\n" for one in found)


def machine(device: str) -> str:
    """Processor or GPU, and versions."""
    name = torch.cuda.get_device_name() if device == "cuda" else _processor()
    return (
        f"{name}; torch {torch.__version__}, untuned {untuned.__version__}, Python "
        f"{platform.python_version()}, {torch.get_num_threads()} thread(s)"
    )


def _processor() -> str:
    with suppress(OSError):  # not Linux
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":")[1].strip()
    return platform.processor() or platform.machine()
