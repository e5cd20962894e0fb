"""Automatic gradient descent (arXiv:2304.05187).

The paper's text stands in its authors' repository, github.com/jxbz/agd, folder latex: the section
on experiments, and the captions of its figures, whose numbers these are. Figures go by what they
show, for their numbers are not in that text.
"""

from __future__ import annotations

from untuned.lab.reproduce.entry import (
    ACCURACY,
    LOSSES,
    Entry,
    Line,
    Published,
    Scale,
    epochs,
    grid,
)

PAPER = "arXiv:2304.05187"
TEXT = f"{PAPER}, text of the section Experiments"
CAPTION = f"{PAPER}, caption of the figure"
CIFAR = epochs(200, 50_000, 128)
GPU = "a GPU"
UNTIMED = "its time has not been measured"
CORES = "two cores"
SUBSET = "5,000 images of CIFAR-10"
PUBLISHED_RATES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
FEW_ADAM, FEW_SGD = (1e-4, 1e-3, 1e-2), (1e-2, 1e-1, 1.0)
ADAM, SGD = "adam(lr={lr})", "sgd(lr={lr})"


def cifar(seeds: int, lines: tuple[Line, ...], data: str = "CIFAR-10") -> Scale:
    """As published: 200 epochs in batches of 128, unless lines say otherwise."""
    return Scale(data, GPU, UNTIMED, CIFAR, seeds, lines)


def small(time: str, lines: tuple[Line, ...], seeds: int = 2, steps: int = 1000) -> Scale:
    """On few images."""
    return Scale(SUBSET, CORES, time, steps, seeds, lines)


def rivals(workload: str, full: bool, panel: str = "") -> tuple[Line, ...]:
    """AGD, and grids of Adam and SGD."""
    return (
        Line("AGD", "agd", workload, panel=panel),
        *grid("Adam", ADAM, PUBLISHED_RATES if full else FEW_ADAM, workload, panel=panel),
        *grid("SGD", SGD, PUBLISHED_RATES if full else FEW_SGD, workload, panel=panel),
    )


def defaults(workload: str) -> tuple[Line, ...]:
    """AGD, and Adam and SGD as the paper calls their defaults."""
    return (
        Line("AGD", "agd", workload),
        Line("Adam", "adam(lr=0.001)", workload),
        Line("SGD", "sgd(lr=0.1)", workload),
    )


def breadth(full: bool) -> tuple[Line, ...]:
    """Three networks, each under AGD and under a tuned Adam."""
    named = {
        "FCN": "fcn16x512-cifar10" if full else "fcn16x128-cifar10",
        "ResNet-18": "resnet18-cifar10-bare",
        "VGG-16": "vgg16-cifar100-bare" if full else "vgg16-cifar10-bare",
    }
    return tuple(line for panel, name in named.items()
                 for line in rivals(name, full, panel) if line.label != "SGD")  # fmt: skip


def shapes(depths: tuple[int, ...], widths: tuple[int, ...]) -> tuple[Line, ...]:
    """AGD on networks of every depth and width."""
    return tuple(
        Line(f"depth {depth}", "agd", f"fcn{depth}x{width}-cifar10", x=width)
        for depth in depths
        for width in widths
    )


def batches(sizes: tuple[int, ...], width: int, examples: int, count: int) -> tuple[Line, ...]:
    """AGD on four layers, for so many epochs in batches of every size."""
    return tuple(
        Line("AGD", "agd", f"fcn4x{width}-cifar10-b{size}", x=size,
             steps=epochs(count, examples, size))
        for size in sizes
    )  # fmt: skip


def vectors(full: bool) -> tuple[Line, ...]:
    """Networks with biases, gains and all."""
    named = {
        "FCN with biases": f"fcn8x{256 if full else 128}-cifar10-bias",
        "ResNet-18 with gains": "resnet18-cifar10",
    }
    rates = PUBLISHED_RATES if full else FEW_ADAM
    return tuple(
        line
        for panel, name in named.items()
        for line in (Line("AGD", "agd", name, panel=panel),
                     *grid("Adam", ADAM, rates, name, panel=panel))
    )  # fmt: skip


def gpt(workload: str) -> tuple[Line, ...]:
    """GPT-2 under AGD and under AdamW at its default."""
    return Line("AGD", "agd", workload), Line("AdamW", "adamw(lr=0.001)", workload)


def imagenet(workload: str) -> tuple[Line, ...]:
    """ResNet-50 under AGD and under SGD without decay."""
    return Line("AGD", "agd", workload), Line("SGD", "sgd(lr=0.1)", workload)


def one(value: float, where: str = TEXT) -> Published:
    """A number of which no spread is published."""
    return Published((value,), where)


