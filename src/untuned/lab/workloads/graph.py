"""Graphs: which of seven fields a paper of Cora belongs to, by its words and citations.

Kipf and Welling 2016 (arXiv:1609.02907): two layers, all nodes at once, 140 labels to learn from.
"""

from __future__ import annotations

from functools import cache
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from untuned.lab.config import Size
from untuned.lab.data import rows
from untuned.lab.supervised import Supervised
from untuned.lab.task import ACCURACY, Pairs, Workload


class Sparse(NamedTuple):
    """A matrix (rows, ...) of which these entries are not zero."""

    rows: Tensor
    columns: Tensor
    values: Tensor

    def times(self, dense: Tensor, rows: int) -> Tensor:
        """The product with a matrix (columns, outputs): (rows, outputs)."""
        terms = self.values[:, None] * dense[self.columns]
        return dense.new_zeros(rows, dense.shape[1]).index_add(0, self.rows, terms)


class Graph(NamedTuple):
    """Nodes and edges."""

    words: Sparse  # (nodes, words): each node's sum to one
    labels: Tensor  # (nodes,)
    splits: dict[str, Tensor]  # indices of nodes
    edges: Tensor  # (2, edges): each in one direction


@cache
def cora() -> Graph:
    """2708 papers, 1433 words, with the public split of Planetoid."""
    nodes, edges = rows("cora", "nodes"), rows("cora", "edges")
    counts = torch.tensor([len(words) for words in nodes["words"]])
    owners = torch.repeat_interleave(counts)
    words = Sparse(
        owners, torch.tensor(list(chain.from_iterable(nodes["words"]))), 1 / counts[owners]
    )
    which = np.array(nodes["split"])
    splits = {part: torch.tensor(np.flatnonzero(which == part)) for part in ("train", "validation")}
    ends = torch.tensor([edges["src"], edges["dst"]])
    return Graph(words, torch.tensor(nodes["label"]), splits, ends)


def neighbours(graph: Graph) -> Sparse:
    """D^-1/2 (A + I) D^-1/2, with D the degrees in A + I."""
    own = torch.arange(len(graph.labels))
    one, other = graph.edges
    targets, sources = torch.cat([one, other, own]), torch.cat([other, one, own])
    degree = torch.bincount(targets).float()
    return Sparse(targets, sources, (degree[targets] * degree[sources]).rsqrt())


class GCN(nn.Module):
    """Two layers, each a product with the neighbours' matrix and one with weights."""

    nodes: int
    dropout: float
    layer1: nn.Linear
    layer2: nn.Linear

    def __init__(self, graph: Graph, width: int, classes: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.nodes, self.dropout = len(graph.labels), dropout
        for name, matrix in (("words", graph.words), ("near", neighbours(graph))):
            for part, tensor in matrix._asdict().items():
                self.register_buffer(f"{name}_{part}", tensor, persistent=False)
        self.layer1 = nn.Linear(int(graph.words.columns.max()) + 1, width)
        self.layer2 = nn.Linear(width, classes)

    def _matrix(self, name: str) -> Sparse:
        return Sparse(*(self.get_buffer(f"{name}_{part}") for part in Sparse._fields))

    def forward(self, nodes: Tensor) -> Tensor:
        """Logits (nodes, classes) of some nodes."""
        words, near = self._matrix("words"), self._matrix("near")
        words = words._replace(values=F.dropout(words.values, self.dropout, self.training))
        x = words.times(self.layer1.weight.T, self.nodes)
        x = F.relu(near.times(x, self.nodes) + self.layer1.bias)
        x = F.dropout(x, self.dropout, self.training) @ self.layer2.weight.T
        return (near.times(x, self.nodes) + self.layer2.bias)[nodes]


def _cora(size: Size) -> Supervised:
    graph = cora()
    train, valid = (Pairs(nodes, graph.labels[nodes]) for nodes in graph.splits.values())
    classes = int(graph.labels.max()) + 1
    width, steps = (16, 200) if size == "small" else (64, 1000)
    return Supervised(lambda: GCN(graph, width, classes), train, valid, len(train), steps, ACCURACY)


WORKLOADS = {"gcn-cora": Workload("a graph convolutional network, Cora", _cora)}
