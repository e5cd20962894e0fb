"""All workloads, by name."""

import re
from dataclasses import replace
from functools import cache

from untuned.lab.errors import ConfigError, unknown
from untuned.lab.own import imported
from untuned.lab.workloads import (
    contrastive,
    cooccurrence,
    coordinates,
    finetuning,
    generative,
    graph,
    patches,
    physics,
    reinforcement,
    restoration,
    tabular,
    text,
    vision,
)
from untuned.lab.workloads.papers import adversarial, pong, streams, translation
from untuned.lab.workloads.papers import vision as papers
from untuned.lab.workloads.task import Workload

# For evaluation alone: choose no constant of an optimizer by results on these
HELD_OUT = {
    "resnet18-cifar10", "vgg16-cifar10", "fcn16-fashion", "fcn32-mnist", "lstm-warandpeace",
    "gpt-warandpeace", "coordinates-cifar10", "denoiser-fashion", "contrastive-fashion",
    "skipgram-warandpeace", "vit-fashion", "gru-shakespeare", "gcn-citeseer", "mixer-cifar10",
    "lora32-gpt", "finetune-cnn", "probe-cnn",
}  # fmt: skip

_EVERY: dict[str, Workload] = (
    vision.WORKLOADS | patches.WORKLOADS | text.WORKLOADS | cooccurrence.WORKLOADS
    | graph.WORKLOADS | tabular.WORKLOADS | coordinates.WORKLOADS | physics.WORKLOADS
    | generative.WORKLOADS | restoration.WORKLOADS | contrastive.WORKLOADS
    | reinforcement.WORKLOADS | finetuning.WORKLOADS
)  # fmt: skip
WORKLOADS: dict[str, Workload] = {
    name: replace(workload, held_out=name in HELD_OUT) for name, workload in _EVERY.items()
}

# Trained by `untuned reproduce`; `untuned compare` leaves them out unless they are named
PAPERS: dict[str, Workload] = (
    papers.WORKLOADS | adversarial.WORKLOADS | pong.WORKLOADS | streams.WORKLOADS
    | translation.WORKLOADS
)  # fmt: skip


def find(name: str) -> Workload:
    """The workload of a name.

    `fcnDEPTH-SET` stands for any depth from 2, `fcnDEPTHxWIDTH-cifar10` also for any width;
    `-bias`, `-bBATCH` and a key of `vision.TREATMENTS` may follow the latter, in this order.
    `mymodule:workload` is the user's own.

    Raises:
        UnknownNameError: lists the nearest names.
        ConfigError: what a module calls so is no workload.
    """
    known = WORKLOADS | PAPERS
    if name in known:
        return known[name]
    chain = re.fullmatch(r"fcn(\d+)-(\w+)", name)
    if chain and int(chain[1]) >= 2 and chain[2] in vision.CHAINS:
        return vision.chain_workload(int(chain[1]), chain[2])
    wide = re.fullmatch(r"fcn(\d+)x(\d+)-cifar10(-bias)?(?:-b(\d+))?(?:-(\w+))?", name)
    if wide and int(wide[1]) >= 2 and int(wide[2]) and wide[5] in vision.TREATMENTS:
        shape = int(wide[1]), int(wide[2]), bool(wide[3]), int(wide[4] or 128)
        return papers.wide_chain_workload(*shape, vision.TREATMENTS[wide[5]])
    own = re.fullmatch(r"(\w[\w.]*):(\w+)", name)
    if own:
        return _imported_workload(own[1], own[2])
    raise unknown("workload", name, known)


@cache
def _imported_workload(module: str, name: str) -> Workload:
    """Of the user's own, made once in a process."""
    found = imported("workload", module, name)
    made = found() if callable(found) else found
    if not isinstance(made, Workload):
        raise ConfigError(
            f"workload '{module}:{name}' is of type {type(made).__name__}: name a Workload, or a "
            "function that makes one"
        )
    return made
