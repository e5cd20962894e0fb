"""Towers of hyperoptimizers (arXiv:1909.13371).

The numbers of the paper's tables were not at hand: every experiment compares with its plain
optimizer. Ours, beside what was published: a floor moves the logarithm of the one below, and its
rate has no unit: 100 for SGD, with which an expected gain of 0.01 of loss doubles the step.
"""

from untuned.lab.reproduce.agd import CORES, GPU, UNTIMED
from untuned.lab.reproduce.experiment import (
    TEST_ERROR,
    TIME,
    VALID_LOSS,
    Experiment,
    Line,
    Scale,
    epochs,
    lines,
)

PAPER = "arXiv:1909.13371"
MNIST = "tanh-mnist"
TABLES = "The numbers of the paper's tables were not at hand."
HALVES = tuple(10 ** (power / 2) for power in range(-8, 3))  # 1e-4 to 10
WHOLE = tuple(10.0**power for power in range(-5, 1))
FEW = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
PUBLISHED, OURS = "as published", "exponential charts, trust ratio 2"
MOMENTUM = {
    "plain": "sgd(lr={lr}, momentum=0.9)",
    "step size tuned": "sgd(lr={lr}, momentum=0.9).tuning('lr') / adam(lr=0.05)",
    "step size and momentum tuned": "sgd(lr={lr}, momentum=0.9) / adam(lr=0.05)",
}
NOVEL = {
    "Adam": "adam(lr={lr})",
    "Adam under SGD, as published": "(adam(lr={lr}) / sgd(lr=0.0001)).as_published()",
    "Adam under Adam(0.05), ours": "adam(lr={lr}) / adam(lr=0.05)",
}
# Each rule, and the step size of the SGD above it in the reference's recorded trajectories
RULES = {"sgd": 1e-2, "adagrad": 1e-3, "rmsprop": 1e-4, "adam": 1e-4}


def _tower(height: int, alpha: float, published: bool) -> str:
    """SGD on SGD on SGD: as published each step size a tenth of the one below; ours all 100."""
    above = [alpha / 10**k if published else 100.0 for k in range(1, height)]
    text = " / ".join(f"sgd(lr={lr:g})" for lr in (alpha, *above))
    return f"({text}).as_published()" if published else text


def _heights(first: tuple[float, ...]) -> tuple[Line, ...]:
    """Towers of one to five floors."""
    return tuple(
        Line(f"height {height}", _tower(height, x, panel == PUBLISHED), MNIST, x=x, panel=panel)
        for panel in (PUBLISHED, OURS)
        for height in range(1, 6)
        for x in first
    )


def _grids(
    texts: dict[str, str], first: tuple[float, ...], workload: str, panel: str = ""
) -> tuple[Line, ...]:
    """Optimizers over several initial learning rates {lr}."""
    return lines(workload, {label: (text, first) for label, text in texts.items()}, panel=panel)


def _against_plain(first: tuple[float, ...]) -> tuple[Line, ...]:
    """Each rule alone, under SGD as published, and under Adam on our charts."""
    found: list[Line] = []
    for name, alpha in RULES.items():
        texts = {
            "plain": f"{name}(lr={{lr}})",
            "under SGD, as published": f"({name}(lr={{lr}}) / sgd(lr={alpha:g})).as_published()",
            "under Adam(0.05), ours": f"{name}(lr={{lr}}) / adam(lr=0.05)",
        }
        found += _grids(texts, first, MNIST, panel=name)
    return tuple(found)


def _levels(highest: int) -> tuple[Line, ...]:
    """Towers as published, from SGD alone."""
    return tuple(
        Line("SGD", _tower(height, 1e-2, published=True), MNIST, x=height)
        for height in range(1, highest + 1)
    )


FLOORS = (Line("Adam() / Adam(0.05) / SGD(1)", "adam / adam(lr=0.05) / sgd(lr=1.0)", MNIST),)


def _on_mnist(
    figure: tuple[Line, ...], few: tuple[Line, ...], time: str, seeds: int = 3
) -> tuple[Scale, Scale]:
    """30 epochs, or three."""
    return (
        Scale("MNIST", "two cores or a GPU", UNTIMED, epochs(30, 60_000, 256), seeds, figure),
        Scale("MNIST", CORES, time, epochs(3, 60_000, 256), seeds, few),
    )


EXPERIMENTS = (
    Experiment(
        "towers-rules", PAPER, "tables of MNIST", "MNIST: each rule, plain and under another",
        TEST_ERROR,
        *_on_mnist(_against_plain(WHOLE), _against_plain((1e-4, 1e-2, 1.0)), "five minutes"),
        baseline="plain", x="first step size", view="grid",
        note=f"{TABLES} One hidden layer of 128 tanh units, batches of 256.",
    ),
    Experiment(
        "towers-heights", PAPER, "towers of growing height", "MNIST: towers of one to five SGDs",
        TEST_ERROR,
        *_on_mnist(_heights(HALVES), _heights(FEW), "eight minutes"),
        baseline="height 1", x="first step size", view="grid",
        note="The paper says that higher towers care less about where they start: look at the "
        "means over the grid.",
    ),
    Experiment(
        "towers-time", PAPER, "time by height", "MNIST: the time of a step by height", TIME,
        *_on_mnist(_levels(10), _levels(6), "half a minute"), x="height", each=True, view="grid",
        note=f"{TABLES} Run it with --jobs 1 on a machine that does nothing else. Every floor "
        "takes the same time where the line is straight.",
    ),
    Experiment(
        "towers-floors", PAPER, "every floor over time", "Adam() / Adam(0.05) / SGD(1)", TEST_ERROR,
        *_on_mnist(FLOORS, FLOORS, "ten seconds", seeds=1), view="floors",
        note="Not a figure of the paper's: what its towers do, floor by floor.",
    ),
    Experiment(
        "towers-resnet20", PAPER, "ResNet-20",
        "ResNet-20 on CIFAR-10, step size and momentum tuned", TEST_ERROR,
        Scale("CIFAR-10", GPU, UNTIMED, epochs(200, 50_000, 128), 1,
              _grids(MOMENTUM, (0.01, 0.1, 1.0), "resnet20-cifar10")),
        Scale("5,000 images of CIFAR-10", CORES, "two minutes", 900, 1,
              _grids(MOMENTUM, (0.01, 1.0), "resnet20-cifar10")),
        baseline="plain", x="first step size", view="grid", note=TABLES,
    ),
    Experiment(
        "towers-lstm", PAPER, "character LSTM", "a character LSTM on War and Peace", VALID_LOSS,
        Scale("War and Peace", GPU, UNTIMED, 20_000, 1,
              _grids(NOVEL, (1e-4, 1e-3, 1e-2), "lstm-warandpeace")),
        Scale("War and Peace", CORES, "two minutes", 1200, 1,
              _grids(NOVEL, (1e-4, 1e-2), "lstm-warandpeace")),
        baseline="Adam", x="first step size", view="grid", note=TABLES,
    ),
)  # fmt: skip
