"""A class-conditional GAN on CIFAR-10 (arXiv:2102.07227, figure 5).

The discriminator (Miyato and Koyama 2018, arXiv:1802.05637) scores an image and its class, and
learns by the hinge loss; the generator maximises its score. They take alternate steps of one
optimizer: the other network has no gradient. The networks are smaller than the paper's, and without
self-attention. The metric is the Frechet distance of 8x8 pixels, between normal distributions
fitted to generated and to real images: it needs no pretrained network, and is not comparable with
published Inception distances.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from untuned.lab.config import Config, Size
from untuned.lab.errors import ConfigError
from untuned.lab.workloads.data import Labelled
from untuned.lab.workloads.supervised import chosen, entropy
from untuned.lab.workloads.task import Learner, Workload
from untuned.lab.workloads.vision import parts

CODE = 80  # dimensions of the latent code


class _Generator(nn.Module):
    """Codes (n, CODE) and classes (n,) to images (n, 3, 32, 32) in [-1, 1]."""

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
        layers += [nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, 3, 3, padding=1), nn.Tanh()]
        self.layers = nn.Sequential(*layers)

    def forward(self, codes: Tensor, labels: Tensor) -> Tensor:
        out: Tensor = self.layers(torch.cat([codes, self.classes(labels)], dim=1))
        return out


class _Discriminator(nn.Module):
    """Images (n, 3, 32, 32) and classes (n,) to scores (n,), high for real images."""

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
        features = self.layers(images).mean((2, 3))
        out: Tensor = self.head(features).squeeze(1) + (features * self.classes(labels)).sum(1)
        return out


def frechet(a: Tensor, b: Tensor) -> float:
    """Frechet distance between normal distributions fitted to two samples.

    |mean - mean'|^2 + tr(C + C' - 2 (C C')^(1/2)); the last trace is the sum of the roots of the
    eigenvalues of C C', which are real and not negative.

    Args:
        a: (n, d).
        b: (m, d).
    """
    a, b = a.double(), b.double()
    gap = (a.mean(0) - b.mean(0)).square().sum()
    one, two = torch.cov(a.T), torch.cov(b.T)
    roots = torch.linalg.eigvals(one @ two).real.clamp_min(0).sqrt()
    return float(gap + one.trace() + two.trace() - 2 * roots.sum())


def _pooled(images: Tensor) -> Tensor:
    """(n, 3, 32, 32) to (n, 192)."""
    return F.avg_pool2d(images, 4).flatten(1)


@dataclass(frozen=True)
class Adversarial:
    """A task of two networks, on images in [-1, 1]."""

    train: Labelled
    valid: Labelled
    width: int
    batch: int
    steps: int
    metric_name: str = "Frechet distance of 8x8 pixels"

    def learner(self, fabric: Fabric, config: Config) -> Learner:
        if fabric.world_size > 1 or config.compile:
            raise ConfigError(f"{config.workload} runs in one process, not compiled")
        return _AdversarialLearner(self, fabric, config)


class _AdversarialLearner(Learner):
    """A step of the discriminator, then one of the generator."""

    stride = 2

    def __init__(self, task: Adversarial, fabric: Fabric, config: Config) -> None:
        self.task, self.fabric, self.seed = task, fabric, config.seed
        torch.manual_seed(config.seed)
        self._generator, self._discriminator = _Generator(task.width), _Discriminator(task.width)
        both = {"generator": self._generator, "judge": self._discriminator}
        self.model = fabric.to_device(nn.ModuleDict(both))

    def _generated(self, labels: Tensor) -> Tensor:
        codes = torch.randn(len(labels), CODE, device=labels.device)
        images: Tensor = self._generator(codes, labels)
        return images

    def advance(self, step: int) -> Tensor:
        torch.manual_seed(entropy(self.seed, step))
        task, score = self.task, self._discriminator
        indices = chosen(len(task.train.labels), task.batch, self.seed, step // self.stride)
        images, labels = self.fabric.to_device(
            (task.train.images[indices], task.train.labels[indices])
        )
        real, fake = score(images, labels), score(self._generated(labels).detach(), labels)
        judged = F.relu(1 - real).mean() + F.relu(1 + fake).mean()
        self._descend(judged, inputs=list(self._discriminator.parameters()))
        fooled = -score(self._generated(labels), labels).mean()
        self._descend(fooled, inputs=list(self._generator.parameters()))
        both: Tensor = judged + fooled
        return both.detach()

    @torch.no_grad()
    def evaluate(self) -> tuple[float, float]:
        """The distance, twice: no other loss measures the quality of images."""
        torch.manual_seed(self.seed)
        self.model.eval()
        labels = self.task.valid.labels.split(500)
        images = torch.cat([self._generated(self.fabric.to_device(part)).cpu() for part in labels])
        self.model.train()
        if not images.isfinite().all():
            return float("nan"), float("nan")
        distance = frechet(_pooled(images), _pooled(self.task.valid.images))
        return distance, distance


def _cifar10(size: Size) -> Adversarial:
    small = size == "small"
    found = parts("cifar10", *((5000, 500) if small else (None, None)))
    train, valid = (Labelled(2 * part.images - 1, part.labels) for part in found)
    batch = 64 if small else 256
    steps = 200 if small else 2 * 121 * (len(train.labels) // batch)
    return Adversarial(train, valid, 16 if small else 64, batch, steps)


WORKLOADS = {"gan-cifar10": Workload("a class-conditional GAN, CIFAR-10", _cifar10)}
