"""The pictures of the idea pages, each made by the library itself.

python website/pictures.py         # all of them, into docs/ideas: a minute on one core
python website/pictures.py agd     # only this one
"""

import copy
import itertools
import math
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from sklearn.datasets import load_digits, load_iris
from torch import nn

import untuned
from untuned.rules import SGD, Adam

STEPS = 300  # of the trainings that are drawn
FOLDER = Path(__file__).parents[1] / "docs" / "ideas"
INK, FAINT = "#010203", "#040506"  # stand for colours that follow the page's scheme
RED, BLUE, GREY = "#d0433a", "#3f85c6", "#8c8c8c"
STYLE = {
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlepad": 12,
    "axes.titlesize": 12,
    "font.family": "sans-serif",
    "font.size": 12,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 2,
    "path.simplify_threshold": 0.5,
    "svg.fonttype": "none",  # the reader's own font
    "svg.hashsalt": "untuned",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}
SCHEMES = """<style>
  svg { --ink: #444444; --faint: #c4c2bc; font-family: system-ui, sans-serif; }
  text { font-family: inherit !important; }
  @media (prefers-color-scheme: dark) { svg { --ink: #c9c6bf; --faint: #55534d; } }
</style>
"""


def save(figure, name):
    """An SVG whose ink is dark on light pages and light on dark ones."""
    path = FOLDER / f"{name}.svg"
    figure.savefig(path, transparent=True, metadata={"Date": None, "Creator": None})
    text = path.read_text().replace(INK, "var(--ink)").replace(FAINT, "var(--faint)")
    head, body = text.split("<defs>", 1)
    lines = (head + SCHEMES + "<defs>" + body).splitlines()
    path.write_text("\n".join(line.rstrip() for line in lines) + "\n")


def panels(widths=(1, 1)):
    figure = Figure(figsize=(9.6, 3.9), layout="constrained")
    figure.get_layout_engine().set(wspace=0.12)
    return figure, figure.subplots(1, len(widths), width_ratios=widths)


def chain(depth, width=64):
    """The networks that the bound is about: ReLU layers, neither biases nor norms, initialised."""
    widths = [64] + [width] * (depth - 1) + [10]
    layers = [nn.Linear(i, o, bias=False) for i, o in itertools.pairwise(widths)]
    model = nn.Sequential(*[part for layer in layers for part in (layer, nn.ReLU())][:-1])
    untuned.initialise_(model)
    return model


def digits():
    """Images of norm sqrt(64), as the theory wants inputs, and one-hot labels of norm sqrt(10)."""
    images, labels = map(torch.as_tensor, load_digits(return_X_y=True))
    images = F.normalize(images.float()) * math.sqrt(64)
    return images, labels, F.one_hot(labels) * math.sqrt(10)


def square_loss(model, images, targets):
    return (model(images) - targets).square().mean() / 2


def trained(depth, steps=200):
    """A chain after some steps of AGD on all digits, with the gradients of one more."""
    images, _, targets = digits()
    torch.manual_seed(0)
    model = chain(depth)
    opt = untuned.AGD(model)
    for _ in range(steps):
        opt.zero_grad()
        square_loss(model, images, targets).backward()
        opt.step()
    opt.zero_grad()
    square_loss(model, images, targets).backward()
    return model


@torch.no_grad()
def along(model, etas):
    """For steps of these sizes in AGD's direction: the losses, and how far the outputs move.

    That is the root of the mean square of their norms, in units of sqrt(10). With them AGD's eta.
    """
    images, _, targets = digits()
    start = [weight.clone() for weight in model.parameters()]
    before = model(images)
    opt = untuned.AGD(model)
    opt.step()
    automatic = float(opt.param_groups[0]["effective_lr"])
    end = [weight.clone() for weight in model.parameters()]
    losses, changes = [], []
    for eta in etas:
        for weight, old, new in zip(model.parameters(), start, end, strict=True):
            weight.copy_(old + (new - old) * (eta / automatic))
        changes.append((model(images) - before).square().mean().sqrt().item())
        losses.append(square_loss(model, images, targets).item())
    return losses, changes, automatic


