"""Towers of hyperoptimizers (arXiv:1909.13371).

The numbers of the paper's tables were not at hand: every experiment compares with its plain
optimizer, and tests what the paper says in words. Ours, beside what was published: a floor moves
the logarithm of the one below, and its rate has no unit: 100 for SGD, with which an expected gain
of 0.01 of loss doubles the step.
"""

from typing import NamedTuple

from untuned.lab.reproduce.claims import cost_of_a_floor, less_sensitive, outperforms
from untuned.lab.reproduce.experiment import (
    TEST_ERROR,
    TIME,
    VALID_LOSS,
    Experiment,
    Line,
    Optimizers,
    Scale,
    epochs,
    in_epochs,
    lines,
)
from untuned.lab.reproduce.settings import CIFAR, CORES, EITHER, GPU, SUBSET, WITH_AUTO

PAPER = "arXiv:1909.13371"
MNIST = "tanh-mnist"
TABLES = "The numbers of the paper's tables were not at hand."
AUTHORS = (
    "At size full pixels are in [0, 1] and the logits pass a tanh, as in the authors' code. At "
    "size small pixels have mean zero and variance one, and logits are plain."
)
DECADES = tuple(10.0**power for power in range(-6, 1))
FEW = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
TUNED, OURS_ABOVE = "hyperoptimised", "under Adam(0.05), ours"
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


class TunedRule(NamedTuple):
    """A row of the paper's tables."""

    rate: float  # its first step size
    above: float  # that of each SGD above it, as in the authors' code
    learned: str  # where the tower of two ends: the mean rate over seeds, two digits

    @property
    def floor(self) -> str:
        """An SGD above it."""
        return f"sgd(lr={self.above:g})"


RULES = {
    "sgd": TunedRule(1e-2, 1e-2, "sgd(lr=0.07)"),
    "adagrad": TunedRule(1e-2, 1e-3, "adagrad(lr=0.025)"),
    "rmsprop": TunedRule(1e-3, 1e-4, "rmsprop(lr=0.00012)"),
    "adam": TunedRule(1e-3, 1e-4, "adam(lr=0.00039)"),
}


def _tower(height: int, alpha: float, published: bool) -> str:
    """SGD on SGD on SGD: as published each step size a tenth of the one below; ours all 100."""
    above = [alpha / 10**k if published else 100.0 for k in range(1, height)]
    text = " / ".join(f"sgd(lr={lr:g})" for lr in (alpha, *above))
    return f"({text}).as_published()" if published and height > 1 else text


def _heights(first: tuple[float, ...], highest: int) -> tuple[Line, ...]:
    """Towers of one floor and more, and Auto beside them."""
    towers = (
        Line(f"height {height}", _tower(height, x, panel == PUBLISHED), MNIST, x=x, panel=panel)
        for panel in (PUBLISHED, OURS)
        for height in range(1, highest + 1)
        for x in first
    )
    return (*towers, *(Line("Auto", "auto", MNIST, panel=panel) for panel in (PUBLISHED, OURS)))


def _height_of(line: Line) -> int:
    """As its label says; 0 for Auto."""
    return int(line.label.removeprefix("height ")) if line.label.startswith("height ") else 0


def _grids(
    texts: dict[str, str], first: tuple[float, ...], workload: str, panel: str = ""
) -> tuple[Line, ...]:
    """Optimizers over several initial learning rates {lr}, and Auto."""
    grids: Optimizers = {label: (text, first) for label, text in texts.items()}
    return lines(workload, {**grids, **WITH_AUTO}, panel=panel)


def _against_plain(first: tuple[float, ...]) -> tuple[Line, ...]:
    """Each rule alone, under SGD as published, and under Adam on our charts."""
    found: list[Line] = []
    for name, rule in RULES.items():
        texts = {
            "plain": f"{name}(lr={{lr}})",
            "under SGD, as published": f"({name}(lr={{lr}}) / {rule.floor}).as_published()",
            OURS_ABOVE: f"{name}(lr={{lr}}) / adam(lr=0.05)",
        }
        found += _grids(texts, first, MNIST, panel=name)
    return tuple(found)


