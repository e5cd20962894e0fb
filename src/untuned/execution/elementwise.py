"""How elementwise rules run: kernels over buckets."""

import functools
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from untuned._tensors import compute_dtype, derivatives, integers, shared_dtype
from untuned.distributed.shards import shard_index
from untuned.execution.buckets import LARGE, Bucket, Columns, buckets_of
from untuned.execution.executor import Executor, Numbers, StepInputs
from untuned.execution.kernels import GRAD, WEIGHT, Values, kernels
from untuned.execution.record import MOVED, RECORD, Record, rule_state
from untuned.execution.stochastic_rounding import SHORT, Write
from untuned.rule import State

WORTHWHILE = 2**20  # entries in large tensors from which compiling saves more time than it takes
NUMBERS = 64  # constants to cache: a schedule brings a new one in each step


@dataclass(eq=False)
class ElementwiseExecutor(Executor):
    """Steps of an elementwise rule: hyperparameters come with each step, of the rule the type."""

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
        self.grads = self.weights  # a column for kernels that read no gradient, before any came
        self._buckets: dict[tuple[int, ...], list[Bucket]] = {}
        self._began: list[tuple[str, ...]] = []  # the names in the states that buckets are for
        self._of: Sequence[State] = ()  # these states

    def begin(self, states: Sequence[State]) -> None:
        super().begin(states)
        for weight, state in zip(self.weights, states, strict=True):
            dtype = compute_dtype(weight)
            if not rule_state(state):
                state.update(self.rule.init(weight.to(dtype) if weight.dtype in SHORT else weight))
            for name in names_in_buffers(state) if dtype == torch.float64 else ():
                if state[name].dtype == torch.float32:  # of before the model became float64
                    state[name] = state[name].double()
        entries = [tuple(state) for state in states]
        if self._began != entries or not all(map(operator.is_, states, self._of)):
            self._buckets.clear()
        self._began, self._of = entries, states

    def measure(
        self, grads: Sequence[Tensor], last: StepInputs, norms: bool | None
    ) -> dict[str, Tensor]:
        self.grads: Sequence[Tensor] = grads
        sizes: list[Any] = [None] * len(self.weights)
        old = {name: torch.as_tensor(last.values[name]) for name in self.tuned}
        found = {name: torch.zeros_like(value) for name, value in old.items() if value.ndim}
        for bucket in self._buckets_of(self.recorded) if self.tuned else ():
            if self._method == "tangent":
                tangents = [self.states[i][RECORD] for i in bucket.indices]
                dots = bucket.dots(tangents, [self.grads[i] for i in bucket.indices])
                self._add(found, bucket, [dots])
                measures: Sequence[Any] = () if norms is None else dots.abs().unbind()
            else:
                squares: Any = 0.0
                for pull in self._replays(bucket, last):
                    each, square = pull()
                    squares = squares + (square if bucket.row_a_tensor else square.sum())
                    self._add(found, bucket, [bucket.totals(one) for one in each])
                alone = [squares.sqrt()] if len(bucket.indices) == 1 else ()
                measures = squares.sqrt().unbind() if bucket.row_a_tensor else alone
            for i, measure in zip(bucket.indices, measures, strict=False):
                sizes[i] = measure
        if norms is not None:
            self.sizes = self._with_norms(sizes, norms)
        return {n: found[n] if n in found else torch.zeros_like(old[n]) for n in self.tuned}

    def _with_norms(self, sizes: list[Any], norms: bool) -> Tensor:
        """One size a tensor: a norm where none is known, or all are to be `norms`."""
        rest = [i for i, size in enumerate(sizes) if size is None or norms]
        for bucket in self._buckets_of(rest) if rest else ():
            each = bucket.norms(self.grads, self._dtype)
            for i, norm in zip(bucket.indices, each, strict=True):
                sizes[i] = norm
        return torch.stack(sizes)

    def _replays(self, bucket: Bucket, last: StepInputs) -> Iterator[Callable[[], Any]]:
        """Replays of the last step, one for each of a bucket's buffers: see `hypergradients`."""
        (given,), scale = self._given(bucket, (last.values,), last.scale)
        for buffers in bucket.buffers(self._columns(bucket), write=False):
            tuned = bucket.tuned(given, self._positions, buffers)
            if bucket.tiled(buffers):
                pull = bucket.kernel(self._kernels, "hypergradients", buffers)
                yield functools.partial(pull, given, scale, buffers, *tuned)
            else:  # the same, one call less deep
                gain = functools.partial(self._kernels.gain, given, scale, buffers)
                yield functools.partial(derivatives, gain, tuned)

    def _add(self, found: dict[str, Tensor], bucket: Bucket, each: Sequence[Tensor]) -> None:
        """Add hypergradients of a bucket's tensors, or of all of them together, to those found."""
        copies = self._parts[bucket.indices[0]]
        for name, part in zip(self.tuned, each, strict=True):
            part = part * copies if copies > 1 else part
            if name in found and found[name].ndim:
                places = integers(bucket.indices, part.device)
                found[name].index_add_(0, places, part.to(found[name].dtype).expand(len(places)))
            else:
                total = part.sum(dtype=self._dtype)
                found[name] = found[name] + total if name in found else total

    def partial_sums(self) -> list[Tensor]:
        return [self.sizes.double().square() * integers(self._parts, self.sizes.device)]

    def receive_sums(self, totals: list[Tensor]) -> None:
        self.sizes: Tensor = totals[0].sqrt().to(self.sizes)

    def apply(self, last: StepInputs, now: StepInputs, how: Write) -> None:
        first = self._start_records(how) if self.tuned else []
        # which kernels take the step, of which tensors, with which sets of hyperparameters
        passes: list[tuple[str, Sequence[int], Sequence[Numbers]]]
        passes = [(self._method, range(len(self.weights)), (now.values,))]
        if self._method == "replay":
            passes = [("replay", self.recorded, (last.values, now.values))]
            passes.append(("first", first, (now.values,)))
        for name, indices, values in passes:
            for bucket in self._buckets_of(indices):
                given, scale = self._given(bucket, values, now.scale)
                each = bucket.buffers(self._columns(bucket), write=True)
                for number, buffers in enumerate(each):
                    terms = how
                    if how.key is not None:
                        lead = bucket.indices[0]
                        terms = how.fold_in(lead, number, shard_index(self.shards[lead]))
                    kernel = bucket.kernel(self._kernels, name, buffers)
                    kernel(*given, scale, terms, buffers)

    def _start_records(self, how: Write) -> list[int]:
        """Allocate the records of tensors that have none; returns their indices."""
        if len(self.recorded) == len(self.weights):
            return []
        first = sorted({*range(len(self.weights))} - {*self.recorded})
        for i in first:
            zeros = torch.zeros_like(self.weights[i], dtype=compute_dtype(self.weights[i]))
            moved = zeros.new_ones(()) * how.finite if self._method == "replay" else None
            self.states[i].update(Record(zeros, moved).entries())
        self._buckets.clear()  # states have other entries now
        return first

    def drop_record(self, last: StepInputs) -> None:
        if self._method == "replay":
            for bucket in self._buckets_of(self.recorded):
                (given,), _ = self._given(bucket, (last.values,), 0.0)
                for buffers in bucket.buffers(self._columns(bucket), write=True):
                    self._kernels.settle(given, buffers)
        super().drop_record(last)

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
            for bucket in self._buckets[key] if not any(self.shards) else ():
                states = [self.states[i] for i in bucket.indices]
                bucket.hold(states, names_in_buffers(states[0]))
        return self._buckets[key]

    def _given(
        self, bucket: Bucket, values: Sequence[Numbers], scale: Tensor | float
    ) -> tuple[list[Values], Tensor]:
        """Sets of hyperparameters, and the scale, in a bucket's compute dtype and shape."""
        weight = self.weights[bucket.indices[0]]
        dtype = compute_dtype(weight)
        flat: list[Any] = [scale]
        for each in values:
            flat += each.values()
        for place, value in enumerate(flat):
            if isinstance(value, Tensor):
                flat[place] = value.to(weight.device, dtype)
                continue
            if (value, dtype) not in self._numbers:
                if len(self._numbers) >= NUMBERS:
                    self._numbers.clear()
                number = torch.full((), value, dtype=dtype, device=weight.device)
                self._numbers[value, dtype] = number
            flat[place] = self._numbers[value, dtype]
        count = len(values[0])
        sets = [flat[i : i + count] for i in range(1, len(flat), count)] if count else [()]
        return [bucket.values(tuple(each)) for each in sets], flat[0]

    def _columns(self, bucket: Bucket) -> Columns:
        """The tensors that a bucket's buffers are made of."""
        columns: dict[str, list[Tensor]] = {
            WEIGHT: [self.weights[i].detach() for i in bucket.indices],
            GRAD: [self.grads[i] for i in bucket.indices],
        }
        states = [self.states[i] for i in bucket.indices]
        for name in names_in_buffers(states[0]):
            columns[name] = [state[name] for state in states]
        return columns


def names_in_buffers(state: State) -> list[str]:
    """The entries of a tensor's state that kernels read and write."""
    return [name for name in state if "." not in name or name in (RECORD, MOVED)]
