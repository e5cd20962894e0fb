"""Averages and iterates: which of the two a module holds, and how the one follows the other.

With W the iterate, which the rule moves, and x its average, after the t-th step

    x <- x + (SHARE + 1) / (t + SHARE) (W - x),

so that x weighs the iterates of about the last t / (SHARE + 1) steps (Shamir and Zhang 2013,
arXiv:1212.1824, polynomial-decay averaging).
"""

from __future__ import annotations

import operator
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from untuned._tensors import readable
from untuned.averaging.exchange import Shares, exchange_
from untuned.distributed.shards import local, shard_index, shard_of
from untuned.execution.stochastic_rounding import SHORT, Write, key_of
from untuned.rule import State

SHARE = 8  # an iterate's weight grows as its number to this power
ITERATE, COUNT = "average.iterate", "average.steps"  # in the state of a tensor


class Iterates:
    """The iterates of weights whose averages a module holds.

    While the iterates are in the module (`inside`), the entries of the state hold the averages.

    Args:
        optimizer: whose parameters are averaged.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer
        self.inside: bool = False
        self._exchanged: list[tuple[Tensor, State]] = []  # those that are inside
        self._versions: dict[Tensor, int] = {}  # of tensors, as they were last seen

    def trust(self) -> None:
        """Believe weights and iterates as they are: they have just been loaded."""
        self._versions = {}

    def enter(self) -> None:
        """Put the iterates in place of the averages, of all tensors that may move."""
        self._exchanged = [(p, state) for p, state in self._averaged() if p.requires_grad]
        self._accept_writes()
        self.inside = True
        self._exchange()

    def leave(self) -> None:
        """Put the averages in place of the iterates, but where another optimizer has stepped."""
        self._accept_writes()
        self.inside = False
        self._exchange()

    def _accept_writes(self) -> None:
        """Take over what others did since a step, or since iterates came inside.

        They wrote to a tensor, with which its iterate then begins anew, or moved it.
        """
        for p, state in self._exchanged:
            iterate, version = state[ITERATE], p._version
            if self._versions.get(p, version) != version or iterate.shape != p.shape:
                _begin_anew(p, state)
            elif iterate.dtype != p.dtype or iterate.device != p.device:
                state[ITERATE] = iterate.to(p.device, p.dtype)
                state[COUNT] = state[COUNT].to(p.device)
            self._versions[p] = version

    def follow(self, moved: Sequence[Tensor], finite: bool | Tensor) -> None:
        """After a step: average, and put the averages in place.

        Args:
            moved: the tensors that the step moved.
            finite: whether the step was taken.
        """
        exchanged = list(map(operator.itemgetter(0), self._exchanged))
        averaged = set(map(id, exchanged))
        if self.inside:
            self.inside = False
            self._exchange(self._shares(set(map(id, moved)), finite) if moved else None)
        for p in moved:
            if id(p) not in averaged:  # the first average is the iterate
                _begin_anew(p, self._optimizer.state[p], 1.0 * finite)
                self._versions[p] = p._version
        versions = map(operator.attrgetter("_version"), exchanged)
        self._versions.update(zip(exchanged, versions, strict=True))

    def begin_anew(self) -> None:
        """Begin with what the module holds, where there are gradients."""
        for p, state in self._averaged():
            if p.grad is not None:
                _begin_anew(p, state)

    def forget(self) -> None:
        """Average no longer: iterates, which are inside, stay there."""
        for _, state in self._averaged():
            del state[ITERATE], state[COUNT]
        self._exchanged, self.inside = [], False

    def _averaged(self) -> list[tuple[Tensor, State]]:
        """The tensors that have an average, with their states."""
        found = self._optimizer.state.get
        return [
            (p, state)
            for group in self._optimizer.param_groups
            for p in group["params"]
            if (state := found(p)) and ITERATE in state
        ]

    @torch.no_grad()
    def _exchange(self, shares: Shares | None = None) -> None:
        """Exchange weights and entries of the state, which first go their shares of the way."""
        weights = list(map(operator.itemgetter(0), self._exchanged))
        others = [state[ITERATE] for _, state in self._exchanged]
        if not set(map(type, weights)) <= {Tensor, nn.Parameter}:
            weights, others = list(map(local, weights)), list(map(local, others))
        exchange_(weights, others, shares)

    def _shares(self, moved: set[int], finite: bool | Tensor) -> Shares | None:
        """How far averages go, of the moved tensors, whose steps are counted, and of others."""
        if not self._exchanged:
            return None
        counts = [state[COUNT] for _, state in self._exchanged]
        taken = torch.as_tensor(1.0 * finite).to(counts[0].device)
        if not moved.issuperset([id(p) for p, _ in self._exchanged]):
            each = [float(id(p) in moved) for p, _ in self._exchanged]
            taken = taken * torch.tensor(each, device=taken.device)
        torch._foreach_add_(counts, list(taken.expand(len(counts)).unbind()))
        t = torch.stack(counts)
        share = (SHARE + 1) * taken / (t + SHARE)
        return Shares(share.tolist() if readable(share) else share.unbind(), self._keys(t))

    def _keys(self, t: Tensor) -> list[Tensor | None]:
        """Keys of the stochastic rounding after `t` steps, (tensors,), if weights are rounded."""
        if all([p.dtype not in SHORT for p, _ in self._exchanged]):
            return []
        keys = [Write(key=key) for key in key_of(t.long(), SHARE).unbind()]
        each = zip(keys, self._exchanged, strict=True)
        return [key.fold_in(shard_index(shard_of(p))).key for key, (p, _) in each]


def _begin_anew(p: Tensor, state: State, taken: float | Tensor = 0.0) -> None:
    """Begin with a tensor as it is, after no step, or after one if it was `taken`."""
    state[ITERATE] = p.detach().clone()
    state[COUNT] = torch.zeros((), device=local(p).device) + taken
