"""The last matrices of a network, from autograd's graph of a forward pass.

A matrix is last where no other is applied to what it makes: a head, or several beside each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from torch.autograd.function import BackwardCFunction

# Nodes whose outputs are products of a weight and inputs, by parts of their names
PRODUCTS = ("Mm", "Addmm", "Bmm", "Baddbmm", "Mv", "Addmv", "Dot", "Conv", "inear", "Rnn", "Lstm")
LOOKUPS = ("Embedding", "Index", "Gather")  # of rows: no product
OPAQUE = ("CompiledFunction", "CheckpointFunction")  # nodes that hide what they are made of

FROZEN = "untuned.frozen"  # in the metadata of what a layer with a frozen matrix has made


class Ends(NamedTuple):
    """The last matrices of a pass, by number."""

    moving: set[int]  # of those that have gradients
    free: list[int]  # of these, those after which no frozen matrix comes, the last one first


class _Around(NamedTuple):
    """What stands behind a product: its matrices, and the products before it."""

    matrices: list[int]
    products: list[tuple[Any, bool]]  # whether a frozen layer's output lies between


def last_matrices(outputs: Sequence[Any], numbers: Mapping[int, int]) -> Ends | None:
    """The last matrices of a pass.

    Args:
        outputs: the nodes of the network's outputs.
        numbers: of matrices, by the id of their tensors.

    Returns:
        None where a part of the graph is hidden (compiled code, reentrant checkpoints).
    """
    found = _around(outputs, numbers)
    if found is None:
        return None
    front: dict[int, int] = {}  # when each was applied last, by its number
    frozen: set[int] = set()
    behind: list[Any] = []
    seen: set[tuple[Any, bool]] = set()
    waiting = found.products
    while waiting:
        if (state := waiting.pop()) in seen:
            continue
        seen.add(state)
        node, after = state
        after = after or FROZEN in node.metadata
        if (found := _around(list(_above(node)), numbers)) is None:
            return None
        for number in found.matrices:
            front[number] = max(front.get(number, 0), node._sequence_nr())
            frozen |= {number} if after else set()
        if found.matrices:
            behind += [product for product, _ in found.products]
        else:  # of hidden activations alone, as in attention
            waiting += [(product, after or between) for product, between in found.products]
    rear = _matrices_behind(behind, numbers)
    if rear is None:
        return None
    moving = front.keys() - rear
    return Ends(moving, sorted(moving - frozen, key=front.__getitem__, reverse=True))


def _around(nodes: Sequence[Any], numbers: Mapping[int, int]) -> _Around | None:
    """What is reached from nodes without a product in between."""
    found = _Around([], [])
    seen: set[tuple[Any, bool, bool]] = set()
    waiting = [(node, False, False) for node in nodes if node is not None]
    while waiting:
        if (state := waiting.pop()) in seen:
            continue
        seen.add(state)
        node, row, frozen = state
        name = node.name()
        if any(part in name for part in OPAQUE):
            return None
        number = numbers.get(id(getattr(node, "variable", None)))
        if number is not None:
            found.matrices.extend([] if row else [number])
        elif _is_product(node, name, numbers):
            found.products.append((node, frozen))
        else:
            row = row or name.startswith(LOOKUPS)
            frozen = frozen or FROZEN in node.metadata
            waiting += [(above, row, frozen) for above in _above(node)]
    return found


def _matrices_behind(nodes: Sequence[Any], numbers: Mapping[int, int]) -> set[int] | None:
    """All matrices above some nodes, but for tables whose rows are looked up."""
    found: set[int] = set()
    seen: set[Any] = set()
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        name = node.name()
        if any(part in name for part in OPAQUE):
            return None
        for above in _above(node):
            number = numbers.get(id(getattr(above, "variable", None)))
            if number is None:
                waiting.append(above)
            elif not name.startswith(LOOKUPS):
                found.add(number)
    return found


def _above(node: Any) -> Iterator[Any]:
    return (above for above, _ in node.next_functions if above is not None)


def _is_product(node: Any, name: str, numbers: Mapping[int, int]) -> bool:
    """A known one, or a function of the user's own that takes a matrix."""
    if any(part in name for part in PRODUCTS):
        return True
    own = isinstance(node, BackwardCFunction)
    return own and any(id(getattr(above, "variable", None)) in numbers for above in _above(node))
