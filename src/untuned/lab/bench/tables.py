"""Tables of what was measured: cells as text, Markdown, lines of JSON."""

from __future__ import annotations

import dataclasses
import json
import platform
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch

import untuned
from untuned.lab.bench.models import MODELS
from untuned.lab.bench.scaling import Point
from untuned.lab.bench.steps import Row
from untuned.lab.bench.training import Overhead


class Table(NamedTuple):
    """What a table says."""

    title: str
    headings: list[str]
    rows: list[list[str]]


def of_steps(rows: Sequence[Row]) -> Table:
    """The table of one model."""
    first = rows[0]
    title = (
        f"{MODELS[first.model].title}: {first.tensors} tensors, {first.parameters:,} parameters; "
        f"copies at {first.bandwidth:.1f} GB/s"
    )
    headings = [
        "optimizer",
        "ms",
        "quartiles",
        "/ AdamW(fused)",
        "/ SGD(fused)",
        "state, B/param",
        "peak, x weights",
        "floor, B/param",
        "floor reached",
    ]
    on_cuda = any(row.launches is not None for row in rows)
    return Table(
        title,
        headings + (["launches", "host waits", "graph"] if on_cuda else []),
        [_cells(row) + (_cuda_cells(row) if on_cuda else []) for row in rows],
    )


def _cells(row: Row) -> list[str]:
    return [
        row.optimizer,
        f"{row.ms:.3g}",
        f"{row.ms_low:.3g}-{row.ms_high:.3g}",
        f"{row.to_adamw:.2f}",
        f"{row.to_sgd:.2f}",
        f"{row.state:.3g}",
        f"{row.peak:.2f}",
        "?" if row.floor is None else f"{row.floor:.0f}",
        "?" if row.reached is None else f"{row.reached:.0%}",
    ]


def _cuda_cells(row: Row) -> list[str]:
    return [str(row.launches), row.waits or "no", row.graph or "yes"]


def of_training(found: Sequence[Overhead]) -> Table:
    """The table of training steps."""
    return Table(
        "A whole training step of GPT-2",
        ["optimizer", "ms", "quartiles", "over AdamW(fused)"],
        [
            [
                o.optimizer,
                f"{o.ms:.4g}",
                f"{o.ms_low:.4g}-{o.ms_high:.4g}",
                f"{o.over_adamw:+.1%}",
            ]
            for o in found
        ],
    )


def of_scaling(found: Sequence[Point]) -> Table:
    """The table of all axes."""
    return Table(
        "Time of a step",
        ["axis", "size", "optimizer", "ms"],
        [[point.axis, f"{point.x:,}", point.optimizer, f"{point.ms:.3g}"] for point in found],
    )


def markdown(table: Table) -> str:
    """A heading and a table."""
    marks = ["---"] + ["---:"] * (len(table.headings) - 1)
    rows = [table.headings, marks, *[[cell.replace("|", "/") for cell in r] for r in table.rows]]
    return "\n".join([f"### {table.title}", "", *("| " + " | ".join(row) + " |" for row in rows)])


def json_lines(found: Iterable[Any]) -> str:
    """A line for each of some dataclasses."""
    return "".join(json.dumps(dataclasses.asdict(one)) + "\n" for one in found)


def machine(device: str) -> str:
    """What this was measured on."""
    name = torch.cuda.get_device_name() if device == "cuda" else _processor()
    return (
        f"{name}; torch {torch.__version__}, untuned {untuned.__version__}, Python "
        f"{platform.python_version()}, {torch.get_num_threads()} thread(s)"
    )


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
    except OSError:  # not Linux
        names = []
    return names[0] if names else platform.processor() or platform.machine()
