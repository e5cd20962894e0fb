"""What Auto has inferred from a network, as a table."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from untuned.distributed.shards import is_sharded
from untuned.errors import ParameterTypeError
from untuned.geometry.complex import Complex, as_real
from untuned.geometry.layer import Layer
from untuned.inference.input_scale import LOOKED, MEASURED
from untuned.optimizer.group_layers import geometry_of
from untuned.optimizer.param_groups import layer_for, name_of
from untuned.optimizer.shell import Optimizer
from untuned.rule import State
from untuned.rules.auto import INPUT, REVERSALS, Auto, ball, unit_step
from untuned.rules.degree import LAST, degree


@dataclass(frozen=True)
class LayerReport:
    """What is known of one parameter.

    Attributes:
        name: as in `named_parameters`, or its place.
        geometry: such as `Dense()`.
        radius: the spectral norm of a unit step of each block; of what moves by entry each entry's.
        ball: how large a block may become, in units of `radius`; None: it moves by entry, freely.
        size: how large it is: the root mean square of the blocks' singular values, or of the
            entries, in units of `radius`.
        inputs: the size of its inputs; 1 where these are no data.
        measured: in how many steps they were measured.
        looked: in how many steps they were looked at.
        head: whether it is one of the last matrices.
    """

    name: str
    geometry: str
    radius: float
    ball: float | None
    size: float
    inputs: float
    measured: int
    looked: int
    head: bool


@dataclass(frozen=True)
class AutoReport:
    """What Auto has inferred from a network; `str` makes a table of it.

    Attributes:
        layers: the parameters, in the order of the groups.
        degree: how the function grows with its weights; 1 before the first step.
        clock: how many steps were turned back, in the mean over blocks.
        step: how far the last step went, in units of a unit step (the largest `effective_lr`).
        steps: how many were taken.
    """

    layers: Sequence[LayerReport]
    degree: float
    clock: float
    step: float
    steps: int

    def __str__(self) -> str:
        """The table, below a line on the whole network."""
        head = ("name", "geometry", "radius", "ball", "size", "inputs", "seen", "head")
        rows = [head, *map(_cells, self.layers)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
        lines = [
            f"degree {self.degree:.4g}, clock {self.clock:.4g}, step {self.step:.4g}, "
            f"after {self.steps} steps"
        ]
        for row in rows:
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
            lines.append("  ".join(cells).rstrip())
        return "\n".join(lines)


def _cells(layer: LayerReport) -> tuple[str, ...]:
    return (
        layer.name,
        layer.geometry,
        f"{layer.radius:.4g}",
        "" if layer.ball is None else f"{layer.ball:.4g}",
        f"{layer.size:.4g}",
        f"{layer.inputs:.4g}",
        f"{layer.measured}/{layer.looked}",
        "head" if layer.head else "",
    )


@torch.no_grad()
def report(opt: Optimizer) -> AutoReport:
    """What Auto has inferred from a network: `print(untuned.report(opt))`.

    Reads from the device. Of sharded weights it is a collective: call it on all ranks.

    Args:
        opt: an `untuned.Auto`.

    Returns:
        One entry for each parameter, and the numbers of the whole network.

    Raises:
        ParameterTypeError: an optimizer that runs another rule.
    """
    if not (isinstance(opt, Optimizer) and isinstance(opt.tower.floors[0].rule, Auto)):
        raise ParameterTypeError(f"opt is a {type(opt).__name__}: give an untuned.Auto")
    product, square, steps = network_numbers(opt, "product", "square", "steps")
    D = degree(product, square)
    every = list(parameters_of(opt))
    return AutoReport(
        [_layer(*each, D) for each in every],
        float(D),
        clock_of(every),
        max(float(group["effective_lr"]) for group in opt.param_groups),
        int(steps),
    )


def network_numbers(opt: Optimizer, *names: str) -> list[Tensor]:
    """What the rule remembers of the whole network, 0-d each, on the host; 0 before a step."""
    first, zero = opt.param_groups[0], torch.zeros(())
    return [first.get(f"floor0/network.{name}", zero).cpu() for name in names]


def parameters_of(opt: Optimizer) -> Iterator[tuple[str, Layer, Tensor, State]]:
    """Each parameter: its name, its geometry, itself, its state."""
    for group in opt.param_groups:
        each = zip(group["params"], geometry_of(group), strict=True)
        for i, (weight, own) in enumerate(each):
            layer = layer_for(own, weight, opt.tower.floors[0].rule)
            yield name_of(group, i).strip("'"), layer, as_real(weight), opt.state.get(weight, {})


def _layer(name: str, layer: Layer, weight: Tensor, state: State, D: Tensor) -> LayerReport:
    shape = tuple(weight.shape)
    inputs = _number(state.get(INPUT)) or 1.0
    radius = unit_step(layer, shape) / inputs if weight.numel() else 0.0
    spectral = layer.by_entry(shape) is None
    return LayerReport(
        name=name,
        geometry=str(layer),
        radius=radius,
        ball=float(ball(D)) if spectral else None,
        size=_size(layer, weight) / radius if radius else 0.0,
        inputs=inputs,
        measured=int(_number(state.get(MEASURED))),
        looked=int(_number(state.get(LOOKED))),
        head=_number(state[LAST]) > 0 if LAST in state else layer.is_head(),
    )


def _size(layer: Layer, weight: Tensor) -> float:
    """The root mean square of the blocks' singular values, or of the entries."""
    whole: Any = weight
    mean = float(whole.full_tensor().norm() if is_sharded(weight) else whole.norm()) ** 2
    mean /= max(1, weight.numel())
    if layer.by_entry(tuple(weight.shape)) is not None:
        return math.sqrt(mean)
    view = layer.blocks(tuple(weight.shape))
    sizes = [view.shape[dim] for dim in view.dims]
    if isinstance(layer, Complex):  # the last dimension has the parts of each entry
        mean *= sizes.pop()
    return math.sqrt(mean * max(sizes[0], math.prod(sizes[1:])))


def clock_of(every: Sequence[tuple[str, Layer, Tensor, State]]) -> float:
    """The mean of reversals over the blocks of matrices, or of all; `every`: of `parameters_of`."""
    counted = [
        (layer.by_entry(tuple(weight.shape)) is None, state[REVERSALS].flatten().float().cpu())
        for _, layer, weight, state in every
        if REVERSALS in state and not is_sharded(state[REVERSALS])
    ]
    counts = [count for spectral, count in counted if spectral] or [c for _, c in counted]
    return float(torch.cat(counts).mean()) if counts else 0.0


def _number(value: Tensor | None) -> float:
    return 0.0 if value is None else float(value)
