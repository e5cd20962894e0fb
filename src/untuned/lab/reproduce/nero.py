"""Nero (arXiv:2102.07227).

Settings are those of the authors' code, github.com/jxbz/nero, whose scripts are named after the
figures. Accuracies of single runs are known for the MLP alone: the other figures are curves, and
their numbers were not at hand, so those entries compare with their own baselines.
"""

from __future__ import annotations

from untuned.lab.reproduce.agd import CIFAR, CORES, FEW_SGD, GPU, SGD, SUBSET, UNTIMED
from untuned.lab.reproduce.entry import (
    ACCURACY,
    DISTANCE,
    PERPLEXITY,
    RETURN,
    Entry,
    Line,
    Published,
    Scale,
    epochs,
    grid,
)
from untuned.lab.schedules import Schedule

PAPER = "arXiv:2102.07227"
RATES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
NERO = "nero(lr={lr})"
ADAM = "adamw(lr={lr}, betas=(0.0, 0.999), weight_decay=0.0)"  # without momentum, as published
CURVES = "The paper shows curves; its numbers were not at hand."


def contest(
    workload: str, schedule: Schedule, full: bool, panel: str = "",
    few: tuple[tuple[float, ...], ...] = ((1e-2,), (1e-3, 1e-2), FEW_SGD[:2]),
) -> tuple[Line, ...]:  # fmt: skip
    """Nero, Adam and SGD, each over a grid of learning rates."""
    rates = (RATES,) * 3 if full else few
    return tuple(
        line
        for label, text, some in zip(("Nero", "Adam", "SGD"), (NERO, ADAM, SGD), rates, strict=True)
        for line in grid(label, text, some, workload, schedule, panel)
    )


def deep(lr: float) -> tuple[Line, ...]:
    """The MLP."""
    return (
        Line("Nero", f"nero(lr={lr:g})", "mlp100-mnist", "exponential"),
        Line("Adam", "adam(lr=0.001)", "mlp100-mnist", "exponential"),
        Line("SGD", "sgd(lr=0.1)", "mlp100-mnist", "exponential"),
    )


def constraints(rates: tuple[float, ...]) -> tuple[Line, ...]:
    """Nero with both halves of its constraint, either, and none."""
    kinds = {"both": (True, True), "mean": (True, False), "norm": (False, True),
             "none": (False, False)}  # fmt: skip
    return tuple(
        line
        for label, (mean, norm) in kinds.items()
        for line in grid(label, f"neroablation(lr={{lr}}, mean={mean}, norm={norm})", rates,
                         "vgg11-cifar10", "fifths")
    )  # fmt: skip


def cifar(full: bool) -> tuple[Line, ...]:
    """VGG-11 and ResNet-18."""
    return (*contest("vgg11-cifar10", "fifths", full, "VGG-11"),
            *contest("resnet18-cifar10", "fifths", full, "ResNet-18"))  # fmt: skip


def imagenet(workload: str) -> tuple[Line, ...]:
    """Nero out of the box, and SGD with momentum, with weight decay and without."""
    return (
        Line("Nero", "nero(lr=0.01)", workload, "cosine"),
        Line("SGD", "sgdm(lr=0.1)", workload, "cosine"),
        Line("SGD, weight decay", "sgdm(lr=0.1, weight_decay=0.0001)", workload, "cosine"),
    )


def seeds(*values: float) -> Published:
    """Of the MLP."""
    where = (
        "MLP of 100 layers (figure 3), test accuracy by seed as issue 3 of this project quotes it"
    )
    return Published(values, f"{PAPER}, {where}")


def translation(name: str, data: str) -> Entry:
    """A transformer, German to English."""
    workload = f"translation-{name}"
    few = ((1e-3,), (1e-3,), (1e-1,))
    return Entry(
        f"nero-{name}", PAPER, "figure 8", "a transformer, German to English", PERPLEXITY,
        Scale(data, GPU, UNTIMED, epochs(100, 29_000, 128), 1,
              contest(workload, "linear", full=True)),
        Scale(f"the first pairs of it (hub, or the folder {name})", CORES, "three minutes", 200, 1,
              contest(workload, "linear", full=False, few=few)),
        baseline="Adam", x="learning rate",
        told=f"{CURVES} The paper tells of WMT16; its authors' code trains on Multi30k, the pairs "
        "of WMT16's multimodal task. There is an entry for each.",
    )  # fmt: skip


