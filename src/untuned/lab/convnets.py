"""Convolutional networks for images of CIFAR-10's size, of any width.

He et al. 2015 (arXiv:1512.03385, section 4.2: ResNet-20; and pre-activation blocks,
arXiv:1603.05027), Simonyan and Zisserman 2014 (arXiv:1409.1556, configurations A and D, with batch
norms).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def conv(inputs: int, outputs: int, stride: int = 1, kernel: int = 3) -> nn.Conv2d:
    """A convolution that keeps height and width but for its stride."""
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)


class PreActivation(nn.Module):
    """Norm, ReLU and convolution twice, beside a shortcut: a 1x1 convolution where sizes change."""

    norm1: nn.BatchNorm2d
    conv1: nn.Conv2d
    norm2: nn.BatchNorm2d
    conv2: nn.Conv2d
    shortcut: nn.Conv2d | None

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(inputs), conv(inputs, outputs, stride)
        self.norm2, self.conv2 = nn.BatchNorm2d(outputs), conv(outputs, outputs)
        changes = stride > 1 or inputs != outputs
        self.shortcut = conv(inputs, outputs, stride, kernel=1) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, h, w) to (n, outputs, h / stride, w / stride)."""
        active = F.relu(self.norm1(x))
        out: Tensor = self.conv2(F.relu(self.norm2(self.conv1(active))))
        return out + (self.shortcut(active) if self.shortcut else x)


class PostActivation(nn.Module):
    """Convolution, norm and ReLU twice; the shortcut leaves out pixels and adds zero channels."""

    conv1: nn.Conv2d
    norm1: nn.BatchNorm2d
    conv2: nn.Conv2d
    norm2: nn.BatchNorm2d
    stride: int
    more: int

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = conv(inputs, outputs, stride), nn.BatchNorm2d(outputs)
        self.conv2, self.norm2 = conv(outputs, outputs), nn.BatchNorm2d(outputs)
        self.stride, self.more = stride, outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, h, w) to (n, outputs, h / stride, w / stride)."""
        out = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        fewer = x[:, :, :: self.stride, :: self.stride]
        return F.relu(out + F.pad(fewer, (0, 0, 0, 0, self.more // 2, self.more - self.more // 2)))


def _stages(block: type[nn.Module], widths: list[int], blocks: int, inputs: int) -> list[nn.Module]:
    """For each width some blocks, the first of all but the first stage with stride 2."""
    out = []
    for stage, width in enumerate(widths):
        for place in range(blocks):
            out.append(block(inputs, width, 2 if stage and not place else 1))
            inputs = width
    return out


def _head(width: int, classes: int = 10) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes)]


def preact_resnet18(width: int = 64) -> nn.Sequential:
    """Four stages of two blocks, from `width` channels to eight times as many."""
    widths = [width, 2 * width, 4 * width, 8 * width]
    stages = _stages(PreActivation, widths, 2, width)
    end = [nn.BatchNorm2d(widths[-1]), nn.ReLU()]
    return nn.Sequential(conv(3, width), *stages, *end, *_head(widths[-1]))


def resnet20(width: int = 16) -> nn.Sequential:
    """Three stages of three blocks, from `width` channels to four times as many."""
    widths = [width, 2 * width, 4 * width]
    start = [conv(3, width), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*start, *_stages(PostActivation, widths, 3, width), *_head(widths[-1]))


def _vgg(convolutions: tuple[int, ...], width: int, classes: int) -> nn.Sequential:
    """Stages of so many convolutions, each halved in size at its end, and a dense layer."""
    layers: list[nn.Module] = []
    inputs = 3
    for times, count in zip((1, 2, 4, 8, 8), convolutions, strict=True):
        for _ in range(count):
            outputs = times * width
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
            inputs = outputs
        layers.append(nn.MaxPool2d(2, ceil_mode=True))  # a single pixel stays one
    return nn.Sequential(*layers, *_head(inputs, classes))


def vgg11(width: int = 64) -> nn.Sequential:
    """Eight convolutions."""
    return _vgg((1, 1, 2, 2, 2), width, 10)


def vgg16(width: int = 64, classes: int = 10) -> nn.Sequential:
    """Thirteen convolutions."""
    return _vgg((2, 2, 3, 3, 3), width, classes)


def bare(network: nn.Module) -> nn.Module:
    """The network without biases, and its norms without gains, as AGD's paper has them."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.affine = False
            module.register_parameter("weight", None)
        if hasattr(module, "bias"):
            module.register_parameter("bias", None)
    return network
