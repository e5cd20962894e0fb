"""Tensors, and steps of them, for tests of elementwise rules."""

import torch
from torch import nn


def tensors(shapes, dtype=torch.float64):
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(shape, dtype=dtype)) for shape in shapes]


def walk(params, opt, steps=6):
    """Some steps on gradients that depend on the weights."""
    for step in range(steps):
        for i, param in enumerate(params):
            param.grad = torch.sin(param.detach() * (i + step + 1)) + 1.5
        opt.step()
    return params
