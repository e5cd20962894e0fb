"""The cost of a step of each optimizer on one model, beside torch's fused SGD and AdamW."""

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import Optimizer

from untuned.errors import UnseenInputsWarning
from untuned.lab.baselines.methods import method_of
from untuned.lab.bench.measure import Call, Copy, Times, cuda_facts, peak, take_turns
from untuned.lab.bench.memory_traffic import least_traffic
from untuned.lab.bench.models import MODELS
from untuned.lab.errors import UnknownNameError, unknown
from untuned.lab.training.footprint import state_bytes

REFERENCES = {
    "SGD(fused)": "sgdm(lr=1e-6, momentum=0.0, fused=True)",
    "AdamW(fused)": "adamw(lr=1e-6, fused=True)",
}
OPTIMIZERS = (
    "agd", "nero", "sgd", "sgd / sgd", "adam", "adam.tuning('lr') / sgd", "adam / sgd",
    "adamw(foreach=True)", "sgdm(momentum=0, foreach=True)", "auto(average=False)", "muon", "soap",
    "prodigy", "schedulefree",
)  # fmt: skip
AT_ONCE = 4  # optimizers, beside the references: their states need memory
GRADIENT = 1e-3  # standard deviation: weights stay normal numbers
COPIED = {"cpu": 2**25, "cuda": 2**28}  # entries of the copied array, far beyond any cache


@dataclass(frozen=True)
class Settings:
    """How steps are run and timed."""

    optimizers: tuple[str, ...] = OPTIMIZERS  # as text
    device: str = "cpu"  # "cpu" or "cuda"
    repeats: int = 30  # turns of a model
    limit: float = 120.0  # seconds of turns of a model
    compile: bool = False  # whole steps by torch.compile, except of the references
    eager: bool = False  # untuned's rules without a compiler
    entries: int | None = None  # of the copied array; None: `COPIED`

    @property
    def kind(self) -> str:
        return "compiled whole" if self.compile else "eager" if self.eager else "as by default"


@dataclass(frozen=True)
class StepCost:
    """The cost of an optimizer's step on a model."""

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
    floor: float | None  # least memory traffic, bytes a parameter
    bandwidth: float  # GB/s, of a copy in the same run
    reached: float | None  # the time of the least traffic at this bandwidth, over `ms`
    launches: int | None = None  # of kernels, on CUDA
    waits: str | None = None  # error of a step without host synchronisation, on CUDA
    graph: str | None = None  # error of its capture in a graph, on CUDA


def available(texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """Optimizers whose packages are installed, and errors of the others."""
    found, missing = [], []
    for text in texts:
        try:
            method_of(text)
            found.append(text)
        except UnknownNameError as error:
            missing.append(str(error))
    return found, missing


def _with_gradients(name: str, device: str) -> nn.Module:
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


def optimizers(model: nn.Module, settings: Settings) -> dict[str, tuple[Optimizer, Call]]:
    """The references and the optimizers, all on the same parameters, and their steps.

    Args:
        model: with gradients.
        settings: optimizers, eager or compiled.
    """
    made: dict[str, tuple[Optimizer, Call]] = {}
    for name, text in (REFERENCES | {text: text for text in settings.optimizers}).items():
        opt = method_of(text, compile=False if settings.eager else None).make(model)
        if hasattr(opt, "train"):  # those that average weights
            opt.train()
        whole = settings.compile and name not in REFERENCES
        made[name] = opt, torch.compile(opt.step) if whole else opt.step
    return made


def timed(steps: Mapping[str, Call], settings: Settings) -> tuple[dict[str, Times], float]:
    """Times of steps by name, and the bandwidth of the copy between them in bytes a second.

    Args:
        steps: by name.
        settings: device, repeats and limits.
    """
    device = torch.device(settings.device)
    copy = Copy(device, settings.entries or COPIED[device.type])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnseenInputsWarning)  # of Auto: no network is run
        return take_turns(steps, copy, settings.repeats, settings.limit)


def step_costs(name: str, settings: Settings) -> list[StepCost]:
    """The cost of each optimizer's step on a model, the references first.

    Args:
        name: of the model.
        settings: optimizers, device, repeats and limits.
    """
    model = _with_gradients(name, settings.device)
    rows: dict[str, StepCost] = {}
    texts = settings.optimizers
    for start in range(0, max(1, len(texts)), AT_ONCE):
        few = dataclasses.replace(settings, optimizers=texts[start : start + AT_ONCE])
        for row in _beside(name, model, few):
            rows.setdefault(row.optimizer, row)
    return list(rows.values())


def _beside(name: str, model: nn.Module, settings: Settings) -> list[StepCost]:
    device = torch.device(settings.device)
    made = optimizers(model, settings)
    times, bandwidth = timed({who: step for who, (_, step) in made.items()}, settings)
    tensors = list(model.parameters())
    count, weights = sum(p.numel() for p in tensors), sum(p.nbytes for p in tensors)
    rows = []
    for who, (opt, step) in made.items():
        least = least_traffic(REFERENCES.get(who, who))
        low, median, high = times[who]
        traffic = least.passes * weights if least else None
        row = StepCost(
            model=name, tensors=len(tensors), parameters=count, optimizer=who,
            ms=1e3 * median, ms_low=1e3 * low, ms_high=1e3 * high,
            to_adamw=median / times["AdamW(fused)"].median,
            to_sgd=median / times["SGD(fused)"].median,
            state=state_bytes(opt) / count, peak=peak(step, device) / weights,
            floor=traffic / count if traffic else None, bandwidth=bandwidth / 1e9,
            reached=traffic / bandwidth / median if traffic else None,
        )  # fmt: skip
        on_cuda = device.type == "cuda"
        rows.append(dataclasses.replace(row, **cuda_facts(step)) if on_cuda else row)
    return rows
