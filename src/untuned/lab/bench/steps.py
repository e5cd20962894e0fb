"""Optimizers on one model: what a step of each takes, beside fused SGD and AdamW in one run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import Optimizer

from untuned.lab.bench import cuda
from untuned.lab.bench.floors import floor_of
from untuned.lab.bench.measure import Copy, peak, take_turns
from untuned.lab.bench.models import MODELS
from untuned.lab.errors import UnknownNameError, unknown
from untuned.lab.footprint import state_bytes
from untuned.lab.methods import parse

REFERENCES = {
    "SGD(fused)": "sgdm(lr=1e-6, momentum=0.0, fused=True)",
    "AdamW(fused)": "adamw(lr=1e-6, fused=True)",
}
CONTESTANTS = (
    "agd",
    "nero",
    "sgd",
    "sgd / sgd",
    "adam",
    "adam.tuning('lr') / sgd",
    "adam / sgd",
    "adamw(foreach=True)",
    "sgdm(momentum=0, foreach=True)",
    "muon",
    "prodigy",
    "schedulefree",
)
AT_ONCE = 4  # optimizers, beside the references
GRADIENT = 1e-3  # the size of its entries: weights stay where numbers are normal
ENTRIES = {"cpu": 2**25, "cuda": 2**28}  # of the array that is copied: far beyond any cache


@dataclass(frozen=True)
class Settings:
    """How steps are run and timed."""

    device: str = "cpu"
    repeats: int = 30
    limit: float = 120.0  # seconds of turns, for a model
    compile: bool = False  # the steps, whole, by torch.compile; but not those of the references
    eager: bool = False  # untuned's rules without a compiler
    entries: int | None = None  # of the copied array, if not `ENTRIES`

    @property
    def kind(self) -> str:
        """In a word."""
        return "compiled whole" if self.compile else "eager" if self.eager else "as by default"


@dataclass(frozen=True)
class Row:
    """What a step of an optimizer costs on a model."""

    model: str
    tensors: int
    parameters: int
    optimizer: str
    ms: float  # the median
    ms_low: float  # the quartiles
    ms_high: float
    to_adamw: float  # medians, as ratios
    to_sgd: float
    state: float  # bytes a parameter
    peak: float  # beyond state, weights and gradients: in multiples of the weights
    floor: float | None  # bytes a parameter
    bandwidth: float  # GB/s, of a copy in the same run
    reached: float | None  # the time that the floor takes at this bandwidth, over `ms`
    launches: int | None = None  # of kernels, on CUDA
    waits: str | None = None  # whether the host waits for the device, on CUDA
    graph: str | None = None  # whether a step can be captured in a graph, on CUDA


def available(texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """Those optimizers whose packages are there, and why the others are not."""
    found, missing = [], []
    for text in texts:
        try:
            parse(text)
            found.append(text)
        except UnknownNameError as error:
            missing.append(str(error))
    return found, missing


def with_gradients(name: str, device: str) -> nn.Module:
    """A model by name, on a device, with random gradients."""
    if name not in MODELS:
        raise unknown("model", name, MODELS)
    if MODELS[name].cuda_only and device != "cuda":
        raise UnknownNameError(f"model {name!r} is for --device cuda")
    with torch.device(device):
        return graded(MODELS[name].build())


def graded(model: nn.Module) -> nn.Module:
    """The model, with random gradients."""
    for param in model.parameters():
        param.grad = torch.randn_like(param).mul_(GRADIENT)
    return model


def optimizers(
    model: nn.Module, texts: Sequence[str], settings: Settings
) -> dict[str, tuple[Optimizer, Callable[[], object]]]:
    """The references and the optimizers, all on the model's own tensors, and the steps of each."""
    made: dict[str, tuple[Optimizer, Callable[[], object]]] = {}
    for name, text in (REFERENCES | {text: text for text in texts}).items():
        opt = parse(text, compile=False if settings.eager else None).make(model)
        if hasattr(opt, "train"):  # those that average
            opt.train()
        whole = settings.compile and name not in REFERENCES
        made[name] = opt, torch.compile(opt.step) if whole else opt.step
    return made


def bench(name: str, texts: Sequence[str], settings: Settings) -> list[Row]:
    """A row for each optimizer, the references first.

    A few at a time, each time beside the references, for their states want room.
    """
    model = with_gradients(name, settings.device)
    rows: dict[str, Row] = {}
    for start in range(0, max(1, len(texts)), AT_ONCE):
        for row in _beside(name, model, texts[start : start + AT_ONCE], settings):
            rows.setdefault(row.optimizer, row)
    return list(rows.values())


def _beside(name: str, model: nn.Module, texts: Sequence[str], settings: Settings) -> list[Row]:
    """Some optimizers and the references, in one run."""
    device = torch.device(settings.device)
    made = optimizers(model, texts, settings)
    copy = Copy(device, settings.entries or ENTRIES[device.type])
    steps = {who: step for who, (_, step) in made.items()}
    times, bandwidth = take_turns(steps, copy, settings.repeats, settings.limit)
    tensors = list(model.parameters())
    count, weights = sum(p.numel() for p in tensors), sum(p.nbytes for p in tensors)
    rows = []
    for who, (opt, step) in made.items():
        floor = floor_of(REFERENCES.get(who, who))
        low, median, high = times[who]
        row = Row(
            model=name,
            tensors=len(tensors),
            parameters=count,
            optimizer=who,
            ms=1e3 * median,
            ms_low=1e3 * low,
            ms_high=1e3 * high,
            to_adamw=median / times["AdamW(fused)"].median,
            to_sgd=median / times["SGD(fused)"].median,
            state=state_bytes(opt) / count,
            peak=peak(step, device) / weights,
            floor=floor.passes * weights / count if floor else None,
            bandwidth=bandwidth / 1e9,
            reached=floor.passes * weights / bandwidth / median if floor else None,
        )
        on_cuda = device.type == "cuda"
        rows.append(dataclasses.replace(row, **cuda.facts(step)) if on_cuda else row)
    return rows
