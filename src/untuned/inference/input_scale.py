"""The scale of a network's input data, as the optimizer's state remembers it.

A radius is for inputs whose entries have size one (`geometry/layers.py`). Hidden activations have
that size, more or less; data may have any, and a layer whose inputs are a hundred times smaller
needs weights a hundred times larger. No gradient shows that, so hooks measure the inputs
(`look.py`) in the first steps in which a weight has a gradient.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from untuned.distributed.shards import local
from untuned.errors import UnseenInputsWarning
from untuned.inference.counted import by_weight, counting, groups_of_copies, joined, joined_marks
from untuned.inference.look import Look
from untuned.inference.places import Place, places_of
from untuned.inference.turns import RowCount
from untuned.rule import States
from untuned.rules.auto import INPUT
from untuned.rules.degree import LAST

LOOKED = "auto.looked"  # in the state of a tensor: in how many of its steps its inputs were seen
MEASURED = "auto.measured"  # in how many of these they were data; their mean square is a mean
LOOKS = 8  # steps to look at each weight in
HAS_MOVED = "step"  # in the state of a tensor once it has moved
PATIENT = 64  # steps to wait for weights that have no gradient yet


class InputScale:
    """Measures the inputs of layers, and stores their sizes in the states of the weights.

    Copies of it, as of the modules that it watches, measure nothing.
    """

    def __init__(self) -> None:
        self._places: list[Place] = []
        self._roots: list[nn.Module] = []
        self._look = Look(self._places)
        self._looked: dict[int, int] = {}  # LOOKED, by the weight's number, on the host
        self._sizes: dict[int, Tensor] = {}  # INPUT, should states be cleared
        self._rows = RowCount()
        self._waited = 0
        self.operations: float | None = None  # those of the passes of a step, once known
        self.last: list[Tensor] | None = None  # the last matrices, once found
        self.known: list[Tensor] = []  # among these

    def __reduce__(self) -> tuple[type[InputScale], tuple[()]]:
        return InputScale, ()

    def watch(self, module: nn.Module) -> None:
        """Look at a module's layers in the coming steps."""
        numbers = {id(place.weight): place.number for place in self._places}
        for place in places_of(module):
            place.number = numbers.setdefault(id(place.weight), len(self._places))
            self._places.append(place)
        self._roots.append(module)
        self._begin()

    def _begin(self) -> None:
        self._look.end()
        self._waited = 0
        self._look.begin(self._roots)

    def loaded(self, state: States) -> None:
        """Go on where a state stopped that was loaded; reads from the device."""
        self._looked.clear()
        for number, weight in self._weights():
            own = state.get(weight, {})
            if LOOKED not in own and _value(own.get(INPUT)) > 0:  # a state of an older version
                own |= {LOOKED: own[INPUT].new_tensor(LOOKS), MEASURED: own[INPUT].new_tensor(1.0)}
            if LOOKED in own:
                self._looked[number] = int(_value(own[LOOKED]))
        if not self._look and any(count < LOOKS for count in self._looked.values()):
            self._begin()  # or the first step from here would not be seen

    def _weights(self) -> Iterator[tuple[int, Tensor]]:
        for number, place in enumerate(self._places):
            weight = place.weight if place.sees_inputs and place.number == number else None
            if weight is not None:
                yield number, weight

    def _due(self, state: States) -> bool:
        """Whether a weight with a gradient was not looked at often enough, or was forgotten."""
        return any(
            [
                LOOKED not in state.get(weight, {}) or self._looked.get(number, 0) < LOOKS
                for number, weight in self._weights()
                if weight.grad is not None
            ]
        )

    @torch.no_grad()
    def step(self, state: States, trained: set[Tensor], idle: bool) -> None:
        """Store what was seen since the last step.

        Args:
            state: the optimizer's, by tensor.
            trained: the optimizer's tensors.
            idle: whether the step moves nothing; if nothing was seen either, it does not count.
        """
        if not self._places:
            return
        looking, seen = bool(self._look), any(call.arrived for call in self._look.calls)
        if not (looking or self._due(state)):
            return
        weights = {i: weight for i, weight in self._weights() if weight in trained}
        self._prepare(weights, state)
        if idle and not seen:  # torch's way to allocate what it loads then
            self._mark_declared(state, trained)
            return
        if not looking:
            self._begin()
            return
        self._warn_if_blind(weights)
        if weights:
            self._record(weights, state, seen)
        if seen:
            self._find_last_matrices(state, trained)
            self._rows.note(self._look.calls)
        self._look.step()
        self._waited += 1
        waiting = [i for i, w in weights.items() if w.requires_grad and self._looked[i] < LOOKS]
        if not waiting or self._waited >= PATIENT:
            self._look.end()
            every = {place.number: w for place in self._places if (w := place.weight) is not None}
            self.operations = self._rows.operations(every, list(self._look.copies))

    def _factors(self, trained: set[Tensor]) -> dict[int, Tensor]:
        """The matrices and tables, by number."""
        places = [p for number, p in enumerate(self._places) if p.number == number and p.is_factor]
        return {p.number: w for p in places if (w := p.weight) is not None and w in trained}

    def _mark_declared(self, state: States, trained: set[Tensor]) -> None:
        """Mark the matrix that is declared last, until a pass shows another."""
        factors = self._factors(trained)
        last = max((i for i in factors if self._places[i].layer.multiplies()), default=None)
        for number, weight in factors.items():
            mark = torch.full((), float(number == last), device=local(weight).device)
            state[weight].setdefault(LAST, mark)

    def _find_last_matrices(self, state: States, trained: set[Tensor]) -> None:
        """Mark the last matrices in the states of all, alike on all ranks."""
        weights = self._factors(trained)
        ends = self._look.ends({i for i, weight in weights.items() if weight.grad is not None})
        groups = groups_of_copies(list(weights.values()), list(self._look.copies))
        if groups is None or not (ends or groups) or not weights:
            return
        for weight, mark in zip(
            weights.values(),
            joined_marks(ends.moving if ends else set(), weights, groups),
            strict=True,
        ):
            state[weight][LAST] = mark.to(weight.device, copy=True)
        if ends is not None:
            self.last = [weights[number] for number in ends.free]
            self.known = list(weights.values())

    def _prepare(self, weights: Mapping[int, Tensor], state: States) -> None:
        """Give every weight the entries in its state that it lacks."""
        for number, weight in weights.items():
            own = state[weight]
            if LOOKED in own:
                self._looked.setdefault(number, 0)
                continue
            stated = INPUT in own and HAS_MOVED not in own  # by hand, not by the rule
            self._looked[number] = LOOKS if stated else 0
            size = own[INPUT] if stated else self._sizes.get(number, torch.ones(()))
            own[INPUT] = size.to(weight.device, torch.float32, copy=True)
            own[LOOKED] = torch.full_like(own[INPUT], self._looked[number])
            own[MEASURED] = torch.zeros_like(own[INPUT])

    def _warn_if_blind(self, weights: Mapping[int, Tensor]) -> None:
        moving = any(weight.grad is not None for weight in weights.values())
        if moving and self._look.blind:
            self._look.blind = False
            warnings.warn(
                "Auto saw no layer called, so that it takes all data for data of size one. Of a "
                "compiled nn.Sequential give it the compiled module, untuned.Auto(torch.compile("
                "model)); elsewhere scale the data to a root mean square of one",
                UnseenInputsWarning,
                stacklevel=2,
            )

    def _record(self, weights: Mapping[int, Tensor], state: States, seen: bool) -> None:
        """Update means of squares by those of this step."""
        squares = {}
        for number, calls in by_weight(self._look.calls).items():
            if number not in weights or self._looked[number] >= LOOKS:
                continue
            if chosen := counting(calls, weights[number]):
                squares[number] = torch.stack([each.squares[number] for each in chosen]).mean()
        now = joined(squares, weights, list(self._look.copies))
        if now is not None:
            self._average(now, weights, state)
        if seen:
            due = (i for i in weights if self._looked[i] < LOOKS)
            moving = [i for i in due if weights[i].grad is not None]
            for number in moving:
                self._looked[number] += 1
            if moving:
                torch._foreach_add_([state[weights[i]][LOOKED] for i in moving], 1.0)

    def _average(self, now: Tensor, weights: Mapping[int, Tensor], state: States) -> None:
        """`now`: mean squares, (weights,); zero where nothing was seen."""
        own = [state[weight] for weight in weights.values()]
        size = torch.stack([each[INPUT] for each in own]).to(now)
        measured = torch.stack([each[MEASURED] for each in own]).to(now)
        known = (now > 0) & now.isfinite()
        new = torch.where(known, measured + 1, measured)
        square = torch.lerp(size**2, torch.where(known, now, 0.0), 1 / new.clamp(min=1))
        size = torch.where(known, square.sqrt(), size)
        torch._foreach_copy_([each[INPUT] for each in own], list(size.unbind()))
        # what is frozen has a size for the step that thaws it, which then counts anew
        moving = [i for i, weight in enumerate(weights.values()) if weight.grad is not None]
        if moving:
            counts = new.unbind()
            torch._foreach_copy_([own[i][MEASURED] for i in moving], [counts[i] for i in moving])
        self._sizes.update(zip(weights, (each[INPUT] for each in own), strict=True))


def _value(number: Any) -> float:
    return 0.0 if number is None or number.is_meta else float(number)
