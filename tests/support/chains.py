"""Chains of matrices whose head and degree are known, for tests of Auto."""

import torch
import torch.nn.functional as F
from torch import nn

from support.networks import layers
from untuned.geometry import Head


def heads(opt):
    """The names of what moves as a head does."""
    return [
        name
        for group, its in zip(opt.param_groups, layers(opt), strict=True)
        for name, layer in zip(group["param_names"], its, strict=True)
        if isinstance(layer, Head)
    ]


def degree(opt):
    group = opt.param_groups[0]
    product, square = (group[f"floor0/network.{name}"] for name in ("product", "square"))
    return float(product / square)


def train(net, opt, steps=1, inputs=None, classes=8):
    losses = []
    for step in range(steps):
        torch.manual_seed(step)
        x = torch.randn(16, 8, dtype=torch.float64) if inputs is None else inputs
        opt.zero_grad()
        out = net(x)
        loss = F.cross_entropy(out, torch.randint(out.shape[-1], (len(out),)))
        loss.backward()
        losses.append(loss.item())
        opt.step()
    return losses


class Chain(nn.Module):
    """Layers that are applied in one order, and declared in another."""

    def __init__(self, order):
        super().__init__()
        self.depth = len(order)
        for number in order:
            layer = nn.Linear(8, 8, bias=False).double()
            torch.manual_seed(number)
            nn.init.orthogonal_(layer.weight, gain=1.4)
            setattr(self, f"layer{number}", layer)

    def forward(self, x):
        for number in range(self.depth):
            x = getattr(self, f"layer{number}")(x if number == 0 else F.relu(x))
        return x


ORDERS = {"in order": range(12), "first last": [*range(1, 12), 0], "reversed": range(11, -1, -1)}


def bare_chain(depth, gain=1.4):
    """Square matrices, each orthogonal times a gain, with ReLU between them."""
    torch.manual_seed(0)
    layers = [nn.Linear(8, 8, bias=False) for _ in range(depth)]
    for layer in layers:
        nn.init.orthogonal_(layer.weight, gain=gain)
    return nn.Sequential(*(m for layer in layers for m in (layer, nn.ReLU())))[:-1].double()
