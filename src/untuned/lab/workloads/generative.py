"""Autoencoders of images."""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from untuned.lab.config import Size
from untuned.lab.workloads.data import images
from untuned.lab.workloads.supervised import Supervised
from untuned.lab.workloads.task import Metric, Pairs, Workload

Latent = tuple[Tensor, Tensor, Tensor]  # logits of the pixels, mean and log variance of the code


def _convolutional(width: int, code: int) -> nn.Sequential:
    """(n, 1, 28, 28) to a code (n, code) and back."""
    return nn.Sequential(
        nn.Conv2d(1, width, 3, stride=2, padding=1), nn.ReLU(),  # 14
        nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.ReLU(),  # 7
        nn.Flatten(), nn.Linear(2 * width * 49, code),
        nn.Linear(code, 2 * width * 49), nn.ReLU(), nn.Unflatten(1, (2 * width, 7, 7)),
        nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1), nn.ReLU(),
        nn.ConvTranspose2d(width, 1, 4, stride=2, padding=1), nn.Sigmoid(),
    )  # fmt: skip


class _Variational(nn.Module):
    """Kingma and Welling 2013 (arXiv:1312.6114): one hidden layer each way, Bernoulli pixels."""

    def __init__(self, width: int, code: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(784, width), nn.ReLU())
        self.code = nn.Linear(width, 2 * code)
        self.decoder = nn.Sequential(nn.Linear(code, width), nn.ReLU(), nn.Linear(width, 784))

    def forward(self, pixels: Tensor) -> Latent:
        """One sample for each of the images (n, 1, 28, 28)."""
        mean, log_variance = self.code(self.encoder(pixels)).chunk(2, dim=1)
        code = mean + (log_variance / 2).exp() * torch.randn_like(mean)
        return self.decoder(code), mean, log_variance


def _negative_elbo(outputs: Latent, pixels: Tensor) -> Tensor:
    """Minus the evidence lower bound of images (n, 1, 28, 28), in nats an image."""
    logits, mean, log_variance = outputs
    amiss = F.binary_cross_entropy_with_logits(logits, pixels.flatten(1), reduction="sum")
    divergence = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum()
    return (amiss + divergence) / len(pixels)


def _reconstructed(name: str, size: Size) -> tuple[Pairs, Pairs]:
    """Images that are their own targets."""
    first, tested = (10_000, 500) if size == "small" else (None, None)
    train, valid = images(name, "train", first).images, images(name, "test", tested).images
    return Pairs(train, train), Pairs(valid, valid)


def _autoencoder(size: Size) -> Supervised:
    model = partial(_convolutional, *((8, 32) if size == "small" else (32, 64)))
    batch, steps = (64, 400) if size == "small" else (128, 23_400)
    metric = Metric("root mean square error of pixels", F.mse_loss, math.sqrt)
    data = _reconstructed("fashion_mnist", size)
    return Supervised(model, *data, batch, steps, metric, loss=F.mse_loss)


def _variational(size: Size) -> Supervised:
    model = partial(_Variational, *((200, 20) if size == "small" else (400, 20)))
    batch, steps = (64, 500) if size == "small" else (128, 23_400)
    metric = Metric("bits per pixel", _negative_elbo, lambda nats: nats / 784 / math.log(2))
    data = _reconstructed("mnist", size)
    return Supervised(model, *data, batch, steps, metric, loss=_negative_elbo)


WORKLOADS = {
    "autoencoder-fashion": Workload("a convolutional autoencoder, Fashion-MNIST", _autoencoder),
    "vae-mnist": Workload("a variational autoencoder, MNIST", _variational),
}
