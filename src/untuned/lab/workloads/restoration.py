"""Images restored by convolutional networks: from half their resolution, and from noise.

Lim et al. 2017 (arXiv:1707.02921: residual blocks without norms, and sub-pixel convolutions), and
Ho, Jain and Abbeel 2020 (arXiv:2006.11239: a U-Net that predicts the noise epsilon in

    x = sqrt(alpha) image + sqrt(1 - alpha) epsilon

with alpha = prod (1 - beta_s) over s <= t, and beta from 0.0001 to 0.02 in T = 1000 steps).
"""

import math
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from untuned.lab.config import Size
from untuned.lab.workloads.data import images
from untuned.lab.workloads.supervised import Supervised
from untuned.lab.workloads.task import DECIBELS, Batch, Metric, Pairs, Workload

NOISINGS = 1000  # T
ALPHAS = torch.linspace(1e-4, 0.02, NOISINGS).neg().add(1).cumprod(0)


class _Residual(nn.Module):
    """Convolution, ReLU and convolution beside an identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(n, width, h, w) to the same."""
        out: Tensor = self.conv2(F.relu(self.conv1(x)))
        return x + out


class _SuperResolution(nn.Module):
    """What a bilinear interpolation misses."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), *(_Residual(width) for _ in range(blocks)),
            nn.Conv2d(width, 4, 3, padding=1), nn.PixelShuffle(2),
        )  # fmt: skip

    def forward(self, pixels: Tensor) -> Tensor:
        """(n, 1, h, w) to (n, 1, 2 h, 2 w)."""
        missed: Tensor = self.body(pixels)
        return missed + F.interpolate(pixels, scale_factor=2, mode="bilinear")


@dataclass(frozen=True)
class Noised:
    """Images (n, 1, h, w) with noise; torch's global seed decides how much, and which.

    A batch has inputs (n, 2, h, w), the noisy image and its time in [0, 1) as a constant plane;
    its targets are the noise.
    """

    inputs: Tensor

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, chosen: Tensor) -> Batch:
        clean = self.inputs[chosen]
        times = torch.randint(NOISINGS, (len(clean), 1, 1, 1))
        alphas, noise = ALPHAS[times], torch.randn_like(clean)
        noisy = alphas.sqrt() * clean + (1 - alphas).sqrt() * noise
        return Batch(torch.cat([noisy, (times / NOISINGS).expand_as(clean)], dim=1), noise)


class _Conditional(nn.Module):
    """Two convolutions with norms; the embedding of the time is added between them."""

    def __init__(self, inputs: int, outputs: int, embedding: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm1 = nn.GroupNorm(4, outputs)
        self.time = nn.Linear(embedding, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.norm2 = nn.GroupNorm(4, outputs)

    def forward(self, x: Tensor, embedded: Tensor) -> Tensor:
        """(n, inputs, h, w) and (n, embedding) to (n, outputs, h, w)."""
        x = F.silu(self.norm1(self.conv1(x))) + self.time(embedded)[:, :, None, None]
        return F.silu(self.norm2(self.conv2(x)))


class _UNet(nn.Module):
    """Two halvings of the resolution and back, with skip connections."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        embedding = 4 * width
        self.embed = nn.Sequential(nn.Linear(2 * width, embedding), nn.SiLU())
        self.down1 = _Conditional(1, width, embedding)
        self.down2 = _Conditional(width, 2 * width, embedding)
        self.middle = _Conditional(2 * width, 2 * width, embedding)
        self.up2 = _Conditional(4 * width, 2 * width, embedding)
        self.up1 = _Conditional(3 * width, width, embedding)
        self.out = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, noisy: Tensor) -> Tensor:
        """Inputs (n, 2, h, w) of `Noised` to the noise (n, 1, h, w); 4 divides h and w."""
        x, times = noisy[:, :1], noisy[:, 1, 0, 0]
        rates = torch.logspace(0, 3, self.width, device=x.device, dtype=x.dtype)
        angles = times[:, None] * rates
        embedded = self.embed(torch.cat([angles.sin(), angles.cos()], dim=1))
        fine = self.down1(x, embedded)
        coarse = self.down2(F.avg_pool2d(fine, 2), embedded)
        x = self.middle(F.avg_pool2d(coarse, 2), embedded)
        x = self.up2(torch.cat([F.interpolate(x, scale_factor=2), coarse], dim=1), embedded)
        x = self.up1(torch.cat([F.interpolate(x, scale_factor=2), fine], dim=1), embedded)
        out: Tensor = self.out(x)
        return out


def _clothes(size: Size, validated: int) -> tuple[Tensor, Tensor]:
    """Training and validation images of Fashion-MNIST, (n, 1, 28, 28)."""
    counts = (10_000, validated) if size == "small" else (None, None)
    train, valid = map(partial(images, "fashion_mnist"), ("train", "test"), counts)
    return train.images, valid.images


def _super_resolution(size: Size) -> Supervised:
    width, blocks = (16, 2) if size == "small" else (64, 16)
    batch, steps = (32, 400) if size == "small" else (128, 23_400)
    train, valid = (Pairs(F.avg_pool2d(x, 2), x) for x in _clothes(size, 500))
    model = partial(_SuperResolution, width, blocks)
    return Supervised(model, train, valid, batch, steps, DECIBELS, loss=F.mse_loss)


def _denoiser(size: Size) -> Supervised:
    width, batch, steps = (8, 16, 350) if size == "small" else (64, 128, 46_800)
    train, valid = (Noised(2 * x - 1) for x in _clothes(size, 200))
    error = Metric("root mean square error of the noise", F.mse_loss, math.sqrt)
    return Supervised(partial(_UNet, width), train, valid, batch, steps, error, loss=F.mse_loss)


WORKLOADS = {
    "superres-fashion": Workload(
        "a residual network from 14x14 to 28x28 pixels, Fashion-MNIST", _super_resolution
    ),
    "denoiser-fashion": Workload(
        "a U-Net that predicts the noise of a diffusion, Fashion-MNIST", _denoiser
    ),
}
