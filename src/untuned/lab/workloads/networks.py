"""Networks of the workloads: chains of dense layers, and convolutional networks of any width.

He et al. 2015 (arXiv:1512.03385: ResNet-18; section 4.2: ResNet-20; and pre-activation blocks,
arXiv:1603.05027), Simonyan and Zisserman 2014 (arXiv:1409.1556, configuration A, and D with batch
norms).
"""

import math
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn


class Chain(nn.Module):
    """Dense layers with relu(x) * sqrt(2) between them, which preserves the scale; 10 outputs.

    Args:
        depth: number of layers.
        width: of the hidden layers.
        inputs: pixels of an image.
        bias: whether layers have biases.
    """

    def __init__(self, depth: int, width: int, inputs: int = 64, bias: bool = False) -> None:
        super().__init__()
        widths = [inputs, *[width] * (depth - 1), 10]
        self.layers: nn.ModuleList = nn.ModuleList(
            nn.Linear(d_in, d_out, bias=bias) for d_in, d_out in pairwise(widths)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Images (n, ...) to logits (n, 10)."""
        x: Tensor = self.layers[0](images.flatten(1))
        for layer in self.layers[1:]:
            x = layer(F.relu(x) * math.sqrt(2))
        return x


def _conv(inputs: int, outputs: int, stride: int = 1, kernel: int = 3) -> nn.Conv2d:
    """A convolution that preserves height and width, up to its stride."""
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)


class _PreActivation(nn.Module):
    """Norm, ReLU and convolution twice, and a shortcut: a 1x1 convolution where shapes change."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = _conv(inputs, outputs, stride)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv2 = _conv(outputs, outputs)
        changes = stride > 1 or inputs != outputs
        self.shortcut = _conv(inputs, outputs, stride, 1) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, h, w) to (n, outputs, h / stride, w / stride)."""
        active = F.relu(self.norm1(x))
        out: Tensor = self.conv2(F.relu(self.norm2(self.conv1(active))))
        return out + (self.shortcut(active) if self.shortcut else x)


class _PostActivation(nn.Module):
    """Convolution, norm and ReLU twice; the shortcut subsamples, and pads channels by zero."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(inputs, outputs, stride)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = _conv(outputs, outputs)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.stride = stride
        self.padding = outputs - inputs

    def skip(self, x: Tensor) -> Tensor:
        """(n, inputs, h, w) to (n, outputs, h / stride, w / stride)."""
        before = self.padding // 2
        fewer = x[:, :, :: self.stride, :: self.stride]
        return F.pad(fewer, (0, 0, 0, 0, before, self.padding - before))

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, h, w) to (n, outputs, h / stride, w / stride)."""
        out = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(out + self.skip(x))


class _Projected(_PostActivation):
    """Shortcuts are 1x1 convolutions with norms, where shapes change."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__(inputs, outputs, stride)
        projection = [_conv(inputs, outputs, stride, 1), nn.BatchNorm2d(outputs)]
        self.shortcut = nn.Sequential(*(projection if stride > 1 or inputs != outputs else []))

    def skip(self, x: Tensor) -> Tensor:
        """(n, inputs, h, w) to (n, outputs, h / stride, w / stride)."""
        found: Tensor = self.shortcut(x)
        return found


def _stages(block: type[nn.Module], widths: list[int], blocks: int, inputs: int) -> list[nn.Module]:
    """`blocks` blocks per width; each stage but the first starts with stride 2."""
    out = []
    for stage, width in enumerate(widths):
        for place in range(blocks):
            out.append(block(inputs, width, 2 if stage and not place else 1))
            inputs = width
    return out


def _head(width: int, classes: int = 10) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes)]


def preact_resnet18(width: int = 64) -> nn.Sequential:
    """Four stages of two blocks, from `width` to 8 `width` channels."""
    widths = [width, 2 * width, 4 * width, 8 * width]
    stages = _stages(_PreActivation, widths, 2, width)
    end = [nn.BatchNorm2d(widths[-1]), nn.ReLU(), *_head(widths[-1])]
    return nn.Sequential(_conv(3, width), *stages, *end)


def resnet20(width: int = 16) -> nn.Sequential:
    """Three stages of three blocks, from `width` to 4 `width` channels."""
    widths = [width, 2 * width, 4 * width]
    start = [_conv(3, width), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*start, *_stages(_PostActivation, widths, 3, width), *_head(widths[-1]))


def resnet18(width: int = 64) -> nn.Sequential:
    """As `preact_resnet18`, of the original blocks; initial weights by He et al. (fan out)."""
    widths = [width, 2 * width, 4 * width, 8 * width]
    start = [_conv(3, width), nn.BatchNorm2d(width), nn.ReLU()]
    return _by_fan_out(
        nn.Sequential(*start, *_stages(_Projected, widths, 2, width), *_head(widths[-1]))
    )


def _by_fan_out(network: nn.Sequential) -> nn.Sequential:
    """Convolutions drawn from normal distributions (arXiv:1502.01852), scaled for gradients."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network


def _vgg(convolutions: tuple[int, ...], width: int, normed: bool) -> list[nn.Module]:
    """Stages of these numbers of convolutions, each with pooling at its end.

    With norms they have biases, too; without, as Nero's authors have it, none.
    """
    layers: list[nn.Module] = []
    inputs = 3
    for times, count in zip((1, 2, 4, 8, 8), convolutions, strict=True):
        for _ in range(count):
            outputs = times * width
            layers.append(nn.Conv2d(inputs, outputs, 3, padding=1, bias=normed))
            layers += [nn.BatchNorm2d(outputs), nn.ReLU()] if normed else [nn.ReLU()]
            inputs = outputs
        layers.append(nn.MaxPool2d(2, ceil_mode=True))  # a single pixel stays one
    return layers


def vgg11(width: int = 64) -> nn.Sequential:
    """Eight convolutions without norms or biases, three dense layers with dropout, 10 classes.

    As in github.com/jxbz/nero, cifar/models/vgg.py; convolutions by He et al. (fan out).
    """
    wide = 64 * width
    hidden = [nn.Linear(8 * width, wide), nn.ReLU(), nn.Dropout(),
              nn.Linear(wide, wide), nn.ReLU(), nn.Dropout()]  # fmt: skip
    convolutions = _vgg((1, 1, 2, 2, 2), width, normed=False)
    return _by_fan_out(nn.Sequential(*convolutions, nn.Flatten(), *hidden, nn.Linear(wide, 10)))


def vgg16(width: int = 64, classes: int = 10) -> nn.Sequential:
    """Thirteen convolutions with norms, and a dense layer.

    Args:
        width: channels of the first stage; the last has eight times as many.
        classes: number of outputs.
    """
    return nn.Sequential(*_vgg((2, 2, 3, 3, 3), width, normed=True), *_head(8 * width, classes))


def bare(network: nn.Module) -> nn.Module:
    """Remove biases, and gains of norms, as in AGD's paper."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.affine = False
            module.register_parameter("weight", None)
        if hasattr(module, "bias"):
            module.register_parameter("bias", None)
    return network
