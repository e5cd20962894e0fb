"""Automatic gradient descent (arXiv:2304.05187).

The paper's text is in its authors' repository, github.com/jxbz/agd, folder latex: the section
on experiments, and the captions of its figures, whose numbers these are. Figures go by what they
show, for their numbers are not in that text.
"""

import itertools

from untuned.lab.reproduce.claims import best_at, outperforms
from untuned.lab.reproduce.experiment import (
    TEST_ACCURACY,
    VALID_LOSS,
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
    ADAM,
    CIFAR,
    CORES,
    DEEP_AUTO,
    EITHER,
    FEW_ADAM,
    FEW_SGD,
    GPU,
    SGD,
    SUBSET,
    WITH_AUTO,
)

PAPER = "arXiv:2304.05187"
TEXT = f"{PAPER}, text of the section Experiments"
CAPTION = f"{PAPER}, caption of the figure"
PUBLISHED_RATES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
STILL, GREY = "images as they are", "grey edges"
TREATED = {STILL: "unaugmented", GREY: "grey"}  # keys of `vision.TREATMENTS`
WHY_TREATED = (
    "Random crops have black edges, as in the authors' code. The paper speaks of 100% training "
    "accuracy (caption of the figure of widths and depths), which such images hardly allow: some "
    "networks also train on images as they are, or with edges of the mean colour."
)
DEFAULTS = {"AGD": "agd", "Adam": "adam(lr=0.001)", "SGD": "sgd(lr=0.1)", **DEEP_AUTO}
WITH_SGD = {"AGD": "agd", "SGD": "sgd(lr=0.1)"} | WITH_AUTO
SMALL_BREADTH = ("fcn16x128-cifar10", "vgg16-cifar10-bare")
ADAMW = {"AGD": "agd", "AdamW": "adamw(lr=0.001)"} | WITH_AUTO


def _cifar(
    seeds: int, cases: tuple[Line, ...], data: str = "CIFAR-10", device: str = EITHER
) -> Scale:
    """As published: 200 epochs in batches of 128, unless lines say otherwise."""
    return in_epochs(data, device, CIFAR, seeds, cases)


def _small(time: str, cases: tuple[Line, ...], seeds: int = 2, steps: int = 1000) -> Scale:
    return Scale(SUBSET, CORES, steps, seeds, cases, time=time)


def _grids(workload: str, full: bool) -> tuple[Line, ...]:
    adam, sgd = (PUBLISHED_RATES, PUBLISHED_RATES) if full else (FEW_ADAM, FEW_SGD)
    optimizers: Optimizers = {"AGD": "agd", "Adam": (ADAM, adam), "SGD": (SGD, sgd), **WITH_AUTO}
    return lines(workload, optimizers)


def _panels(workloads: dict[str, str], full: bool) -> tuple[Line, ...]:
    """AGD and a tuned Adam, a panel for each workload."""
    rates = PUBLISHED_RATES if full else FEW_ADAM
    optimizers: Optimizers = {"AGD": "agd", "Adam": (ADAM, rates), **WITH_AUTO}
    each = (lines(name, optimizers, panel=panel) for panel, name in workloads.items())
    return tuple(itertools.chain.from_iterable(each))


def _treated(cases: tuple[Line, ...]) -> tuple[Line, ...]:
    """AGD's cases with other images, a panel for each treatment."""
    return tuple(
        line._replace(workload=f"{line.workload}-{treatment}", panel=panel)
        for panel, treatment in TREATED.items()
        for line in cases
        if line.optimizer == "agd"
    )


def _breadth(full: bool) -> tuple[Line, ...]:
    fcn, vgg = ("fcn16x512-cifar10", "vgg16-cifar100-bare") if full else SMALL_BREADTH
    still = {f"FCN, {STILL}": f"{fcn}-{TREATED[STILL]}"} if full else {}
    panels = {"FCN": fcn, **still, "ResNet-18": "resnet18-cifar10-bare", "VGG-16": vgg}
    return tuple(line._replace(seeds=3) if full and line.row == "FCN, AGD" else line
                 for line in _panels(panels, full))  # fmt: skip


