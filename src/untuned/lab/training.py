"""A deep network without biases or normalisation, trained on scikit-learn's digits."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.optim import Optimizer

from untuned.lab.networks import Chain

WIDTH = 128
BATCH = 128
EPOCHS = 50


class Part(NamedTuple):
    """The part of a data set to train on, or to test on."""

    images: Tensor  # (n, 64)
    labels: Tensor  # (n,)


@dataclass
class Trace:
    """What a run has seen, one entry an epoch, and how it ended."""

    steps: list[int] = field(default_factory=list)  # so far
    loss: list[float] = field(default_factory=list)  # mean over the epoch's batches
    accuracy: list[float] = field(default_factory=list)  # on the test data
    rate: list[float] = field(default_factory=list)  # learning rate, mean over the epoch
    train_loss: float = math.nan  # at the end, on all the training data
    test_loss: float = math.nan  # at the end
    seconds: float = 0.0  # of training, without evaluation


def digits() -> tuple[Part, Part]:
    """1347 digits to train on and 450 to test on, always the same."""
    images, labels = load_digits(return_X_y=True)
    split = train_test_split(images, labels, stratify=labels, random_state=0)
    x_train, x_test, y_train, y_test = map(torch.as_tensor, split)

    def scaled(x: Tensor) -> Tensor:  # to a root mean square of 1, image by image
        return F.normalize(x.float(), dim=1) * math.sqrt(x.shape[1])

    return Part(scaled(x_train), y_train), Part(scaled(x_test), y_test)


def train(
    prepare: Callable[[nn.Module], Optimizer],
    depth: int,
    seed: int,
    data: tuple[Part, Part],
    watch: Callable[[Trace], None],
) -> Trace:
    """Train a new network with the optimizer that `prepare` makes; `watch` sees each epoch.

    The seed sets the weights that PyTorch gives, and the order of the data.
    """
    train_part, test_part = data
    torch.manual_seed(seed)
    model = Chain(depth, WIDTH)
    opt = prepare(model)
    order = torch.Generator().manual_seed(seed)
    trace = Trace()
    for epoch in range(EPOCHS):
        began = time.perf_counter()
        batches = torch.randperm(len(train_part.labels), generator=order).split(BATCH)
        losses, rates = zip(*(step(model, opt, train_part, i) for i in batches), strict=True)
        trace.seconds += time.perf_counter() - began
        trace.steps.append((epoch + 1) * len(batches))
        trace.loss.append(math.fsum(losses) / len(losses))
        trace.rate.append(math.fsum(rates) / len(rates))
        trace.test_loss, accuracy = evaluate(model, test_part)
        trace.accuracy.append(accuracy)
        watch(trace)
    trace.train_loss, _ = evaluate(model, train_part)
    return trace


def step(model: nn.Module, opt: Optimizer, part: Part, chosen: Tensor) -> tuple[float, float]:
    """One step on some of the images: the loss before it, and the learning rate that it used."""
    loss = F.cross_entropy(model(part.images[chosen]), part.labels[chosen])
    opt.zero_grad()
    loss.backward()
    opt.step()
    group = opt.param_groups[0]
    return loss.item(), float(group.get("effective_lr", group["lr"]))


@torch.no_grad()
def evaluate(model: nn.Module, part: Part) -> tuple[float, float]:
    """Loss and accuracy."""
    logits = model(part.images)
    right = logits.argmax(1) == part.labels
    return F.cross_entropy(logits, part.labels).item(), right.float().mean().item()
