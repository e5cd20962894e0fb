"""Elementwise rules, and torch's optimizers that they are to equal."""

import torch

from untuned.rules import SGD, AdaGrad, RMSProp

TWINS = {
    "sgd": (SGD(0.1), lambda p: torch.optim.SGD(p, 0.1)),
    "momentum": (SGD(0.1, momentum=0.9), lambda p: torch.optim.SGD(p, 0.1, momentum=0.9)),
    "adagrad": (
        AdaGrad(0.1),
        lambda p: torch.optim.Adagrad(p, 0.1, initial_accumulator_value=0.1, eps=0.0),
    ),
    "rmsprop": (
        RMSProp(0.01, gamma=0.95),
        lambda p: torch.optim.RMSprop(p, 0.01, alpha=0.95, eps=0.0),
    ),
}