ENTRIES = (
    Entry(
        "nero-mlp100", PAPER, "figure 3, right", "an MLP of 100 layers on MNIST", ACCURACY,
        Scale("MNIST", GPU, UNTIMED, epochs(50, 60_000, 250), 3, deep(0.001)),
        Scale("MNIST", CORES, "a quarter of an hour", epochs(20, 60_000, 250), 2, deep(0.003)),
        {"Nero": seeds(89.3, 91.0, 83.7), "Adam": seeds(11.35), "SGD": seeds(11.35)}, "Adam",
        told="Adam and SGD had 11.35% at every learning rate that the authors tried. LAMB, which "
        "is not among ours, had 67.2%, 71.7% and 71.6%. Size small is 128 wide, not 784, with "
        "learning rate 0.003, not 0.001.",
    ),
    Entry(
        "nero-ablation", PAPER, "figure 1", "the two halves of the constraint, VGG-11 on CIFAR-10",
        ACCURACY,
        Scale("CIFAR-10", GPU, UNTIMED, CIFAR, 3, constraints((0.01, 0.02, 0.04, 0.06, 0.08, 0.1))),
        Scale(SUBSET, CORES, "one minute", 600, 1, constraints((0.01, 0.04))),
        baseline="both", x="learning rate", told=CURVES,
    ),
    Entry(
        "nero-imagenet", PAPER, "figure 4", "ResNet-50 on ImageNet, 90 epochs", ACCURACY,
        Scale("ImageNet (hub: gated; or the folder imagenet)", "four GPUs, through torchrun",
              UNTIMED, epochs(90, 1_281_167, 1024), 3, imagenet("resnet50-imagenet")),
        Scale("CIFAR-10, streamed as ImageNet is", CORES, "one minute", 400, 1,
              imagenet("resnet50-cifar10")),
        baseline="SGD", told=f"{CURVES} Its batches are of 400, ours of 1024.",
    ),
    Entry(
        "nero-gan", PAPER, "figure 5", "a class-conditional GAN on CIFAR-10", DISTANCE,
        Scale("CIFAR-10", GPU, UNTIMED, 2 * epochs(121, 50_000, 256), 1,
              contest("gan-cifar10", "late", full=True)),
        Scale(SUBSET, CORES, "three minutes", 400, 1,
              contest("gan-cifar10", "late", full=False, few=((1e-2,), (1e-4, 1e-3), (1e-2,)))),
        baseline="Adam", x="learning rate",
        told=f"{CURVES} They are Inception distances, which need a trained network; ours are of "
        "pixels and compare with nothing but each other.",
    ),
    Entry(
        "nero-cifar", PAPER, "figure 6", "VGG-11 and ResNet-18 on CIFAR-10", ACCURACY,
        Scale("CIFAR-10", GPU, UNTIMED, CIFAR, 3, cifar(full=True)),
        Scale(SUBSET, CORES, "two minutes", 600, 1, cifar(full=False)),
        baseline="Adam", x="learning rate", told=CURVES,
    ),
    Entry(
        "nero-wikitext2", PAPER, "figure 7", "a transformer on WikiText-2", PERPLEXITY,
        Scale("WikiText-2", GPU, UNTIMED, 13_800, 3,
              contest("transformer-wikitext2", "halfway", full=True)),
        Scale("WikiText-2, its test text", CORES, "one minute", 900, 1,
              contest("transformer-wikitext2", "halfway", full=False,
                      few=((1e-2,), (1e-3,), (1e-1, 1.0)))),
        baseline="Adam", x="learning rate",
        told=f"{CURVES} The lab trains on WikiText-2's test text, whose perplexity compares with "
        "no published one.",
    ),
    translation("wmt16", "WMT16 de-en (hub, or the folder wmt16)"),
    translation("multi30k", "Multi30k (hub, or the folder multi30k)"),
    Entry(
        "nero-pong", PAPER, "figure 9", "PPO on Atari's Pong, 5 million moves", RETURN,
        Scale("pip install 'untuned[atari]'", GPU, UNTIMED, 5_000_000 // 1024 * 16, 1,
              contest("ppo-pong", "linear", full=True)),
        Scale("pip install 'untuned[atari]'", CORES, "three minutes", 32, 1,
              contest("ppo-pong", "linear", full=False, few=((1e-2,), (1e-4,), (1e-1,)))),
        baseline="Adam", x="learning rate",
        told=f"{CURVES} Size small plays 256 moves: it shows the code, not the effect.",
    ),
)  # fmt: skip
