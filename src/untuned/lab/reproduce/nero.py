"""Nero (arXiv:2102.07227).

Settings are those of the authors' code, github.com/jxbz/nero, whose scripts are named after the
figures, and repeat the best learning rates of their grids. Accuracies of single runs are known for
the MLP alone: the other figures are curves, and their numbers were not at hand, so those
experiments compare with their own baselines.
"""

from untuned.lab.baselines.schedules import Schedule
from untuned.lab.reproduce.claims import best_at
from untuned.lab.reproduce.experiment import (
    DISTANCE,
    RETURN,
    STATE,
    TEST_ACCURACY,
    VALID_PERPLEXITY,
    Claim,
    Experiment,
    Line,
    Optimizers,
    Published,
    Scale,
    epochs,
    in_epochs,
    lines,
)
from untuned.lab.reproduce.settings import (
    CIFAR,
    CORES,
    DEEP_AUTO,
    EITHER,
    FEW_SGD,
    GPU,
    SGD,
    SUBSET,
    WITH_AUTO,
)

PAPER = "arXiv:2102.07227"
MEMORY = (STATE,)  # the paper claims about the square root of Adam's
RATES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
NO_MOMENTUM = "betas=(0.0, 0.999)"  # as published, of Adam and LAMB
VGG = (
    "VGG-11 has no norms, and three dense layers with dropout, as in the authors' code; its images "
    "are turned, too. At size small images have half their resolution and stay as they are."
)
CURVES = "The paper shows curves; its numbers were not at hand."
FEW_RATES = ((1e-2,), (1e-3, 1e-2), FEW_SGD[:2], (1e-2,))
FOR_LAMB = "; pip install 'untuned[compare]' for LAMB"
WITH_LAMB = f"MNIST{FOR_LAMB}"
OUT_OF_THE_BOX = {
    "Nero": "nero(lr=0.01)",
    "SGD": "sgdm(lr=0.1)",
    "SGD, weight decay": "sgdm(lr=0.1, weight_decay=0.0001)",
} | WITH_AUTO


def _grids(
    workload: str, schedule: Schedule, few: tuple[tuple[float, ...], ...] | None, panel: str = ""
) -> tuple[Line, ...]:
    """Nero, Adam, SGD and LAMB over all learning rates, or few of each."""
    nero, adam, sgd, lamb = few or (RATES, RATES, RATES, RATES)
    optimizers: Optimizers = {
        "Nero": ("nero(lr={lr})", nero),
        "Adam": (f"adamw(lr={{lr}}, {NO_MOMENTUM}, weight_decay=0.0)", adam),
        "SGD": (SGD, sgd),
        "LAMB": (f"lamb(lr={{lr}}, {NO_MOMENTUM})", lamb),
        **WITH_AUTO,
    }
    return lines(workload, optimizers, schedule, panel)


def _deep(lr: float, schedule: Schedule) -> tuple[Line, ...]:
    optimizers = {"Nero": f"nero(lr={lr:g})", "LAMB": "lamb(lr=0.01)", "Adam": "adam(lr=0.001)",
                  "SGD": "sgd(lr=0.1)"} | DEEP_AUTO  # fmt: skip
    return lines("mlp100-mnist", optimizers, schedule)


def _constraints(rates: tuple[float, ...]) -> tuple[Line, ...]:
    kinds = {"both": (True, True), "mean": (True, False), "norm": (False, True),
             "none": (False, False)}  # fmt: skip
    optimizers: Optimizers = {
        label: (f"neroablation(lr={{lr}}, mean={mean}, norm={norm})", rates)
        for label, (mean, norm) in kinds.items()
    }
    optimizers = {**optimizers, **WITH_AUTO}
    return lines("vgg11-cifar10", optimizers, "fifths")


def _cifar(few: tuple[tuple[float, ...], ...] | None) -> tuple[Line, ...]:
    return (*_grids("vgg11-cifar10", "fifths", few, "VGG-11"),
            *_grids("resnet18-cifar10-original", "fifths", few, "ResNet-18"))  # fmt: skip