def _vectors(full: bool) -> tuple[Line, ...]:
    fcn = f"fcn8x{256 if full else 128}-cifar10-bias"
    return _panels({"FCN with biases": fcn, "ResNet-18 with gains": "resnet18-cifar10"}, full)


def _shapes(
    depths: tuple[int, ...], widths: tuple[int, ...], panels: dict[str, str]
) -> tuple[Line, ...]:
    """A grid of networks for each panel, whose optimizer is given."""
    return tuple(
        Line(f"depth {depth}", optimizer, f"fcn{depth}x{width}-cifar10", x=width, panel=panel)
        for panel, optimizer in panels.items()
        for depth in depths
        for width in widths
    )


def _batches(sizes: tuple[int, ...], width: int, examples: int, count: int) -> tuple[Line, ...]:
    """`count` epochs of four layers, at each batch size."""
    name = f"fcn4x{width}-cifar10"
    return tuple(
        Line(label, optimizer, name if size == CIFAR[2] else f"{name}-b{size}", x=size,
             steps=epochs(count, examples, size))
        for label, optimizer in ({"AGD": "agd"} | WITH_AUTO).items()
        for size in sizes
    )  # fmt: skip


def _one(value: float, where: str = TEXT) -> Published:
    """A number without a published spread."""
    return Published((value,), where)