@torch.no_grad()
def grown(depth, etas):
    """How far the outputs move where every matrix of a chain without ReLUs grows by eta / L."""
    torch.manual_seed(0)
    layers = [layer for layer in chain(depth) if isinstance(layer, nn.Linear)][:-1]
    model, (images, *_) = nn.Sequential(*layers), digits()
    before = model(images)
    found = []
    for eta in etas:
        larger = nn.Sequential(*copy.deepcopy(layers))
        for weight in larger.parameters():
            weight.mul_(1 + eta / len(layers))
        found.append((larger(images) - before).square().mean().sqrt().item())
    return found


def agd():
    """What the bound promises and what happens; the loss and what majorises it."""
    far, near = np.geomspace(1e-2, 2, 30), np.linspace(0, 0.5, 40)
    models = {depth: trained(depth) for depth in (2, 8)}
    with mpl.rc_context(STYLE):
        figure, (left, right) = panels()
        left.plot(far, np.expm1(far), color=GREY, linewidth=5, label="the bound")
        left.plot(far, grown(33, far), color=INK, linewidth=1, label="ΔW = (η/L) W, no ReLUs")
        for (depth, model), color in zip(models.items(), ("#e39a4b", RED), strict=True):
            label = f"AGD's direction, {depth} layers"
            left.plot(far, along(model, far)[1], color=color, label=label)
        left.set(title="How far the outputs move", xlabel="η", xscale="log", yscale="log")
        left.minorticks_off()
        left.set_ylim(bottom=1e-5)
        left.legend(loc="lower right", fontsize=11)
        losses, _, automatic = along(models[8], near)
        G = ((2 * math.exp(automatic) - 1) ** 2 - 1) / 4
        majorant = losses[0] - G * near + np.expm1(near) ** 2 / 2
        right.plot(near, majorant, color=GREY, label="the majorant")
        right.plot(near, losses, color=RED, label="the loss, 8 layers")
        right.axvline(automatic, color=FAINT, linewidth=1.2, zorder=0)
        right.annotate(
            f"AGD goes to η = {automatic:.3f}",
            (automatic, 0.06),
            xycoords=("data", "axes fraction"),
            xytext=(6, 0),
            textcoords="offset points",
        )
        right.set(title="The loss along AGD's direction", xlabel="η")
        right.set_ylim(top=losses[0] + 0.03)
        right.legend(loc="upper right")
        save(figure, "agd")


def nero():
    """Neurons of four weights live on a sphere: where each went, and how far a step turned it."""
    features, labels = load_iris(return_X_y=True)
    features = torch.tensor((features - features.mean(0)) / features.std(0)).float()
    labels = torch.as_tensor(labels)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    opt = untuned.Nero(model)
    path = [model[0].weight.detach().clone()]
    for _ in range(400):
        opt.zero_grad()
        F.cross_entropy(model(features), labels).backward()
        opt.step()
        path.append(model[0].weight.detach().clone())
    path = torch.stack(path)  # (steps, neurons, 4)
    angles = 2 * torch.asin((path[1:] - path[:-1]).norm(dim=-1) / 2)
    plane = torch.tensor([[1, -1, 0, 0], [1, 1, -2, 0], [1, 1, 1, -3]]).float()
    tracks = (path @ F.normalize(plane).T).numpy()  # weights of zero mean, in three dimensions
    colors = [RED, BLUE, "#3a9c6b", "#c08a1e", "#8d6bbf", GREY]
    with mpl.rc_context(STYLE):
        figure, (left, right) = panels((0.8, 1))
        circle = np.linspace(0, 2 * np.pi, 200)
        left.plot(np.cos(circle), np.sin(circle), color=FAINT, linewidth=1.2)
        left.plot(np.cos(circle), 0.25 * np.sin(circle), color=FAINT, linewidth=0.8)
        for k, color in enumerate(colors):
            x, y, depth = tracks[:, k].T
            alpha = 1.0 if depth[-1] > 0 else 0.45  # behind
            left.plot(x, y, color=color, alpha=alpha)
            left.plot(x[-1], y[-1], "o", color=color, alpha=alpha, markersize=7)
            right.plot(angles[:, k], color=color, linewidth=1.4)
        left.set(aspect="equal", xticks=[], yticks=[], title="Six neurons in 400 steps")
        left.spines[:].set_visible(False)
        right.axhline(0.01, color=FAINT, linewidth=1.2, zorder=0)
        right.annotate("lr", (400, 0.01), xytext=(2, -4), textcoords="offset points")
        right.set(title="Angle of a step, in radians", xlabel="step", ylim=(0, 0.011))
        save(figure, "nero")


