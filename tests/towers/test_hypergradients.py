"""Hypergradients, against plain transcriptions of the rules, by autograd and by differences.

Each transcription takes one step in float64 as a function of the hyperparameters, on flat lists of
tensors; the tower that it plays has SGD above it. What a transcription knows of the library is its
charts only: exponential for a rate, logistic for a decay.
"""

import math

import pytest
import torch
import torch.nn.functional as F

import untuned
from untuned.rules import AGD, SGD, AdaGrad, Adam, FreeNero, RMSProp

ABOVE = 0.05  # the step size of the SGD above
RATES = ("lr", "eps", "gain")


def sgd(h, grads, state):
    return [-h["lr"] * g for g in grads], state


def momentum(h, grads, state):
    buffers = state or [torch.zeros_like(g) for g in grads]
    buffers = [h["momentum"] * m + g for m, g in zip(buffers, grads, strict=True)]
    return [-h["lr"] * m for m in buffers], buffers


def adagrad(h, grads, state):
    sums = state or [torch.full_like(g, 0.1) for g in grads]
    sums = [v + g * g for v, g in zip(sums, grads, strict=True)]
    return [-h["lr"] * g / (v + 1e-10) ** 0.5 for g, v in zip(grads, sums, strict=True)], sums


def rmsprop(h, grads, state):
    means = state or [torch.zeros_like(g) for g in grads]
    means = [h["gamma"] * v + (1 - h["gamma"]) * g * g for v, g in zip(means, grads, strict=True)]
    return [-h["lr"] * g / (v + 1e-8) ** 0.5 for g, v in zip(grads, means, strict=True)], means


def adam(h, grads, state):
    n1, n2, ms, vs = state or (0.0, 0.0, *([torch.zeros_like(g) for g in grads] for _ in range(2)))
    b1, b2 = h["beta1"], h["beta2"]
    n1, n2 = b1 * n1 + (1 - b1), b2 * n2 + (1 - b2)
    ms = [b1 * m + (1 - b1) * g for m, g in zip(ms, grads, strict=True)]
    vs = [b2 * v + (1 - b2) * g * g for v, g in zip(vs, grads, strict=True)]
    # some pixels are always zero: there the root has no derivative
    roots = [torch.where(v > 0, v / n2, 1e-60) ** 0.5 for v in vs]
    steps = [-h["lr"] * (m / n1) / (r + h["eps"]) for m, r in zip(ms, roots, strict=True)]
    return steps, (n1, n2, ms, vs)


def agd(h, grads, state):
    L = len(grads)
    radii = [math.sqrt(g.shape[0] / g.shape[1]) for g in grads]
    G = sum(r * g.norm() for r, g in zip(radii, grads, strict=True)) / L
    eta = torch.log((1 + torch.sqrt(1 + 4 * G)) / 2)
    return [-h["gain"] * eta / L * r * g / g.norm() for r, g in zip(radii, grads, strict=True)], 0


def nero(h, grads, state):
    t, vs, scales = state
    t = t + 1
    vs = [
        h["beta"] * v + (1 - h["beta"]) * (g * g).sum(1, keepdim=True)
        for v, g in zip(vs, grads, strict=True)
    ]
    steps = [
        -h["lr"] * s * g / (v / (1 - h["beta"] ** t)).sqrt()
        for s, g, v in zip(scales, grads, vs, strict=True)
    ]
    return steps, (t, vs, scales)


RULES = {
    "sgd": (SGD(0.1), sgd),
    "momentum": (SGD(0.02, momentum=0.8), momentum),
    "adagrad": (AdaGrad(0.05), adagrad),
    "rmsprop": (RMSProp(0.003, gamma=0.9), rmsprop),
    "adam": (Adam(0.01, betas=(0.8, 0.95), eps=1e-3), adam),
    "agd": (AGD(gain=1.5), agd),
    "nero": (FreeNero(0.02, beta=0.9), nero),
}
SUBSETS = [(name, None) for name in RULES] + [
    ("momentum", ("momentum",)),
    ("adam", ("lr",)),
    ("adam", ("beta2",)),
    ("adam", ("eps", "beta1")),
    ("nero", ("beta",)),
]


