"""How elementwise rules run: kernels over slabs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from untuned._cache import integers
from untuned._dtypes import compute_dtype, shared_dtype
from untuned.distributed.shards import Layout, Shard, shard_index
from untuned.elementwise import Elementwise
from untuned.execution.buckets import Columns, Slab, kernel, leaves
from untuned.execution.kernels import GRAD, MOVED, RECORD, WEIGHT, Values, forget_, kernels, own
from untuned.execution.small_buckets import LARGE, slabs_of
from untuned.execution.stochastic_rounding import SHORT, Write
from untuned.rule import State

WORTHWHILE = 2**20  # entries in large tensors from which compiling saves more time than it takes


class ElementwiseExecutor:
    """Some tensors that an elementwise rule moves, in one step.

    Values of hyperparameters are 0-d, or one a tensor, (tensors,); `tuned` names those that a floor
    above moves. A state holds what the rule remembers under its own names, and the record of the
    last step.
    """

    rule: Elementwise
    tuned: list[str]
    shards: Sequence[Shard | None]
    weights: Sequence[Tensor]
    grads: Sequence[Tensor]
    states: Sequence[State]
    recorded: list[int]
    sizes: Tensor

    def __init__(
        self,
        rule: Elementwise,
        tuned: Sequence[str],
        weights: Sequence[Tensor],
        grads: Sequence[Tensor],
        states: Sequence[State],
        shards: Sequence[Shard | None],
        compile: bool | None,
    ) -> None:
        self.rule, self.tuned, self.shards = rule, list(tuned), shards
        names = list(rule.hyperparameters())
        self._picked = tuple(names.index(name) for name in tuned)
        self._kernels = kernels(type(rule), self._picked)
        self._way = ("lone", "tangent", "replay")[min(len(self.tuned), 2)]
        large = sum(weight.numel() for weight in weights if weight.numel() >= LARGE)
        self._dtype = shared_dtype(weights)
        self._compile = large >= WORTHWHILE if compile is None else compile
        self.renew(weights, grads, states)

    def renew(
        self, weights: Sequence[Tensor], grads: Sequence[Tensor], states: Sequence[State]
    ) -> None:
        """Begin a step of the same tensors."""
        self.weights, self.grads, self.states = weights, grads, states
        for weight, state in zip(weights, states, strict=True):
            if not own(state):
                short = weight.dtype in SHORT
                state.update(self.rule.init(weight.to(compute_dtype(weight)) if short else weight))
        self.recorded = [i for i, state in enumerate(states) if RECORD in state]

    def look(
        self, values: Mapping[str, Tensor], scale: Tensor, norms: bool = False
    ) -> dict[str, Tensor]:
        """Measure the gradients, if need be by their norms; the hypergradients of tuned values.

        These are the derivatives of <last step, gradients>, or what the parts here add to them;
        `values` and `scale` are what the last step was taken with.
        """
        sizes: list[Any] = [None] * len(self.weights)
        pulls = {name: torch.zeros_like(values[name]) for name in self.tuned}
        for slab in self._slabs(self.recorded):
            each, measures = self._pulled(slab, values, scale)
            for i, measure in zip(slab.indices, measures, strict=True):
                sizes[i] = measure
            for name, pull in zip(self.tuned, each, strict=True):
                pull = pull * self._parts[slab.indices[0]]
                if values[name].ndim:
                    places = integers(slab.indices, pull.device)
                    pulls[name].index_add_(0, places, pull.expand(len(places)))
                else:
                    pulls[name] += pull.sum()
        rest = [i for i, size in enumerate(sizes) if size is None or norms]
        for i, norm in zip(rest, self._norms(rest), strict=True):
            sizes[i] = norm
        self.sizes = torch.stack(sizes)  # of each tensor a number, finite if its gradient is
        return pulls

    def partial_sums(self) -> list[Tensor]:
        """The squares of the sizes."""
        return [self.sizes.double().square() * integers(self._parts, self.sizes.device)]

    def receive_sums(self, totals: list[Tensor]) -> None:
        """Go on with the sizes of whole tensors."""
        self.sizes = totals[0].sqrt().to(self.sizes)

    @property
    def _parts(self) -> list[int]:
        """Of how many parts each tensor is one."""
        return [1 if shard is None else shard.parts for shard in self.shards]

    def _norms(self, indices: Sequence[int]) -> list[Tensor]:
        """The norms of the chosen gradients."""
        grads = [self.grads[i] for i in indices]
        return list(torch._foreach_norm(grads, 2, self._dtype)) if grads else []

    def _pulled(
        self, slab: Slab, values: Mapping[str, Tensor], scale: Tensor
    ) -> tuple[list[Tensor], list[Tensor]]:
        """For each tuned value what the slab's tensors add, each or all; and their sizes."""
        if self._way == "tangent":
            tangents = [self.states[i][RECORD] for i in slab.indices]
            dots = slab.dots(tangents, [self.grads[i] for i in slab.indices])
            return [dots], list(dots.abs().unbind())
        given, scale = self._given(slab, values), scale.to(self._precision(slab))
        pulls: list[Any] = [0.0] * len(self.tuned)
        squares: Any = 0.0
        for run in slab.runs(self._columns(slab), write=False):
            chosen = leaves(slab, given, self._picked, run)
            each, square = kernel(slab, self._kernels, "pull", run)(given, chosen, scale, run)
            squares = squares + square.sum()
            pulls = [pull + slab.totals(one) for pull, one in zip(pulls, each, strict=True)]
        return pulls, self._norms(slab.indices) if len(slab.indices) > 1 else [squares.sqrt()]

    def owner(self, block: int) -> int:
        """The index of the tensor that one of the sizes belongs to."""
        return block

    def move(
        self,
        before: Mapping[str, Tensor],
        values: Mapping[str, Tensor],
        scale: Tensor,
        how: Write,
    ) -> None:
        """Take the step, `scale` times as long; the last one was taken with the values `before`."""
        fresh = sorted(set(range(len(self.weights))) - set(self.recorded))
        for i in fresh if self.tuned else ():
            weight = self.weights[i]
            self.states[i][RECORD] = torch.zeros_like(weight, dtype=compute_dtype(weight))
            if self._way == "replay":
                self.states[i][MOVED] = (
                    torch.ones((), dtype=compute_dtype(weight), device=weight.device) * how.finite
                )
        if self._way == "replay":
            self._run_("replay", self.recorded, (before, values), scale, how)
            self._run_("first", fresh, (values,), scale, how)
        else:
            self._run_(self._way, range(len(self.weights)), (values,), scale, how)

    def _run_(
        self,
        name: str,
        indices: Sequence[int],
        values: Sequence[Mapping[str, Tensor]],
        scale: Tensor,
        how: Write,
    ) -> None:
        """Run a kernel on the chosen tensors."""
        for slab in self._slabs(indices):
            given = [self._given(slab, each) for each in values]
            length = scale.to(self._precision(slab))
            for turn, run in enumerate(slab.runs(self._columns(slab), write=True)):
                first = slab.indices[0]
                own_dice = how.turn(first, turn, shard_index(self.shards[first]))
                kernel(slab, self._kernels, name, run)(*given, length, own_dice, run)

    def settle(self, values: Mapping[str, Tensor]) -> None:
        """Forget the last step, of which the state must first be brought up to date."""
        if self._way == "replay":
            for slab in self._slabs(self.recorded):
                given = self._given(slab, values)
                for run in slab.runs(self._columns(slab), write=True):
                    self._kernels.settle(given, run)
        for i in self.recorded:
            forget_(self.states[i])

    def layout(self, index: int, name: str) -> Layout:
        """How what is remembered of a sharded tensor under a name lies across processes."""
        shard = self.shards[index]
        assert shard is not None
        return shard.layout

    def _slabs(self, indices: Sequence[int]) -> list[Slab]:
        """The chosen tensors in slabs: of one kind, and with the same things remembered."""
        kinds: dict[tuple[Any, ...], list[int]] = {}
        for i in indices:
            shard = self.shards[i]
            spread = None if shard is None else (shard.mesh, *shard.axes)
            kinds.setdefault((self.weights[i].dtype, spread, *self.states[i]), []).append(i)
        return [
            slab for kind in kinds.values() for slab in slabs_of(kind, self.weights, self._compile)
        ]

    def _precision(self, slab: Slab) -> torch.dtype:
        """In what to calculate with a slab."""
        return compute_dtype(self.weights[slab.indices[0]])

    def _given(self, slab: Slab, values: Mapping[str, Tensor]) -> Values:
        """Hyperparameters as a slab's kernels want them, in its precision."""
        dtype = self._precision(slab)
        return slab.values(tuple(value.to(dtype) for value in values.values()))

    def _columns(self, slab: Slab) -> Columns:
        """What a slab's runs consist of."""
        columns: dict[str, list[Any]] = {
            WEIGHT: [self.weights[i].detach() for i in slab.indices],
            GRAD: [self.grads[i] for i in slab.indices],
        }
        first = self.states[slab.indices[0]]
        for name in (*own(first), *(name for name in (RECORD, MOVED) if name in first)):
            columns[name] = [self.states[i][name] for i in slab.indices]
        return columns
