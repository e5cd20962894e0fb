"""Whether a tensor is data, or was computed by the network.

Data are what neither a parameter nor a layer had a part in, whether that was frozen or not. Where a
tensor has an autograd history, this says so. Frozen layers leave none; after one was called, only
arguments of the network itself are certainly data.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from untuned._tensors import differentiable
from untuned.inference.places import storage_of, tensors_in

REMEMBERED = 10_000  # outputs to remember before those that are gone are looked for


class History:
    """What the layers of a network have computed, and what it was called with."""

    def __init__(self) -> None:
        self._mark = object()  # in the metadata of autograd's nodes
        # weak references to memory, by address: while held, no other memory has the address
        self._made: dict[int, StorageWeakRef] = {}
        self._given: dict[int, StorageWeakRef] = {}
        self._hidden = False  # whether a layer has left outputs without a history

    def begin(self, given: Any) -> None:
        """A pass of the whole network begins, with these arguments."""
        self._hidden = False
        self._given = dict(_references(tensors_in(given)))

    def end(self) -> None:
        """The pass is over: what comes next is no argument of it."""
        self._hidden, self._given = False, {}

    def forget(self) -> None:
        """Let go of all memory."""
        self._made = {}
        self.end()

    def add(self, outputs: Any) -> list[Any]:
        """Note the outputs of a layer; returns their nodes."""
        tensors = list(tensors_in(outputs))
        own = {k: each for k, each in _references(tensors) if k not in self._given}
        self._made.update(own)
        if len(self._made) > REMEMBERED:
            self._made = {k: each for k, each in self._made.items() if not each.expired()}
        nodes: list[Any] = [x.grad_fn for x in tensors if x.grad_fn is not None]
        for node in nodes:
            node.metadata[self._mark] = True
        self._hidden |= any(not x.requires_grad and differentiable(x) for x in tensors)
        return nodes

    def is_data(self, tensor: Tensor, parameters: set[int]) -> bool:
        """Whether no layer, and no parameter (by id), had a part in a tensor."""
        storage = storage_of(tensor)
        address = None if storage is None else storage._cdata
        if address in self._made:
            return False
        if tensor.grad_fn is not None:
            return not self._descends(tensor.grad_fn, parameters)
        return id(tensor) not in parameters and (not self._hidden or address in self._given)

    def _descends(self, node: Any, parameters: set[int]) -> bool:
        """Whether a node of autograd's graph has a layer or a parameter above it."""
        seen, waiting = {node}, [node]
        while waiting:
            node = waiting.pop()
            if self._mark in node.metadata or id(getattr(node, "variable", None)) in parameters:
                return True
            new = {above for above, _ in node.next_functions if above is not None} - seen
            seen |= new
            waiting += new
        return False


def _references(tensors: Iterable[Tensor]) -> Iterable[tuple[int, StorageWeakRef]]:
    """Weak references to the memory of tensors, by address."""
    for storage in map(storage_of, tensors):
        if storage is not None:
            yield storage._cdata, StorageWeakRef(storage)


def in_backward() -> bool:
    """Whether autograd is at work: what runs then (checkpointing) has run before."""
    return torch._C._current_graph_task_id() != -1
