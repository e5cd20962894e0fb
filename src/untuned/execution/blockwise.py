"""How blockwise rules run: one step for all tensors of a group at once."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from untuned._tensors import integers
from untuned._tensors import compute_dtype
from untuned.blockwise import Blockwise, Leaves, Step
from untuned.distributed.orthogonal import sharded_duals
from untuned.distributed.sharded_blocks import ShardedBlockVector, sharded_block_vector_of
from untuned.distributed.shards import Layout, Shard
from untuned.execution.kernels import RECORD, derivatives, forget_, own
from untuned.execution.project import Finish
from untuned.execution.stochastic_rounding import Write
from untuned.execution.write import keep_, write_
from untuned.geometry.block_vector import BlockVector, block_vector_of
from untuned.geometry.layer import Layer, Shape
from untuned.rule import State

# What a tower keeps of the last step beside its gradient: the measures, and the state before it
SIZES, BEFORE = "tower.sizes", "tower.before."

Values = Mapping[str, Tensor | float]


def block_vector_for(
    rule: Blockwise,
    layer: Layer | None,
    shapes: Sequence[Shape],
    shards: Sequence[Shard | None],
) -> BlockVector:
    """The blocks of weights of one layer, or each by its shape, as the rule sees them.

    Shapes are those of whole tensors.
    """
    view = type(rule).view
    if any(shard is not None for shard in shards):
        return sharded_block_vector_of(layer, tuple(shapes), view, tuple(shards))
    return block_vector_of(layer, tuple(shapes), view)


class BlockwiseExecutor:
    """Some tensors of one geometry that a blockwise rule moves, in one step.

    Values of hyperparameters are 0-d, or one a tensor, (tensors,); `tuned` names those that a floor
    above moves. Of sharded tensors, what is here, and `shards` says what that is.
    """

    rule: Blockwise
    tuned: list[str]
    layer: Layer | None
    weights: Sequence[Tensor]
    grads: Sequence[Tensor]
    states: Sequence[State]
    shards: Sequence[Shard | None]
    frame: BlockVector
    fresh: list[int]
    recorded: list[int]
    sizes: Tensor

    def __init__(
        self,
        rule: Blockwise,
        tuned: Sequence[str],
        weights: Sequence[Tensor],
        grads: Sequence[Tensor],
        states: Sequence[State],
        shards: Sequence[Shard | None],
        layer: Layer | None,
    ) -> None:
        self.rule, self.tuned, self.layer = rule, list(tuned), layer
        self.weights, self.shards = weights, shards
        self.frame = self._frame(range(len(weights)))
        self.renew(weights, grads, states)

    def renew(
        self, weights: Sequence[Tensor], grads: Sequence[Tensor], states: Sequence[State]
    ) -> None:
        """Begin a step of the same tensors."""
        self.weights, self.grads, self.states = weights, grads, states
        everything = range(len(weights))
        remembers = type(self.rule).init is not Blockwise.init
        self.radial: Tensor | None = None
        self.tally: Tensor | None = None
        self.fresh = [i for i in everything if remembers and not own(states[i])]
        self.recorded = [i for i in everything if RECORD in states[i]]

    def _frame(self, indices: Sequence[int]) -> BlockVector:
        """The blocks of some of the tensors."""
        shards = [self.shards[i] for i in indices]
        shapes = [
            self.weights[i].shape if shard is None else shard.layout.shape
            for i, shard in zip(indices, shards, strict=True)
        ]
        return block_vector_for(self.rule, self.layer, shapes, shards)

    def look(self, values: Values, scale: Tensor | float, L: Tensor | int) -> dict[str, Tensor]:
        """Measure the gradients; the hypergradients, for each tuned value.

        These are the derivatives of <last step, gradients>, or what the parts here add to them;
        `values`, `scale` and `L` are what the last step was taken with.
        """
        self.sizes = self.rule.measure(self.frame, self.grads)
        if type(self.rule).measures_radial:
            self.radial = self.frame.dots(self.grads, self.weights)
        if (name := type(self.rule).counter) is not None:
            self.tally = self._remembered(name)
        if self.fresh:
            self._initial = self._frame(self.fresh).norms([self.weights[i] for i in self.fresh])
        return self._pull(values, scale, L) if self.tuned else {}

    def _remembered(self, name: str) -> Tensor:
        """A number of each block here: zero of tensors that the rule has not met."""
        pairs = zip(self.states, self.frame.stacks, strict=True)
        numbers = [s[name] if name in s else self.sizes.new_zeros(stack) for s, stack in pairs]
        return self.frame.gather(numbers).to(self.sizes)

    def partial_sums(self) -> list[Tensor]:
        """The squares of the measures, and of the norms of new weights."""
        squares = [self.frame.scatter(self.sizes.double().square())]
        if self.fresh:
            initial = self._initial.double().square()
            squares.append(self._frame(self.fresh).scatter(initial))
        radial = [] if self.radial is None else [self.radial]
        # all who see a block know its number: the sum over them is divided by how many they are
        tally = [] if self.tally is None else [self.tally, torch.ones_like(self.tally)]
        return [*squares, *map(self.frame.scatter, [*radial, *tally])]

    def receive_sums(self, totals: list[Tensor]) -> None:
        """Go on with the measures of whole blocks."""
        if self.tally is not None:
            *totals, tally, seen = totals
            self.tally = tally / seen
        if self.radial is not None:
            *totals, self.radial = totals
        self.sizes, *initial = [total.sqrt().to(self.sizes) for total in totals]
        if initial:
            self._initial = initial[0]

    def owner(self, block: int) -> int:
        """The index of the tensor that one of the joined `sizes` belongs to."""
        return int(self.frame.unsharded.owner(torch.device("cpu"))[block])

    def leaves(self) -> Leaves:
        """What the rule sees of the whole network."""
        return Leaves(
            self.frame.unsharded, self.grads, self.sizes, self.states, self.radial, self.tally
        )

    def _begin(self) -> None:
        """Have the rule remember what it wants of tensors that it has not met."""
        frame = self._frame(self.fresh)
        initial = self.rule.init(frame.unsharded, self._initial)
        for place, (i, state) in enumerate(zip(self.fresh, initial, strict=True)):
            given = self.states[i]
            given.update(
                {k: frame.local_numbers(place, v) for k, v in state.items() if k not in given}
            )
            layer, shape = frame.unsharded.layers[place], frame.unsharded.shapes[place]
            for name in self.rule.state_like_weight(layer, shape):
                weight = self.weights[i]
                given[name] = torch.zeros_like(weight, dtype=compute_dtype(weight))

    def _pull(self, values: Values, scale: Tensor | float, L: Tensor | int) -> dict[str, Tensor]:
        """The hypergradients, by replaying the last step."""
        given = {name: torch.as_tensor(values[name]).detach() for name in self.tuned}
        if not self.recorded:
            return {name: torch.zeros_like(value) for name, value in given.items()}
        states = [self.states[i] for i in self.recorded]
        frame = self._frame(self.recorded)
        leaves = Leaves(
            frame,
            [state[RECORD] for state in states],
            frame.gather([state[SIZES] for state in states]),
            [{name: state[BEFORE + name] for name in own(state)} for state in states],
        )

        def gain(*tuned: Tensor) -> tuple[Tensor, Tensor]:
            replaced = {**values, **dict(zip(given, tuned, strict=True))}
            step = self._step(replaced, leaves, scale, L, self.recorded)
            dots = frame.dots(step.directions, [self.grads[i] for i in self.recorded])
            dots = dots.to(step.coefficients.dtype) * frame.shard_counts(dots.device)
            total = torch.dot(step.coefficients, dots)
            return total, total

        pulls, _ = derivatives(gain, tuple(given.values()))
        return dict(zip(given, pulls, strict=True))

    def move(
        self, values: Values, scale: Tensor | float, L: Tensor | int, how: Write
    ) -> Finish | None:
        """Take the step, `scale` times as long; returns what remains to be done, if anything."""
        if self.fresh:
            self._begin()
        sizes = self.frame.local_entries(self.sizes)
        orthogonalise = functools.partial(sharded_duals, self.frame, self.shards)
        leaves = Leaves(self.frame, self.grads, sizes, self.states, orthogonalise=orthogonalise)
        records = self._records(sizes) if self.tuned else []
        step = self._step(values, leaves, scale, L, range(len(self.weights)))
        finish = write_(self.weights, step, leaves, how, type(self.rule).projection)
        for state, record in zip(self.states, records, strict=False):
            state.update({k: torch.zeros_like(v) for k, v in record.items() if k not in state})
        if records:
            keep_(records, self.states, how)
        return finish

    def layout(self, index: int, name: str) -> Layout:
        """How what is remembered of a sharded tensor under a name lies across processes."""
        shard, frame = self.shards[index], self.frame
        assert shard is not None
        assert isinstance(frame, ShardedBlockVector)
        own = self.rule.state_like_weight(frame.layers[index], shard.layout.shape)
        return shard.layout if name == RECORD or name in own else frame.layout(index)

    def _records(self, sizes: Tensor) -> list[State]:
        """What a replay of the coming step needs to know."""
        return [
            {RECORD: grad, SIZES: size, **{BEFORE + n: v.clone() for n, v in own(state).items()}}
            for grad, size, state in zip(
                self.grads, self.frame.spread(sizes), self.states, strict=True
            )
        ]

    def _step(
        self,
        values: Values,
        leaves: Leaves,
        scale: Tensor | float,
        L: Tensor | int,
        indices: Sequence[int],
    ) -> Step:
        """The rule's step; a value that each tensor has of its own reaches each of its blocks."""
        rule = self.rule
        if self.tuned:
            device = leaves.sizes.device
            owner = integers(indices, device)[leaves.blocks.owner(device)]
            rule = rule.replacing(
                {
                    name: value[owner] if isinstance(value, Tensor) and value.ndim else value
                    for name, value in values.items()
                }
            )
        return rule.update(leaves, scale * getattr(rule, "lr", 1.0), L)

    def settle(self) -> None:
        """Forget the last step."""
        for i in self.recorded:
            forget_(self.states[i])
