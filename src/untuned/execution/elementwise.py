"""How elementwise rules run: kernels over buckets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from untuned._tensors import compute_dtype, integers, shared_dtype
from untuned.distributed.shards import Layout, Shard, part_of
from untuned.elementwise import Elementwise
from untuned.execution.buckets import LARGE, Bucket, Columns, buckets_of
from untuned.execution.kernels import GRAD, WEIGHT, kernels
from untuned.execution.record import MOVED, RECORD, Record, rule_state
from untuned.execution.stochastic_rounding import SHORT, Write
from untuned.rule import State

WORTHWHILE = 2**20  # entries in large tensors from which compiling saves more time than it takes

Numbers = Mapping[str, Tensor | float]


@dataclass(eq=False)
class ElementwiseExecutor:
    """Steps of an elementwise rule on some tensors.

    Args:
        rule: the rule; hyperparameters come with each call, 0-d, or (tensors,) if each tensor has
            its own.
        tuned: the names of those that a floor above tunes.
        weights: the tensors, or this rank's local shards.
        shards: of each tensor its shard, None of a plain one.
        compile: whether kernels run compiled; None: where that pays.
    """

    rule: Elementwise
    tuned: Sequence[str]
    weights: Sequence[Tensor]
    shards: Sequence[Shard | None]
    compile: bool | None
    grads: Sequence[Tensor] = field(init=False)
    states: Sequence[State] = field(init=False)
    recorded: list[int] = field(init=False)
    sizes: Tensor = field(init=False)

    def __post_init__(self) -> None:
        names = list(self.rule.hyperparameters())
        self._positions = tuple([names.index(name) for name in self.tuned])
        self._kernels = kernels(type(self.rule), self._positions)
        self._method = ("lone", "tangent", "replay")[min(len(self.tuned), 2)]
        large = sum([weight.numel() for weight in self.weights if weight.numel() >= LARGE])
        self._compile = large >= WORTHWHILE if self.compile is None else self.compile
        self._dtype = shared_dtype(self.weights)
        self._parts = [1 if shard is None else shard.parts for shard in self.shards]
        self._numbers: dict[tuple[float, torch.dtype], Tensor] = {}

    def begin(self, states: Sequence[State]) -> None:
        """Meet tensors, or their states, that are new: initialise what the rule remembers."""
        self.states = states
        for weight, state in zip(self.weights, states, strict=True):
            if not rule_state(state):
                short = weight.dtype in SHORT
                weight = weight.to(compute_dtype(weight)) if short else weight
                state.update(self.rule.init(weight))
        self.recorded = [i for i, state in enumerate(states) if RECORD in state]
        self._buckets: dict[tuple[int, ...], list[Bucket]] = {}

    def measure(
        self, grads: Sequence[Tensor], values: Numbers, scale: Tensor | float, norms: bool = True
    ) -> dict[str, Tensor]:
        """Measure the gradients, and pull hypergradients back through the last step.

        Args:
            grads: the gradients, or this rank's local shards of them.
            values: the hyperparameters that the last step was taken with.
            scale: what that step was multiplied with.
            norms: whether `sizes` must be norms; else any number that is finite if they are.

        Returns:
            The derivative of <last step, gradients> by each tuned value, of its shape; of sharded
            tensors this rank's partial sum.
        """
        self.grads = grads
        sizes: list[Any] = [None] * len(self.weights)
        found = {name: torch.zeros_like(torch.as_tensor(values[name])) for name in self.tuned}
        for bucket in self._buckets_of(self.recorded):
            each, measures = self._hypergradients(bucket, values, scale)
            for i, measure in zip(bucket.indices, measures, strict=True):
                sizes[i] = measure
            for name, part in zip(self.tuned, each, strict=True):
                part = part * self._parts[bucket.indices[0]]
                if found[name].ndim:
                    places = integers(bucket.indices, part.device)
                    found[name].index_add_(0, places, part.expand(len(places)))
                else:
                    found[name] += part.sum()
        rest = [i for i, size in enumerate(sizes) if size is None or norms]
        if rest:
            chosen = [grads[i] for i in rest]
            for i, norm in zip(rest, torch._foreach_norm(chosen, 2, self._dtype), strict=True):
                sizes[i] = norm
        self.sizes = torch.stack(sizes)
        return found

    def _hypergradients(
        self, bucket: Bucket, values: Numbers, scale: Tensor | float
    ) -> tuple[list[Tensor], Sequence[Tensor]]:
        """For each tuned value what the bucket's tensors add, each or all; and their sizes."""
        if self._method == "tangent":
            tangents = [self.states[i][RECORD] for i in bucket.indices]
            dots = bucket.dots(tangents, [self.grads[i] for i in bucket.indices])
            return [dots], dots.abs().unbind()
        *given, length = self._given(bucket, (values,), scale)
        sums: list[Any] = [0.0] * len(self.tuned)
        squares: Any = 0.0
        for buffers in bucket.buffers(self._columns(bucket), write=False):
            tuned = bucket.tuned(given[0], self._positions, buffers)
            run = bucket.kernel(self._kernels, "hypergradients", buffers)
            each, square = run(given[0], tuned, length, buffers)
            squares = squares + square.sum()
            sums = [total + bucket.totals(one) for total, one in zip(sums, each, strict=True)]
        if len(bucket.indices) == 1:
            return sums, [squares.sqrt()]
        grads = [self.grads[i] for i in bucket.indices]
        return sums, torch._foreach_norm(grads, 2, self._dtype)

    def partial_sums(self) -> list[Tensor]:
        """This rank's squares of the sizes, pre-scaled for the all-reduce."""
        return [self.sizes.double().square() * integers(self._parts, self.sizes.device)]

    def receive_sums(self, totals: list[Tensor]) -> None:
        """Replace the sizes by those of whole tensors, given the all-reduced `partial_sums`."""
        self.sizes = totals[0].sqrt().to(self.sizes)

    def owner(self, index: int) -> int:
        """The tensor that `sizes[index]` belongs to."""
        return index

    def apply(self, before: Numbers, values: Numbers, scale: Tensor | float, how: Write) -> None:
        """Take the step.

        Args:
            before: the hyperparameters that the last step was taken with.
            values: those of this step.
            scale: what the step is multiplied with, 0-d.
            how: on what terms to write.
        """
        if self._method != "replay":
            if self.tuned and len(self.recorded) < len(self.weights):
                self._start_records(how)
            self._run_(self._method, range(len(self.weights)), (values,), scale, how)
            return
        first = self._start_records(how)
        if self.recorded:
            self._run_("replay", self.recorded, (before, values), scale, how)
        if first:
            self._run_("first", first, (values,), scale, how)

    def _start_records(self, how: Write) -> list[int]:
        """Allocate the records of tensors that have none; their indices."""
        first = sorted({*range(len(self.weights))} - {*self.recorded})
        for i in first:
            weight, dtype = self.weights[i], compute_dtype(self.weights[i])
            one = torch.ones((), dtype=dtype, device=weight.device)
            moved = one * how.finite if self._method == "replay" else None
            record = Record(torch.zeros_like(weight, dtype=dtype), moved)
            self.states[i].update(record.entries())
        return first

    def _run_(
        self,
        name: str,
        indices: Sequence[int],
        values: Sequence[Numbers],
        scale: Tensor | float,
        how: Write,
    ) -> None:
        """Run a kernel on the chosen tensors."""
        for bucket in self._buckets_of(indices):
            given = self._given(bucket, values, scale)
            number = 0
            for buffers in bucket.buffers(self._columns(bucket), write=True):
                terms = how
                if how.key is not None:
                    first = bucket.indices[0]
                    terms = how.fold_in(first, number, part_of(self.shards[first]))
                bucket.kernel(self._kernels, name, buffers)(*given, terms, buffers)
                number += 1

    def drop_record(self, values: Numbers) -> None:
        """Drop the record of the last step, taken with `values`, once the state is up to date."""
        if self._method == "replay":
            for bucket in self._buckets_of(self.recorded):
                given, _ = self._given(bucket, (values,), 0.0)
                for buffers in bucket.buffers(self._columns(bucket), write=True):
                    self._kernels.settle(given, buffers)
        for i in self.recorded:
            Record.drop(self.states[i])

    def layout(self, index: int, name: str) -> Layout:
        """How a sharded tensor's state of a name lies across ranks: as the tensor."""
        shard = self.shards[index]
        assert shard is not None
        return shard.layout

    def _buckets_of(self, indices: Sequence[int]) -> list[Bucket]:
        """The chosen tensors in buckets: of one dtype and sharding, and with the same state."""
        key = tuple(indices)
        if key not in self._buckets:
            kinds: dict[tuple[Any, ...], list[int]] = {}
            for i in indices:
                shard = self.shards[i]
                spread = None if shard is None else (shard.mesh, *shard.axes)
                kinds.setdefault((self.weights[i].dtype, spread, *self.states[i]), []).append(i)
            buckets = [buckets_of(kind, self.weights, self._compile) for kind in kinds.values()]
            self._buckets[key] = [bucket for each in buckets for bucket in each]
        return self._buckets[key]

    def _given(
        self, bucket: Bucket, values: Sequence[Numbers], scale: Tensor | float
    ) -> list[Any]:
        """Sets of hyperparameters, then the scale, in a bucket's compute dtype and shape."""
        weight = self.weights[bucket.indices[0]]
        dtype = compute_dtype(weight)
        given: list[Any] = []
        for each in (*values, {"scale": scale}):
            tensors = []
            for value in each.values():
                if isinstance(value, Tensor):
                    tensors.append(value.to(weight.device, dtype))
                    continue
                if (value, dtype) not in self._numbers:
                    if len(self._numbers) >= 64:  # a schedule brings a new one in each step
                        self._numbers.clear()
                    made = torch.full((), value, dtype=dtype, device=weight.device)
                    self._numbers[value, dtype] = made
                tensors.append(self._numbers[value, dtype])
            given.append(tuple(tensors))
        return [*(bucket.values(each) for each in given[:-1]), given[-1][0]]

    def _columns(self, bucket: Bucket) -> Columns:
        """The tensors that a bucket's buffers are made of."""
        chosen = bucket.indices
        columns: dict[str, list[Tensor]] = {
            WEIGHT: [self.weights[i].detach() for i in chosen],
            GRAD: [self.grads[i] for i in chosen],
        }
        states = [self.states[i] for i in chosen]
        for name in states[0]:
            if "." not in name or name in (RECORD, MOVED):
                columns[name] = [state[name] for state in states]
        return columns
