"""The look at a network's inputs: what each weight is applied to in the passes that train it.

Hooks note the mean square of each input that is data. A pass counts once gradients flow back
through the layer: probes of shapes, passes under `no_grad` and the like count nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils.parametrize import is_parametrized

from untuned.inference.calls import Call, mean_square
from untuned.inference.graph import FROZEN, Ends, last_matrices
from untuned.inference.history import History, in_backward
from untuned.inference.places import Place, first_argument, inputs_of, tensors_in
from untuned.inference.turns import rows_of
from untuned.passes.eager import run_eagerly
from untuned.passes.hooks import Hooks


class Look:
    """Hooks on the layers of modules, and what they have seen since the last step.

    Args:
        places: the weights, by number.
    """

    def __init__(self, places: list[Place]) -> None:
        self.calls: list[Call] = []  # since the last step
        self.copies: dict[Any, None] = {}  # process groups that hold copies (DDP)
        self.blind: bool = True  # whether no layer was ever called
        self._places = places
        self._hooks = Hooks()
        self._history = History()
        self._open: list[Call] = []  # calls that have not returned
        self._fed: set[int] = set()  # the weights, by number, that have seen data
        self._depth = 0  # of calls of roots
        self._ends: list[tuple[Call, Ends | None]] = []  # of passes since the last step
        self._seen = False  # whether a layer was called in this pass of the root
        self._eager = False  # whether the pass is one of our own
        self._parameters: set[int] = set()
        self._variables: dict[int, int] = {}  # numbers of matrices and tables, by the tensor's id

    def __bool__(self) -> bool:
        """Whether hooks are registered."""
        return bool(self._hooks)

    def begin(self, roots: Sequence[nn.Module]) -> None:
        """Register the hooks."""
        places: dict[nn.Module, list[Place]] = {}
        for place in self._places:
            places.setdefault(place.owner, []).append(place)
        for root in roots:
            if not isinstance(root, torch.jit.ScriptModule):  # which takes no hooks
                self._hooks.before(root, self._enter)
        for owner in dict.fromkeys(module for root in roots for module in root.modules()):
            if isinstance(owner, torch.jit.ScriptModule):
                continue
            self._hooks.prepare(owner)
            if owner._parameters or is_parametrized(owner):
                own = places.get(owner, [])
                first = first_argument(owner) if own else None
                self._hooks.before(owner, functools.partial(self._call, own, first))
                self._hooks.after(owner, functools.partial(self._returned, own))
        for root in roots:
            if not isinstance(root, torch.jit.ScriptModule):
                self._hooks.after(root, self._leave)

    def end(self) -> None:
        """Remove the hooks."""
        self._hooks.remove()
        self.step()

    def step(self) -> None:
        """Forget the calls since the last step."""
        self.calls, self._open, self._depth, self._ends = [], [], 0, []
        self._parameters, self._variables = set(), {}
        self._history.forget()

    def _enter(self, root: nn.Module, args: Any, kwargs: Any) -> None:
        self._depth += 1
        if self._depth == 1:
            self._open, self._seen = [], False
            self._history.begin((args, kwargs))
            self._name(self._places)

    def _leave(self, root: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        self._depth = max(0, self._depth - 1)
        if self._depth == 0:
            self._history.end()
            if self._eager or in_backward() or not torch.is_grad_enabled():
                return
            if not self._seen:
                self._look_behind_compiled_code(root, args, kwargs, output)
            elif not torch._C._are_functorch_transforms_active():
                self._note_ends(root, output)

    def _name(self, places: Sequence[Place]) -> None:
        """Note which tensors the weights are at present."""
        for place in places:
            if place.is_factor and (weight := place.weight) is not None:
                self._variables[id(weight)] = place.number

    def _note_ends(self, root: nn.Module, output: Any) -> None:
        """Find the last matrices of the pass, which count once gradients arrive."""
        nodes = [x.grad_fn for x in tensors_in(output) if x.grad_fn is not None]
        call = Call(root.training)
        self._ends.append((call, last_matrices(nodes, self._variables)))
        for node in nodes:
            node.register_prehook(call.arrive)

    def ends(self, moving: set[int]) -> Ends | None:
        """The last matrices of the passes since the last step that have gradients.

        Args:
            moving: the numbers of weights with gradients.
        """
        for call, found in self._ends:
            if call.arrived and found is not None and found.moving & moving:
                free = [number for number in found.free if number in moving]
                return Ends(found.moving & moving, free)
        # no graph to go by: the last that was called
        order = [call.matrices for call in self.calls if call.arrived and call.matrices]
        for place, matrices in enumerate(reversed(order)):
            if here := [number for number in matrices if number in moving]:
                return Ends({here[-1]}, here[-1:] if place == 0 else [])
        return None

    def _look_behind_compiled_code(
        self, root: nn.Module, args: Any, kwargs: Any, output: Any
    ) -> None:
        """Compiled layers run no hooks: run them once more. Gradients of `output` count for all."""
        nodes = [x.grad_fn for x in tensors_in(output) if x.grad_fn is not None]
        if not nodes:
            return
        before, self.calls, self._eager = self.calls, [], True
        try:
            complete = run_eagerly(root, args, kwargs)
        finally:
            found, self.calls, self._eager, self._depth = self.calls, before, False, 0
        for call in found if complete else ():
            self.calls.append(call)
            for node in nodes:
                node.register_prehook(call.arrive)

    def _call(
        self, places: Sequence[Place], first: str | None, owner: nn.Module, args: Any, kwargs: Any
    ) -> None:
        self._seen = True
        matrices = [place.number for place in places if place.layer.multiplies()]
        call = Call(owner.training, matrices)
        self._open.append(call)
        if (copied := DistributedDataParallel._active_ddp_module) is not None:
            self.copies[copied.process_group] = None
        if in_backward() or not (torch.is_grad_enabled() or self._eager):
            return
        self.blind = False
        self._name(places)
        with torch.no_grad():
            for place in places:
                multiplies = place.layer.multiplies()
                if not (multiplies or place.sees_inputs):
                    continue
                inputs = inputs_of(place, first, args, kwargs)
                if multiplies and inputs:
                    call.rows[place.number] = rows_of(inputs[0], place.layer)
                if not place.sees_inputs:
                    continue
                if squares := list(self._squares(place, inputs)):
                    call.squares[place.number] = torch.stack(squares).mean()

    def _squares(self, place: Place, inputs: Sequence[Tensor]) -> Iterator[Tensor]:
        """Mean squares of inputs that are data.

        And of others of a weight that sees data, too, as a recurrence does whose first state is
        data: these are one, or more.
        """
        for x in inputs:
            if place.scale is not None:
                yield mean_square(x) * place.scale**2
            elif self._is_data(x):
                self._fed.add(place.number)
                yield mean_square(x)
            elif place.number in self._fed:
                yield mean_square(x).clamp(min=1.0)

    def _returned(
        self, places: Sequence[Place], owner: nn.Module, args: Any, kwargs: Any, output: Any
    ) -> None:
        call = self._open.pop() if self._open else Call(owner.training)
        transformed = torch._C._are_functorch_transforms_active()
        nodes = [] if transformed else self._history.add(output)
        if in_backward() or not (torch.is_grad_enabled() or self._eager):
            return
        if any(place.frozen for place in places):
            for node in nodes:
                node.metadata[FROZEN] = True
        self.calls.append(call)
        call.arrived = transformed  # function transforms give gradients in their own way
        for node in nodes:
            node.register_prehook(call.arrive)

    def _is_data(self, tensor: Tensor) -> bool:
        if torch._C._are_functorch_transforms_active():
            return not tensor.requires_grad
        if not self._parameters:
            weights = (place.weight for place in self._places)
            self._parameters = {id(weight) for weight in weights if weight is not None}
        return self._history.is_data(tensor, self._parameters)
