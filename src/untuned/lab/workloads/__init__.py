"""All workloads, by name."""

from __future__ import annotations

import re

from untuned.lab.errors import unknown
from untuned.lab.task import Workload
from untuned.lab.workloads import (
    adversarial,
    generative,
    graph,
    papers,
    reinforcement,
    streams,
    tabular,
    text,
    translation,
    vision,
)

WORKLOADS: dict[str, Workload] = {
    **vision.WORKLOADS,
    **text.WORKLOADS,
    **graph.WORKLOADS,
    **tabular.WORKLOADS,
    **generative.WORKLOADS,
    **reinforcement.WORKLOADS,
}

# What only `untuned reproduce` trains: it is not among what is compared by default
PAPERS: dict[str, Workload] = {
    **papers.WORKLOADS,
    **adversarial.WORKLOADS,
    **reinforcement.PAPERS,
    **streams.WORKLOADS,
    **translation.WORKLOADS,
}


def find(name: str) -> Workload:
    """The workload of a name.

    `fcnDEPTH-SET` stands for any depth from 2, `fcnDEPTHxWIDTH-cifar10` also for any width;
    `-bias` and `-bBATCH` may follow the latter.

    Raises `UnknownNameError` with the nearest names.
    """
    chain = re.fullmatch(r"fcn(\d+)-(\w+)", name)
    if chain and int(chain[1]) >= 2 and chain[2] in vision.CHAINS:
        return vision.fcn(int(chain[1]), chain[2])
    wide = re.fullmatch(r"fcn(\d+)x(\d+)-cifar10(-bias)?(?:-b(\d+))?", name)
    if wide and int(wide[1]) >= 2 and int(wide[2]):
        return papers.fcn(int(wide[1]), int(wide[2]), bool(wide[3]), int(wide[4] or 128))
    known = WORKLOADS | PAPERS
    if name not in known:
        raise unknown("workload", name, known)
    return known[name]