def _best_rates(panel: str = "", **xs: float) -> Claim:
    """The learning rates that the authors' scripts repeat with other seeds, by label."""
    of = f", {panel}" if panel else ""
    told = ", ".join(f"{label} {x:g}" for label, x in xs.items())
    return best_at(f"best learning rates (its authors' script{of}): {told}", xs, panel)


def _seeds(*values: float) -> Published:
    """Of the MLP."""
    where = (
        "MLP of 100 layers (figure 3), test accuracy by seed as issue 3 of this project quotes it"
    )
    return Published(values, f"{PAPER}, {where}")


def _translation(name: str, data: str) -> Experiment:
    """A transformer, German to English."""
    workload = f"translation-{name}"
    few = ((1e-3,), (1e-3,), (1e-1,), (1e-2,))
    return Experiment(
        f"nero-{name}", PAPER, "figure 8", "a transformer, German to English", VALID_PERPLEXITY,
        in_epochs(f"{data}{FOR_LAMB}", GPU, (100, 29_000, 128), 1,
                  _grids(workload, "linear", None)),
        Scale(f"the first pairs of it (hub, or the folder {name}){FOR_LAMB}", CORES, 200, 1,
              _grids(workload, "linear", few), time="three minutes"),
        baseline="Adam", x="learning rate",
        also=MEMORY,
        note=f"{CURVES} The paper reports WMT16; its authors' code trains on Multi30k, the pairs "
        "of WMT16's multimodal task. There is an experiment for each.",
        claims=(_best_rates(Nero=0.001, SGD=1e-4, Adam=1e-4, LAMB=0.01),),
    )  # fmt: skip


