"""All workloads, by name."""

from __future__ import annotations

import re

from untuned.lab.errors import unknown
from untuned.lab.task import Workload
from untuned.lab.workloads import generative, graph, reinforcement, tabular, text, vision

WORKLOADS: dict[str, Workload] = {
    **vision.WORKLOADS,
    **text.WORKLOADS,
    **graph.WORKLOADS,
    **tabular.WORKLOADS,
    **generative.WORKLOADS,
    **reinforcement.WORKLOADS,
}


def find(name: str) -> Workload:
    """The workload of a name; `fcnDEPTH-SET` stands for any depth from 2.

    Raises `UnknownNameError` with the nearest names.
    """
    chain = re.fullmatch(r"fcn(\d+)-(\w+)", name)
    if chain and int(chain[1]) >= 2 and chain[2] in vision.CHAINS:
        return vision.fcn(int(chain[1]), chain[2])
    if name not in WORKLOADS:
        raise unknown("workload", name, WORKLOADS)
    return WORKLOADS[name]