def _tables() -> tuple[Line, ...]:
    """The rows of the paper's tables, with ours."""
    found: list[Line] = []
    for name, rule in RULES.items():
        plain, above = f"{name}(lr={rule.rate:g})", rule.floor
        texts = {
            "plain": plain,
            TUNED: f"({plain} / {above}).as_published()",
            "hyperoptimised twice": f"({plain} / {above} / {above}).as_published()",
            "plain, with what the tower learned": rule.learned,
            OURS_ABOVE: f"{plain} / adam(lr=0.05)",
        }
        found += lines(MNIST, texts | WITH_AUTO, panel=name)
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
        in_epochs("MNIST", EITHER, (30, 60_000, 256), seeds, figure),
        Scale("MNIST", CORES, epochs(3, 60_000, 256), seeds, few, 3, time),
    )


EXPERIMENTS = (
    Experiment(
        "towers-rules", PAPER, "tables of MNIST", "each rule, plain and hyperoptimised",
        TEST_ERROR,
        *_on_mnist(_tables(), _against_plain((1e-4, 1e-2, 1.0)), "five minutes"),
        baseline="plain", x="first step size", view="grid",
        note=f"{TABLES} One hidden layer of 128 tanh units, batches of 256. {AUTHORS}",
        claims=(outperforms("hyperoptimised rules outperform plain ones by a significant margin",
                            TUNED, "plain"),),
    ),
    Experiment(
        "towers-heights", PAPER, "towers of growing height, MNIST", "SGDs on SGDs",
        TEST_ERROR,
        *_on_mnist(_heights(DECADES, 10), _heights(FEW, 5), "eight minutes"),
        baseline="height 1", x="first step size", view="grid", note=AUTHORS,
        claims=(less_sensitive("the taller a tower, the less it cares where it starts",
                               _height_of),),
    ),
    Experiment(
        "towers-time", PAPER, "time by height", "the time of a step, MNIST", TIME,
        # of a length that no other experiment has: its trials are for the time alone
        in_epochs("MNIST", EITHER, (5, 60_000, 256), 3, _levels(10)),
        _on_mnist((), _levels(6), "half a minute")[1], x="height", each=True, view="grid",
        note="Run it with --jobs 1 on a machine that does nothing else; five epochs tell the time. "
        f"{AUTHORS}",
        claims=(cost_of_a_floor("each floor adds 1 to 2% of time, linear in the height", "SGD"),),
    ),
    Experiment(
        "towers-floors", PAPER, "every floor over time", "Adam() / Adam(0.05) / SGD(1)", TEST_ERROR,
        *_on_mnist(FLOORS, FLOORS, "ten seconds", seeds=1), view="floors",
        note=f"Not a figure of the paper's: what its towers do, floor by floor. {AUTHORS}",
    ),
    Experiment(
        "towers-resnet20", PAPER, "ResNet-20",
        "ResNet-20 on CIFAR-10, step size and momentum tuned", TEST_ERROR,
        in_epochs("CIFAR-10", GPU, CIFAR, 1,
                  _grids(MOMENTUM, (0.01, 0.1, 1.0), "resnet20-cifar10")),
        Scale(SUBSET, CORES, 900, 1, _grids(MOMENTUM, (0.01, 1.0), "resnet20-cifar10"),
              time="two minutes"),
        baseline="plain", x="first step size", view="grid", note=TABLES,
        claims=(outperforms("tuning the step size helps", "step size tuned", "plain"),),
    ),
    Experiment(
        "towers-lstm", PAPER, "character LSTM", "a character LSTM on War and Peace", VALID_LOSS,
        Scale("War and Peace", EITHER, 20_000, 1,
              _grids(NOVEL, (1e-4, 1e-3, 1e-2), "lstm-warandpeace")),
        Scale("War and Peace", CORES, 1200, 1,
              _grids(NOVEL, (1e-4, 1e-2), "lstm-warandpeace"), time="two minutes"),
        baseline="Adam", x="first step size", view="grid", note=TABLES,
        claims=(outperforms("a tower outperforms Adam", "Adam under SGD, as published", "Adam"),),
    ),
)  # fmt: skip