EXPERIMENTS = (
    Experiment(
        "nero-mlp100", PAPER, "figure 3, right", "an MLP of 100 layers on MNIST", TEST_ACCURACY,
        in_epochs(WITH_LAMB, EITHER, (50, 60_000, 250), 3, _deep(0.001, "epochwise")),
        Scale(WITH_LAMB, CORES, epochs(20, 60_000, 250), 2, _deep(0.003, "exponential"), 20,
              "a quarter of an hour"),
        {"Nero": _seeds(89.3, 91.0, 83.7), "LAMB": _seeds(67.2, 71.7, 71.6),
         "Adam": _seeds(11.35), "SGD": _seeds(11.35)}, "Adam",
        also=MEMORY,
        note="Adam and SGD had 11.35% at every learning rate that the authors tried. The learning "
        "rate decays by a tenth in each epoch; at size small in each fiftieth of a training. "
        "Size small is 128 wide, not 784, with Nero's learning rate at 0.003, not 0.001.",
    ),
    Experiment(
        "nero-ablation", PAPER, "figure 1", "the two halves of the constraint, VGG-11 on CIFAR-10",
        TEST_ACCURACY,
        in_epochs("CIFAR-10", GPU, CIFAR, 3, _constraints((0.01, 0.02, 0.04, 0.06, 0.08, 0.1))),
        Scale(SUBSET, CORES, 600, 1, _constraints((0.01, 0.04)), time="three minutes"),
        baseline="both", x="learning rate", also=MEMORY, note=f"{CURVES} {VGG}",
        claims=(_best_rates(both=0.02, mean=0.01, norm=0.02, none=0.02),),
    ),
    Experiment(
        "nero-imagenet", PAPER, "figure 4", "ResNet-50 on ImageNet, 90 epochs", TEST_ACCURACY,
        in_epochs("ImageNet (hub: gated; or the folder imagenet)", "four GPUs, through torchrun",
                  (90, 1_281_167, 1024), 3, lines("resnet50-imagenet", OUT_OF_THE_BOX, "cosine")),
        Scale("CIFAR-10, streamed as ImageNet is", CORES, 400, 1,
              lines("resnet50-cifar10", OUT_OF_THE_BOX, "cosine"), time="one minute"),
        baseline="SGD", also=MEMORY,
        note=f"{CURVES} Its batches are of 400, ours of 1024; its authors' script trains Nero at "
        "0.1, ours at the 0.01 that they recommend.",
    ),
    Experiment(
        "nero-gan", PAPER, "figure 5", "a class-conditional GAN on CIFAR-10", DISTANCE,
        Scale(f"CIFAR-10{FOR_LAMB}", GPU, 2 * epochs(121, 50_000, 256), 1,
              _grids("gan-cifar10", "late", None), 121),
        Scale(f"{SUBSET}{FOR_LAMB}", CORES, 400, 1,
              _grids("gan-cifar10", "late", ((1e-2,), (1e-4, 1e-3), (1e-2,), (1e-2,))),
              time="three minutes"),
        baseline="Adam", x="learning rate",
        also=MEMORY,
        note=f"{CURVES} They are Inception distances, which need a trained network; ours are of "
        "pixels and compare with nothing but each other.",
        claims=(_best_rates(Nero=0.01, SGD=0.01, Adam=1e-4, LAMB=0.01),),
    ),
    Experiment(
        "nero-cifar", PAPER, "figure 6", "VGG-11 and ResNet-18 on CIFAR-10", TEST_ACCURACY,
        in_epochs(f"CIFAR-10{FOR_LAMB}", GPU, CIFAR, 3, _cifar(None)),
        Scale(f"{SUBSET}{FOR_LAMB}", CORES, 600, 1, _cifar(FEW_RATES), time="five minutes"),
        baseline="Adam", x="learning rate", also=MEMORY, note=f"{CURVES} {VGG}",
        claims=(_best_rates("VGG-11", Nero=0.01, SGD=0.1, Adam=0.001, LAMB=0.01),
                _best_rates("ResNet-18", Nero=0.01, SGD=0.1, Adam=0.01, LAMB=0.1)),
    ),
    Experiment(
        "nero-wikitext2", PAPER, "figure 7", "a transformer on WikiText-2", VALID_PERPLEXITY,
        in_epochs(f"WikiText-2{FOR_LAMB}", GPU, (20, 6891, 20), 3,
                  _grids("transformer-wikitext2", "halfway", None)),
        Scale(f"WikiText-2, its test text{FOR_LAMB}", CORES, 900, 1,
              _grids("transformer-wikitext2", "halfway", ((1e-2,), (1e-3,), (1e-1, 1.0), (1e-2,))),
              time="one minute"),
        baseline="Adam", x="learning rate",
        also=MEMORY,
        note=f"{CURVES} The lab trains on WikiText-2's test text, whose perplexity compares with "
        "no published one, and on a network with layer norms, which the authors' has not.",
        claims=(_best_rates(Nero=0.01, SGD=1, Adam=1e-4, LAMB=0.01),),
    ),
    _translation("wmt16", "WMT16 de-en (hub, or the folder wmt16)"),
    _translation("multi30k", "Multi30k (hub, or the folder multi30k)"),
    Experiment(
        "nero-pong", PAPER, "figure 9", "PPO on Atari's Pong, 5 million moves", RETURN,
        Scale("pip install 'untuned[atari,compare]'", GPU, 5_000_000 // 1024 * 16, 1,
              _grids("ppo-pong", "linear", None)),
        Scale("pip install 'untuned[atari,compare]'", CORES, 32, 1,
              _grids("ppo-pong", "linear", ((1e-2,), (1e-4,), (1e-1,), (1e-3,))),
              time="three minutes"),
        baseline="Adam", x="learning rate",
        also=MEMORY,
        note=f"{CURVES} Size small plays 256 moves: it shows the code, not the effect.",
        claims=(_best_rates(Nero=0.01, SGD=0.1, Adam=1e-4, LAMB=0.001),),
    ),
)  # fmt: skip
