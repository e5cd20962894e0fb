"""How blockwise rules run: one step for all tensors of a group at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from untuned._tensors import compute_dtype, derivatives, integers
from untuned.blockwise import Blockwise, Leaves
from untuned.distributed.orthogonal import sharded_duals
from untuned.distributed.sharded_blocks import ShardedBlockVector, block_vector_of
from untuned.distributed.shards import Layout, Shard
from untuned.execution.executor import Executor, Numbers, StepInputs
from untuned.execution.project import PieceWriter
from untuned.execution.record import RECORD, Record, rule_state
from untuned.execution.stochastic_rounding import Write
from untuned.execution.write import write_, write_states_
from untuned.geometry.block_vector import BlockVector
from untuned.geometry.complex import Complex, paired_duals
from untuned.geometry.layer import Layer
from untuned.geometry.orthogonal import Duals, spectral_duals
from untuned.rule import State


def block_vector_for(
    rule: Blockwise,
    layers: Sequence[Layer],
    weights: Sequence[Tensor],
    shards: Sequence[Shard | None],
) -> BlockVector:
    """The blocks of some weights, or local shards, as a rule sees them (`Blockwise.view`)."""
    pairs = zip(weights, shards, strict=True)
    shapes = tuple([w.shape if shard is None else shard.layout.shape for w, shard in pairs])
    return block_vector_of(tuple(layers), shapes, type(rule).view, tuple(shards))


@dataclass(eq=False)
class BlockwiseExecutor(Executor):
    """Steps of a blockwise rule on some tensors of one geometry."""

    def __post_init__(self) -> None:
        kind = type(self.rule)
        self.blocks: BlockVector = block_vector_for(
            self.rule, self.layers, self.weights, self.shards
        )
        self._has_complex = any([isinstance(layer, Complex) for layer in self.layers])
        self._remembers = kind.init is not Blockwise.init
        self._radial: Tensor | None = None
        self._counter: Tensor | None = None
        self._along: list[Tensor] = []  # <gradient, state> and the state's norm, (blocks,) each
        self._projected: Tensor | None = None  # what follows from these, (blocks,)

    def begin(self, states: Sequence[State]) -> None:
        super().begin(states)
        fresh = enumerate(states) if self._remembers else ()
        self._fresh = [i for i, state in fresh if not rule_state(state)]

    def measure(
        self, grads: Sequence[Tensor], last: StepInputs, norms: bool | None
    ) -> dict[str, Tensor]:
        self.grads = grads
        self.sizes = self.rule.measure(self.blocks, grads)
        kind = type(self.rule)
        if kind.measures_radial:
            self._radial = self.blocks.dots(grads, self.weights)
        if kind.counter is not None:
            self._counter = self._counted(kind.counter)
        if kind.measures_along is not None:
            pairs, name = zip(self.states, grads, strict=True), kind.measures_along
            along = [own[name] if name in own else torch.zeros_like(g) for own, g in pairs]
            self._along = [self.blocks.dots(grads, along), self.blocks.norms(along)]
        if self._fresh:
            new = [self.weights[i] for i in self._fresh]
            self._initial = self._blocks_of(self._fresh).norms(new)
        if not self.tuned:
            return {}
        given = tuple([torch.as_tensor(last.values[name]).detach() for name in self.tuned])
        if not self.recorded:
            return {n: torch.zeros_like(v) for n, v in zip(self.tuned, given, strict=True)}
        found, _ = derivatives(self._gain(last), given)
        return dict(zip(self.tuned, found, strict=True))

    def _blocks_of(self, indices: Sequence[int]) -> BlockVector:
        """The blocks of some of the tensors."""
        layers = [self.layers[i] for i in indices]
        weights, shards = [self.weights[i] for i in indices], [self.shards[i] for i in indices]
        return block_vector_for(self.rule, layers, weights, shards)

    def _counted(self, name: str) -> Tensor:
        """The rule's counter of each local block, (blocks,): zero of tensors that are new."""
        pairs = zip(self.states, self.blocks.stacks, strict=True)
        new = self.sizes.new_zeros
        numbers = [state[name] if name in state else new(stack) for state, stack in pairs]
        return self.blocks.gather(numbers).to(self.sizes)

    def partial_sums(self) -> list[Tensor]:
        sums = [self.blocks.scatter(self.sizes.double().square())]
        if self._fresh:
            initial = self._initial.double().square()
            sums.append(self._blocks_of(self._fresh).scatter(initial))
        if self._radial is not None:
            sums.append(self.blocks.scatter(self._radial))
        if self._counter is not None:  # each rank that sees a block knows its number: the sum over
            ones = torch.ones_like(self._counter)  # ranks is divided by how many they are
            sums += [self.blocks.scatter(self._counter), self.blocks.scatter(ones)]
        if self._along:
            dots, norms = self._along
            sums += [self.blocks.scatter(dots), self.blocks.scatter(norms.double().square())]
        return sums

    def receive_sums(self, totals: list[Tensor]) -> None:
        if self._along:
            *totals, dots, squares = totals
            self._along = [dots.to(self.sizes), squares.sqrt().to(self.sizes)]
        if self._counter is not None:
            *totals, counter, ranks = totals
            self._counter = (counter / ranks).to(self.sizes)
        if self._radial is not None:
            *totals, self._radial = totals
        found = [total.sqrt().to(self.sizes) for total in totals]
        self.sizes: Tensor = found[0]
        if self._fresh:
            self._initial = found[1]

    def owner(self, index: int) -> int:
        return int(self.blocks.unsharded.owner(torch.device("cpu"))[index])

    def leaves(self) -> Leaves:
        """The group as `Rule.plan_step` sees it: measures of whole blocks."""
        if self._along:
            dots, norms = self._along
            self._projected = dots / norms.square().clamp(min=torch.finfo(norms.dtype).tiny)
        return Leaves(
            self.blocks.unsharded, self.grads, self.sizes, self.states, self._radial,
            self._counter, self._projected,
        )  # fmt: skip

    def _gain(self, last: StepInputs) -> Callable[..., tuple[Tensor, Tensor]]:
        """<last step, gradients>, 0-d, as a function of the tuned values: replays the last step."""
        records = [Record.of(self.states[i]) for i in self.recorded]
        grads = [self.grads[i] for i in self.recorded]
        blocks = self._blocks_of(self.recorded)
        sizes = [record.sizes for record in records if record.sizes is not None]
        before = [dict(record.before) for record in records]
        leaves = Leaves(blocks, [record.grad for record in records], blocks.gather(sizes), before)

        def gain(*tuned: Tensor) -> tuple[Tensor, Tensor]:
            values = {**last.values, **dict(zip(self.tuned, tuned, strict=True))}
            rule = self._with(values, blocks, self.recorded)
            step = rule.update(leaves, last.scale * getattr(rule, "lr", 1.0), last.L)
            directions = [d for d in step.directions if d is not None]  # turns are not replayed
            dots = blocks.dots(directions, grads)
            dots = dots.to(step.coefficients.dtype) * blocks.shard_counts(dots.device)
            total = torch.dot(step.coefficients, dots)
            return total, total

        return gain

    def _with(self, values: Numbers, blocks: BlockVector, indices: Sequence[int]) -> Blockwise:
        """The rule with these hyperparameters; a tensor's own ones reach each of its blocks."""
        device = self.weights[0].device
        owner = integers(indices, device)[blocks.owner(device)]
        each = {n: v[owner] if isinstance(v, Tensor) and v.ndim else v for n, v in values.items()}
        return self.rule.replacing(each)  # type: ignore[no-any-return]

    def apply(self, last: StepInputs, now: StepInputs, how: Write) -> PieceWriter | None:
        if self._fresh:
            self._start()
        rule, sizes = self.rule, self.blocks.local_entries(self.sizes)
        along = self._projected
        leaves = Leaves(
            self.blocks, self.grads, sizes, self.states,
            along=None if along is None else self.blocks.local_entries(along),
            turn=now.turn, orthogonalise=self._orthogonalised,
        )  # fmt: skip
        records: list[State] = []
        if self.tuned:
            rule = self._with(now.values, self.blocks, range(len(self.weights)))
            records = self._records(sizes)
        step = rule.update(leaves, now.scale * getattr(rule, "lr", 1.0), now.L)
        writer = write_(self.weights, self.shards, step, leaves, how, type(rule).projection)
        if records:
            write_states_(records, self.states, how)
        return writer

    def _orthogonalised(self, indices: Sequence[int], tensors: Sequence[Tensor]) -> Duals:
        """U V^T of each block of some of the tensors, wherever their shards are."""
        if isinstance(self.blocks, ShardedBlockVector):
            return sharded_duals(self.blocks, self.shards, indices, tensors)
        blocks = list(map(self.blocks.blocks.__getitem__, indices))
        if self._has_complex:
            return paired_duals([self.blocks.layers[i] for i in indices], blocks, tensors)
        return spectral_duals(blocks, tensors)

    def _start(self) -> None:
        """Initialise what the rule remembers of new tensors."""
        blocks = self._blocks_of(self._fresh)
        initial = self.rule.init(blocks.unsharded, self._initial)
        for place, (i, state) in enumerate(zip(self._fresh, initial, strict=True)):
            given, weight = self.states[i], self.weights[i]
            for name, value in state.items():
                if name not in given:
                    given[name] = blocks.local_numbers(place, value)
            layer, shape = blocks.unsharded.layers[place], blocks.unsharded.shapes[place]
            for name in self.rule.state_like_weight(layer, shape):
                given[name] = torch.zeros_like(weight, dtype=compute_dtype(weight))

    def _records(self, sizes: Tensor) -> list[State]:
        """What a replay of the coming step needs of each tensor; allocates what is new."""
        records = []
        for grad, size, state in zip(
            self.grads, self.blocks.spread(sizes), self.states, strict=True
        ):
            before = {name: value.clone() for name, value in rule_state(state).items()}
            records.append(Record(grad, sizes=size, before=before).entries())
            new = {name: value for name, value in records[-1].items() if name not in state}
            state.update({name: torch.zeros_like(value) for name, value in new.items()})
        return records

    def layout(self, index: int, name: str) -> Layout:
        layout, blocks = super().layout(index, name), self.blocks
        assert isinstance(blocks, ShardedBlockVector)
        like_weight = self.rule.state_like_weight(blocks.layers[index], layout.shape)
        return layout if name == RECORD or name in like_weight else blocks.layout(index)