POWERS = (64, 128, 256, 512, 1024, 2048)
EXPERIMENTS = (
    Experiment(
        "agd-showcase-fcn", PAPER, "showcase, left",
        "32 fully-connected layers, CIFAR-10, where Adam and SGD fail at their defaults",
        TEST_ACCURACY,
        _cifar(3, lines("fcn32x256-cifar10", DEFAULTS)),
        _small("two minutes", lines("fcn32x128-cifar10", DEFAULTS)), baseline="Adam",
        note="The paper shows curves. It does not give the width; 256 is the default of its "
        "authors' code.",
        claims=(outperforms("AGD trains it, Adam fails", "AGD", "Adam"),
                outperforms("AGD trains it, SGD fails", "AGD", "SGD")),
    ),
    Experiment(
        "agd-showcase-resnet18", PAPER, "showcase, middle",
        "ResNet-18 on CIFAR-10 against grids of learning rates", TEST_ACCURACY,
        _cifar(1, _grids("resnet18-cifar10-bare", full=True), device=GPU),
        _small("four minutes", _grids("resnet18-cifar10-bare", full=False)),
        {"AGD": _one(91.2), "Adam": _one(92.9)}, "Adam", "learning rate", view="grid",
    ),
    Experiment(
        "agd-imagenet", PAPER, "showcase, right", "ResNet-50 on ImageNet, 350 epochs",
        TEST_ACCURACY,
        in_epochs("ImageNet (hub: gated; or the folder imagenet)", "eight GPUs, through torchrun",
                  (350, 1_281_167, 1024), 1, lines("resnet50-imagenet-bare", WITH_SGD)),
        Scale("CIFAR-10, streamed as ImageNet is", CORES, 400, 1,
              lines("resnet50-cifar10-bare", WITH_SGD), time="one minute"),
        {"AGD": _one(65.5)}, "SGD",
        note="Size small is a ResNet of one block a stage on another data set: it shows the code, "
        "not the effect.",
    ),
    Experiment(
        "agd-breadth", PAPER, "breadth",
        "a fully-connected network of depth 16 and width 512, ResNet-18 and VGG-16", TEST_ACCURACY,
        _cifar(1, _breadth(full=True), "CIFAR-10 (VGG-16: CIFAR-100)", "a GPU (FCN: two cores)"),
        _small("four minutes", _breadth(full=False), seeds=1),
        {"FCN, AGD": _one(52.7), "FCN, Adam": _one(53.5), "ResNet-18, AGD": _one(91.2),
         "ResNet-18, Adam": _one(92.9), "VGG-16, AGD": _one(67.4), "VGG-16, Adam": _one(69.7),
         f"FCN, {STILL}, AGD": _one(52.7), f"FCN, {STILL}, Adam": _one(53.5)},
        "Adam", "learning rate",
        note="At size small VGG-16 learns CIFAR-10, for CIFAR-100 is not among the offline data. "
        f"{WHY_TREATED}",
    ),
    Experiment(
        "agd-fcn8", PAPER, "against tuned Adam and SGD",
        "eight fully-connected layers of width 256 against grids of learning rates", TEST_ACCURACY,
        _cifar(1, _grids("fcn8x256-cifar10", full=True)),
        _small("two minutes", _grids("fcn8x128-cifar10", full=False)), {}, "Adam",
        "learning rate", view="grid",
        note="The paper shows curves; it also says that SGD's objective stayed above Adam's and "
        "AGD's.",
        claims=(best_at("Adam's best learning rate was 0.0001, SGD's 0.1",
                        {"Adam": 1e-4, "SGD": 0.1}),),
    ),
    Experiment(
        "agd-shapes", PAPER, "width and depth", "depths from 2 to 32, widths from 64 to 2048",
        TEST_ACCURACY,
        _cifar(1, (*_shapes((2, 4, 8, 16, 32), POWERS, {"": "agd"}),
                   *_treated(_shapes((2,), (64,), {"": "agd"})),
                   *_treated(_shapes((16,), (512,), {"": "agd"})))),
        _small("two minutes", _shapes((2, 8, 32), (64, 256), {"": "agd"} | WITH_AUTO), seeds=1),
        {"depth 4 at 2048": _one(63.7, CAPTION),
         "depth 2 at 64": _one(42.55, CAPTION),
         f"{STILL}, depth 2 at 64": _one(42.55, CAPTION),
         f"{GREY}, depth 2 at 64": _one(42.55, CAPTION)},
        x="width", each=True, view="grid", note=WHY_TREATED,
    ),
    Experiment(
        "agd-batches", PAPER, "mini-batch size", "four layers, batches from 32 to 4096",
        TEST_ACCURACY,
        _cifar(1, (*_batches((32, 128, 512, 1024, 4096), 256, 50_000, 200),
                   *_treated(_batches((4096,), 256, 50_000, 200)))),
        _small("two minutes", _batches((32, 128, 512, 1024), 128, 5000, 30), seeds=2),
        {"AGD at 32": _one(55.0, CAPTION),
         "AGD at 4096": _one(59.8, CAPTION),
         f"{STILL}, AGD at 4096": _one(59.8, CAPTION),
         f"{GREY}, AGD at 4096": _one(59.8, CAPTION)},
        x="batch", each=True, view="grid",
        note="The caption gives two more, 58.0% and 60.0%, without saying for which sizes. "
        f"{WHY_TREATED}",
    ),
    Experiment(
        "agd-vectors", PAPER, "extension", "biases, and gains of norms", TEST_ACCURACY,
        _cifar(1, _vectors(full=True), device=GPU),
        _small("three minutes", _vectors(full=False), seeds=1), {}, "Adam", "learning rate",
        note="An experiment of the authors' code; the paper has no figure of it.",
    ),
    Experiment(
        "agd-gpt2", PAPER, "extension", "GPT-2 on text", VALID_LOSS,
        Scale("OpenWebText (hub, or the folder openwebtext)", "eight GPUs, through torchrun",
              10_000, 1, lines("gpt2-openwebtext", ADAMW)),
        Scale("Tiny Shakespeare", CORES, 1200, 2, lines("gpt-shakespeare", ADAMW),
              time="one minute"),
        baseline="AdamW", note="An experiment of the authors' code; the paper has no figure of it.",
    ),
)  # fmt: skip
