"""Neurons, for tests of Nero."""

import torch
from torch import nn


def rows(weight):
    """Each output's incoming weights, (out, -1), of a matrix or convolution."""
    return weight.flatten(1)


def network():
    """Layers of several kinds, with gradients."""
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 6), nn.LSTM(6, 5)
    )
    for param in model.parameters():
        param.grad = torch.randn_like(param)
    return model
