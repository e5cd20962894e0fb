"""Node classification: the field of each paper of a collection, by its words and citations.

Kipf and Welling 2016 (arXiv:1609.02907): two layers, full batch, 20 labelled nodes of each
field.
"""

from functools import cache, partial
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from untuned.lab.config import Size
from untuned.lab.workloads.data import rows
from untuned.lab.workloads.supervised import Supervised
from untuned.lab.workloads.task import ACCURACY, Pairs, Workload


class Graph(NamedTuple):
    """Nodes and edges."""

    words: Tensor  # (nodes, words), sparse: rows sum to one, or are empty
    labels: Tensor  # (nodes,)
    splits: dict[str, Tensor]  # indices of nodes
    edges: Tensor  # (2, edges): each in one direction


@cache
def citations(name: str) -> Graph:
    """Papers with the public split of Planetoid.

    Args:
        name: "cora" (2708 papers, 1433 words) or "citeseer" (3327 papers, 3703 words).
    """
    nodes, edges = rows(name, "nodes"), rows(name, "edges")
    counts = torch.tensor([len(words) for words in nodes["words"]])
    owners = torch.repeat_interleave(counts)
    columns = torch.tensor(list(chain.from_iterable(nodes["words"])))
    words = torch.sparse_coo_tensor(
        torch.stack([owners, columns]), 1 / counts[owners],
        (len(counts), int(columns.max()) + 1), check_invariants=True,
    )  # fmt: skip
    which = np.array(nodes["split"])
    splits = {part: torch.tensor(np.flatnonzero(which == part)) for part in ("train", "validation")}
    ends = torch.tensor([edges["src"], edges["dst"]])
    return Graph(words, torch.tensor(nodes["label"]), splits, ends)


def _neighbours(graph: Graph) -> Tensor:
    """D^-1/2 (A + I) D^-1/2, with D the degrees in A + I: (nodes, nodes), sparse."""
    loops = torch.arange(len(graph.labels))
    one, other = graph.edges
    ends = torch.stack([torch.cat([one, other, loops]), torch.cat([other, one, loops])])
    degree = torch.bincount(ends[0]).float()
    values = degree[ends].prod(0).rsqrt()
    return torch.sparse_coo_tensor(ends, values, check_invariants=True).coalesce()


def _sparse_dropout(matrix: Tensor, dropout: float, training: bool) -> Tensor:
    """Dropout of the stored values of a sparse matrix."""
    values = F.dropout(matrix.values(), dropout, training)
    return torch.sparse_coo_tensor(
        matrix.indices(), values, matrix.shape, is_coalesced=True, check_invariants=False
    )


class _Convolution(nn.Linear):
    """A dense layer, summed over the neighbours of each node."""

    def forward(self, nodes: Tensor, near: Tensor) -> Tensor:  # type: ignore[override]
        """(nodes, features) to (nodes, outputs); near: (nodes, nodes), sparse."""
        outputs: Tensor = near @ (nodes @ self.weight.T) + self.bias
        return outputs


class GCN(nn.Module):
    """Two graph convolutions.

    Args:
        graph: on which to classify nodes.
        width: of the hidden layer.
        classes: of the nodes.
        dropout: probability, before each layer.
    """

    def __init__(self, graph: Graph, width: int, classes: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.dropout: float = dropout
        self.register_buffer("words", graph.words.coalesce(), persistent=False)
        self.register_buffer("near", _neighbours(graph), persistent=False)
        self.layer1: nn.Linear = _Convolution(graph.words.shape[1], width)
        self.layer2: nn.Linear = _Convolution(width, classes)

    def forward(self, nodes: Tensor) -> Tensor:
        """Logits (n, classes) of the nodes at indices (n,)."""
        words, near = self.get_buffer("words"), self.get_buffer("near")
        x: Tensor = self.layer1(_sparse_dropout(words, self.dropout, self.training), near)
        x = self.layer2(F.dropout(F.relu(x), self.dropout, self.training), near)
        return x[nodes]


def _classification(name: str, size: Size) -> Supervised:
    graph = citations(name)
    train, valid = (Pairs(nodes, graph.labels[nodes]) for nodes in graph.splits.values())
    classes = int(graph.labels.max()) + 1
    width, steps = (16, 200) if size == "small" else (64, 1000)
    return Supervised(lambda: GCN(graph, width, classes), train, valid, len(train), steps, ACCURACY)


WORKLOADS = {
    f"gcn-{name.lower()}": Workload(
        f"a graph convolutional network, {name}", partial(_classification, name.lower())
    )
    for name in ("Cora", "CiteSeer")
}
