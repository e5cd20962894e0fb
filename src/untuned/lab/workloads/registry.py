"""All workloads, by name."""

import re

from untuned.lab.errors import unknown
from untuned.lab.workloads import generative, graph, reinforcement, tabular, text, vision
from untuned.lab.workloads.papers import adversarial, pong, streams, translation
from untuned.lab.workloads.papers import vision as papers
from untuned.lab.workloads.task import Workload

WORKLOADS: dict[str, Workload] = (
    vision.WORKLOADS | text.WORKLOADS | graph.WORKLOADS | tabular.WORKLOADS
    | generative.WORKLOADS | reinforcement.WORKLOADS
)  # fmt: skip

# Trained by `untuned reproduce`; `untuned compare` leaves them out unless they are named
PAPERS: dict[str, Workload] = (
    papers.WORKLOADS | adversarial.WORKLOADS | pong.WORKLOADS | streams.WORKLOADS
    | translation.WORKLOADS
)  # fmt: skip


def find(name: str) -> Workload:
    """The workload of a name.

    `fcnDEPTH-SET` stands for any depth from 2, `fcnDEPTHxWIDTH-cifar10` also for any width;
    `-bias` and `-bBATCH` may follow the latter.

    Raises:
        UnknownNameError: lists the nearest names.
    """
    chain = re.fullmatch(r"fcn(\d+)-(\w+)", name)
    if chain and int(chain[1]) >= 2 and chain[2] in vision.CHAINS:
        return vision.chain_workload(int(chain[1]), chain[2])
    wide = re.fullmatch(r"fcn(\d+)x(\d+)-cifar10(-bias)?(?:-b(\d+))?", name)
    if wide and int(wide[1]) >= 2 and int(wide[2]):
        depth, width, batch = int(wide[1]), int(wide[2]), int(wide[4] or 128)
        return papers.wide_chain_workload(depth, width, bool(wide[3]), batch)
    known = WORKLOADS | PAPERS
    if name not in known:
        raise unknown("workload", name, known)
    return known[name]