def value(name, raw):
    return torch.exp(raw) if name in RATES else torch.sigmoid(raw)


def loss_of(weights, digits, step):
    batch = (torch.arange(32) + 32 * step) % len(digits.labels)
    x = digits.images[batch].double().flatten(1)
    for weight in weights[:-1]:
        x = torch.tanh(x @ weight.T)
    return F.cross_entropy(x @ weights[-1].T, digits.labels[batch])


def initial():
    shapes = [(12, 64), (12, 12), (10, 12)]
    return [torch.randn(shape, dtype=torch.float64) / shape[1] ** 0.5 for shape in shapes]


def detached(state):
    if isinstance(state, torch.Tensor):
        return state.detach()
    return type(state)(map(detached, state)) if isinstance(state, list | tuple) else state


def by_autograd(gain, raw):
    leaves = {name: number.clone().requires_grad_() for name, number in raw.items()}
    return dict(zip(leaves, torch.autograd.grad(gain(leaves), list(leaves.values())), strict=True))


def by_differences(gain, raw, delta=1e-5):
    found = {}
    for name, number in raw.items():
        up, down = {**raw, name: number + delta}, {**raw, name: number - delta}
        found[name] = (gain(up) - gain(down)) / (2 * delta)
    return found


def transcribed(rule, update, names, digits, derivatives, steps=8):
    """The raw hyperparameters step by step, from the transcription."""
    weights = initial()
    fixed = {k: torch.tensor(v, dtype=torch.float64) for k, v in rule.hyperparameters().items()}
    raw = {n: fixed[n].log() if n in RATES else torch.logit(fixed[n]) for n in names}
    state = None
    if update is nero:
        zeros = [torch.zeros(len(w), 1, dtype=torch.float64) for w in weights]
        state = (0, zeros, [w.norm(dim=1).mean() for w in weights])
    last, traces = None, []
    for step in range(steps):
        leaves = [w.clone().requires_grad_() for w in weights]
        grads = torch.autograd.grad(loss_of(leaves, digits, step), leaves)
        if last is not None:
            before, old = last

            def gain(raw, before=before, old=old, grads=grads):
                moved, _ = update({**fixed, **{n: value(n, raw[n]) for n in raw}}, before, old)
                return sum((g * d).sum() for g, d in zip(grads, moved, strict=True))

            slopes = derivatives(gain, raw)
            raw = {name: raw[name] - ABOVE * slopes[name].detach() for name in raw}
        traces.append(raw)
        moved, after = update({**fixed, **{n: value(n, raw[n]) for n in raw}}, grads, state)
        weights = [w + d for w, d in zip(weights, moved, strict=True)]
        last, state = (grads, state), detached(after)
    return traces


@pytest.mark.parametrize("derivatives", [by_autograd, by_differences])
@pytest.mark.parametrize(("name", "tuned"), SUBSETS)
def test_every_hyperparameter_moves_as_its_derivative_says(name, tuned, derivatives, digits):
    rule, update = RULES[name]
    floor = rule.tuning(*tuned) if tuned else rule
    names = tuned or [n for n, v in rule.hyperparameters().items() if v > 0]
    torch.manual_seed(0)
    traces = transcribed(rule, update, names, digits, derivatives)
    torch.manual_seed(0)
    weights = [w.requires_grad_() for w in initial()]
    opt = untuned.Optimizer(weights, floor / SGD(ABOVE))
    for step, expected in enumerate(traces):
        opt.zero_grad()
        loss_of(weights, digits, step).backward()
        opt.step()
        ours = {n: opt.param_groups[0][f"floor0.{n}"] for n in names}
        tolerance = 1e-10 if derivatives is by_autograd else 1e-7
        torch.testing.assert_close(ours, expected, rtol=tolerance, atol=tolerance)
    moved = [abs(float(traces[-1][n] - traces[0][n])) for n in names]
    assert max(moved) > 1e-5  # it is not that nothing happened