POWERS = (64, 128, 256, 512, 1024, 2048)
ENTRIES = (
    Entry(
        "agd-showcase-fcn", PAPER, "showcase, left",
        "32 fully-connected layers, CIFAR-10, where Adam and SGD fail at their defaults", ACCURACY,
        cifar(3, defaults("fcn32x256-cifar10")),
        small("two minutes", defaults("fcn32x128-cifar10")), baseline="Adam",
        told="The paper shows curves, and says that Adam and SGD failed to train it. It does not "
        "give the width; 256 is the default of its authors' code.",
    ),
    Entry(
        "agd-showcase-resnet18", PAPER, "showcase, middle",
        "ResNet-18 on CIFAR-10 against grids of learning rates", ACCURACY,
        cifar(1, rivals("resnet18-cifar10-bare", full=True)),
        small("four minutes", rivals("resnet18-cifar10-bare", full=False)),
        {"AGD": one(91.2), "Adam": one(92.9)}, "Adam", "learning rate", view="grid",
    ),
    Entry(
        "agd-imagenet", PAPER, "showcase, right", "ResNet-50 on ImageNet, 350 epochs", ACCURACY,
        Scale("ImageNet (hub: gated; or the folder imagenet)", "eight GPUs, through torchrun",
              UNTIMED, epochs(350, 1_281_167, 1024), 1, imagenet("resnet50-imagenet-bare")),
        Scale("CIFAR-10, streamed as ImageNet is", CORES, "one minute", 400, 1,
              imagenet("resnet50-cifar10-bare")),
        {"AGD": one(65.5)}, "SGD",
        told="Size small is a ResNet of one block a stage on another data set: it shows the code, "
        "not the effect.",
    ),
    Entry(
        "agd-breadth", PAPER, "breadth",
        "a fully-connected network of depth 16 and width 512, ResNet-18 and VGG-16", ACCURACY,
        cifar(1, breadth(full=True), "CIFAR-10 and CIFAR-100"),
        small("four minutes", breadth(full=False), seeds=1),
        {"FCN, AGD": one(52.7), "FCN, Adam": one(53.5), "ResNet-18, AGD": one(91.2),
         "ResNet-18, Adam": one(92.9), "VGG-16, AGD": one(67.4), "VGG-16, Adam": one(69.7)},
        "Adam", "learning rate",
        told="At size small VGG-16 learns CIFAR-10, for CIFAR-100 is not among the offline data.",
    ),
    Entry(
        "agd-fcn8", PAPER, "against tuned Adam and SGD",
        "eight fully-connected layers of width 256 against grids of learning rates", ACCURACY,
        cifar(1, rivals("fcn8x256-cifar10", full=True)),
        small("two minutes", rivals("fcn8x128-cifar10", full=False)), {}, "Adam", "learning rate",
        view="grid",
        told="The paper shows curves; it says that Adam's best learning rate was 0.0001 and SGD's "
        "0.1, and that SGD's objective stayed above Adam's and AGD's.",
    ),
    Entry(
        "agd-shapes", PAPER, "width and depth", "depths from 2 to 32, widths from 64 to 2048",
        ACCURACY,
        cifar(1, shapes((2, 4, 8, 16, 32), POWERS)),
        small("two minutes", shapes((2, 8, 32), (64, 256)), seeds=1),
        {"depth 4 at 2048": one(63.7, CAPTION),
         "depth 2 at 64": one(42.55, CAPTION)},
        x="width", each=True, view="grid",
    ),
    Entry(
        "agd-batches", PAPER, "mini-batch size", "four layers, batches from 32 to 4096", ACCURACY,
        cifar(1, batches((32, 128, 512, 1024, 4096), 256, 50_000, 200)),
        small("two minutes", batches((32, 128, 512, 1024), 128, 5000, 30), seeds=2),
        {"AGD at 32": one(55.0, CAPTION),
         "AGD at 4096": one(59.8, CAPTION)},
        x="batch", each=True, view="grid",
        told="The caption gives two more, 58.0% and 60.0%, without saying for which sizes.",
    ),
    Entry(
        "agd-vectors", PAPER, "extension", "biases, and gains of norms", ACCURACY,
        cifar(1, vectors(full=True)), small("three minutes", vectors(full=False), seeds=1), {},
        "Adam", "learning rate",
        told="An experiment of the authors' code; the paper has no figure of it.",
    ),
    Entry(
        "agd-gpt2", PAPER, "extension", "GPT-2 on text", LOSSES,
        Scale("OpenWebText (hub, or the folder openwebtext)", "eight GPUs, through torchrun",
              UNTIMED, 10_000, 1, gpt("gpt2-openwebtext")),
        Scale("Tiny Shakespeare", CORES, "one minute", 1200, 2, gpt("gpt-shakespeare")),
        baseline="AdamW", told="An experiment of the authors' code; the paper has no figure of it.",
    ),
)  # fmt: skip
