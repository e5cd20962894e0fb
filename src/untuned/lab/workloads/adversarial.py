"""A class-conditional generator and its judge, CIFAR-10 (arXiv:2102.07227, figure 5).

The judge (Miyato and Koyama 2018, arXiv:1802.05637) scores an image and its class, and learns by
the hinge loss; the generator learns to be scored well. They take turns at steps of one optimizer:
whose turn it is not has no gradient. The networks are smaller than the paper's, and without
self-attention. What is measured is the Frechet distance of 8x8 pixels, between normal distributions
fitted to made and to real images: it needs no network that was trained elsewhere, and compares with
no published Inception distance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from untuned.lab.config import Config, Size
from untuned.lab.data import Labelled
from untuned.lab.errors import ConfigError
from untuned.lab.supervised import chosen, entropy
from untuned.lab.task import Workload
from untuned.lab.workloads.vision import parts

CODE = 80


class Generator(nn.Module):
    """Codes (n, CODE) and classes (n,) to images (n, 3, 32, 32) in [-1, 1]."""

    classes: nn.Embedding
    layers: nn.Sequential

    def __init__(self, width: int) -> None:
        super().__init__()
        self.classes = nn.Embedding(10, CODE)
        layers: list[nn.Module] = [
            nn.Linear(2 * CODE, 4 * width * 16), nn.Unflatten(1, (4 * width, 4, 4)),
        ]  # fmt: skip
        for inputs, outputs in ((4, 4), (4, 2), (2, 1)):
            layers += [
                nn.BatchNorm2d(inputs * width), nn.ReLU(), nn.Upsample(scale_factor=2),
                nn.Conv2d(inputs * width, outputs * width, 3, padding=1),
            ]  # fmt: skip
        last = nn.Conv2d(width, 3, 3, padding=1)
        self.layers = nn.Sequential(*layers, nn.BatchNorm2d(width), nn.ReLU(), last, nn.Tanh())

    def forward(self, codes: Tensor, labels: Tensor) -> Tensor:
        """An image for each."""
        out: Tensor = self.layers(torch.cat([codes, self.classes(labels)], dim=1))
        return out


class Judge(nn.Module):
    """Images (n, 3, 32, 32) and classes (n,) to scores (n,), high for what seems real."""

    layers: nn.Sequential
    classes: nn.Embedding
    head: nn.Module

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in ((3, width), (width, 2 * width), (2 * width, 4 * width)):
            conv = nn.Conv2d(inputs, outputs, 4, stride=2, padding=1)
            layers += [spectral_norm(conv), nn.LeakyReLU(0.1)]
        self.layers = nn.Sequential(*layers)
        self.classes = nn.Embedding(10, 4 * width)
        self.head = spectral_norm(nn.Linear(4 * width, 1))

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """A score for each."""
        features = self.layers(images).mean((2, 3))
        out: Tensor = self.head(features).squeeze(1) + (features * self.classes(labels)).sum(1)
        return out


def frechet(a: Tensor, b: Tensor) -> float:
    """Between normal distributions fitted to (n, d) and (m, d).

    |mean - mean'|^2 + tr(C + C' - 2 (C C')^(1/2)); the last trace is the sum of the roots of the
    eigenvalues of C C', which are real and not negative.
    """
    a, b = a.double(), b.double()
    gap = (a.mean(0) - b.mean(0)).square().sum()
    one, two = torch.cov(a.T), torch.cov(b.T)
    roots = torch.linalg.eigvals(one @ two).real.clamp_min(0).sqrt()
    return float(gap + one.trace() + two.trace() - 2 * roots.sum())


def pooled(images: Tensor) -> Tensor:
    """(n, 3, 32, 32) to (n, 192)."""
    return F.avg_pool2d(images, 4).flatten(1)


@dataclass(frozen=True)
class Adversarial:
    """A task of two networks."""

    train: Labelled  # images in [-1, 1]
    valid: Labelled
    width: int
    batch: int
    steps: int
    metric_name: str = "Frechet distance of 8x8 pixels"

    def learner(self, fabric: Fabric, config: Config) -> AdversarialLearner:
        """The networks with new weights, by the configuration's seed."""
        if fabric.world_size > 1 or config.compile:
            raise ConfigError(f"{config.workload} runs in one process, not compiled")
        return AdversarialLearner(self, fabric, config)


class AdversarialLearner:
    """A step of the judge, then one of the generator."""

    task: Adversarial
    fabric: Fabric
    seed: int
    generator: Generator
    judge: Judge

    stride = 2

    def __init__(self, task: Adversarial, fabric: Fabric, config: Config) -> None:
        self.task, self.fabric, self.seed = task, fabric, config.seed
        torch.manual_seed(config.seed)
        self.generator, self.judge = Generator(task.width), Judge(task.width)
        both = {"generator": self.generator, "judge": self.judge}
        self.model: nn.Module = fabric.to_device(nn.ModuleDict(both))

    def attach(self, optimizer: Optimizer, scheduler: LRScheduler | None) -> None:
        """Have this optimizer train both from now on."""
        self._optimizer: Any = self.fabric.setup_optimizers(optimizer)
        self._scheduler = scheduler

    def _made(self, labels: Tensor) -> Tensor:
        codes = torch.randn(len(labels), CODE, device=labels.device)
        made: Tensor = self.generator(codes, labels)
        return made

    def _turn(self, loss: Tensor, whose: nn.Module) -> None:
        """A step for one of the two."""
        self._optimizer.zero_grad()
        self.fabric.backward(loss, inputs=list(whose.parameters()))
        self._optimizer.step()
        if self._scheduler:
            self._scheduler.step()

    def advance(self, step: int) -> Tensor:
        """Both turns on one batch; the sum of their losses before them."""
        torch.manual_seed(entropy(self.seed, step))
        task = self.task
        indices = chosen(len(task.train.labels), task.batch, self.seed, step // self.stride)
        images, labels = self.fabric.to_device(
            (task.train.images[indices], task.train.labels[indices])
        )
        real, made = self.judge(images, labels), self.judge(self._made(labels).detach(), labels)
        judged = F.relu(1 - real).mean() + F.relu(1 + made).mean()
        self._turn(judged, self.judge)
        fooled = -self.judge(self._made(labels), labels).mean()
        self._turn(fooled, self.generator)
        both: Tensor = judged + fooled
        return both.detach()

    @torch.no_grad()
    def evaluate(self) -> tuple[float, float]:
        """The distance, twice: there is no other loss that says how good images are."""
        torch.manual_seed(self.seed)
        self.model.eval()
        valid: Labelled = self.task.valid
        made = [self._made(self.fabric.to_device(part)).cpu() for part in valid.labels.split(500)]
        self.model.train()
        images = torch.cat(made)
        if not images.isfinite().all():
            return float("nan"), float("nan")
        distance = frechet(pooled(images), pooled(valid.images))
        return distance, distance

    def state(self) -> dict[str, Any]:
        """The weights and buffers."""
        return {"model": self.model.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        """Take them."""
        self.model.load_state_dict(state["model"])


def _cifar10(size: Size) -> Adversarial:
    small = size == "small"
    found = parts("cifar10", *((5000, 500) if small else (None, None)))
    train, valid = (Labelled(2 * part.images - 1, part.labels) for part in found)
    batch = 64 if small else 256
    steps = 200 if small else 2 * 121 * (len(train.labels) // batch)
    return Adversarial(train, valid, 16 if small else 64, batch, steps)


WORKLOADS = {"gan-cifar10": Workload("a class-conditional GAN, CIFAR-10", _cifar10)}