def towers():
    """From six first rates: what the floor above makes of them, and what that is worth."""
    images, labels, _ = digits()

    def train(rule):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10))
        opt = untuned.Optimizer(model, rule)
        losses, rates = [], []
        for chosen in torch.randint(len(images), (STEPS, 64)):
            loss = F.cross_entropy(model(images[chosen]), labels[chosen])
            opt.zero_grad()
            loss.backward()
            opt.step()
            losses.append(loss.item())
            rates.append(opt.hyperparameters()[0][0]["lr"])
        return np.convolve(losses, np.ones(15) / 15, "valid"), rates

    firsts = [10.0**power for power in range(-5, 1)]
    with mpl.rc_context(STYLE):
        figure, (left, right) = panels()
        for first in firsts:
            losses, rates = train(SGD(first) / Adam(lr=0.1))
            plain, _ = train(SGD(first))
            left.plot(rates, color=RED, linewidth=1.4)
            right.plot(plain, color=GREY, linewidth=1.4, label="SGD" * (first == 1))
            right.plot(losses, color=RED, linewidth=1.4, label="SGD / Adam(0.1)" * (first == 1))
        left.set(title="Rate, from six first ones", xlabel="step", yscale="log")
        right.set(title="Loss", xlabel="step", ylim=(0, 2.6))
        for axes in (left, right):
            axes.minorticks_off()
        right.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
        save(figure, "towers")


def automatic(depth, norms=False):
    """What Auto finds in each step on digits: the degree, and how far it goes."""
    images, labels, _ = digits()
    torch.manual_seed(0)
    layers = [nn.Linear(64, 64, bias=False) for _ in range(depth - 1)]
    between = [nn.LayerNorm(64), nn.ReLU()] if norms else [nn.ReLU()]
    inner = [module for layer in layers for module in (layer, *copy.deepcopy(between))]
    model = nn.Sequential(*inner, nn.Linear(64, 10, bias=False))
    opt = untuned.Auto(model)
    degrees, rates = [], []
    for chosen in torch.randint(len(images), (STEPS, 64)):
        opt.zero_grad()
        F.cross_entropy(model(images[chosen]), labels[chosen]).backward()
        opt.step()
        group = opt.param_groups[0]
        product, square = (group[f"floor0/network.{name}"] for name in ("product", "square"))
        degrees.append(float(product / square))
        rates.append(float(group["effective_lr"]))
    return degrees, rates


def auto():
    """The degree of four networks, as Auto measures it, and what becomes of its steps."""
    networks = {
        "2 layers": (automatic(2), BLUE),
        "8 layers": (automatic(8), "#c08a1e"),
        "32 layers": (automatic(32), RED),
        "8 layers, with norms": (automatic(8, norms=True), GREY),
    }
    with mpl.rc_context(STYLE):
        figure, (left, right) = panels()
        for label, ((degrees, rates), color) in networks.items():
            left.plot(degrees, color=color)
            left.annotate(label, (5, degrees[-1]), xytext=(0, 5), textcoords="offset points")
            right.plot(rates, color=color)
        left.set(title="The degree, measured", xlabel="step", yscale="log", ylim=(0.5, 64))
        left.set_yticks([1, 2, 8, 32], ["1", "2", "8", "32"])
        left.minorticks_off()
        right.set(title="How far a step goes", xlabel="step", ylim=(0, 0.064))
        save(figure, "auto")


PICTURES = {"agd": agd, "nero": nero, "towers": towers, "auto": auto}

if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in sys.argv[1:] or PICTURES:
        PICTURES[name]()
