"""Small networks of every kind, for tests to train."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from untuned.optimizer.group_layers import geometry_of


def gpt2(vocab_size=20, n_positions=16, n_embd=8, n_layer=1, n_head=2):
    """A GPT-2 of the transformers library."""
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=vocab_size,
            n_positions=n_positions,
            n_embd=n_embd,
            n_layer=n_layer,
            n_head=n_head,
            bos_token_id=0,
            eos_token_id=0,
        )
    )


class Bare(nn.Module):
    def __init__(self):
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(()))
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.positions = nn.Parameter(torch.zeros(1, 7, 8))
        self.mixing = nn.Parameter(torch.zeros(4, 6))
        self.experts = nn.Parameter(torch.zeros(5, 4, 6))


class Residual(nn.Module):
    """Two convolutions with batch norms around a sum."""

    def __init__(self, channels: int, stride: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels * stride, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(channels * stride),
            nn.ReLU(),
            nn.Conv2d(channels * stride, channels * stride, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels * stride),
        )
        self.skip = nn.Conv2d(channels, channels * stride, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.skip(x))


def resnet():
    return nn.Sequential(
        nn.Unflatten(1, (1, 8)),
        nn.Conv2d(1, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        Residual(16, 1),
        Residual(16, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 10),
    )


def mlp():
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 128), nn.GELU(), nn.LayerNorm(128), nn.Linear(128, 10)
    )


class LSTM(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(65, 64)
        self.body = nn.LSTM(64, 128, batch_first=True)
        self.head = nn.Linear(128, 65)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.body(self.table(tokens))[0])


class GPT2(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = gpt2(vocab_size=65, n_positions=64, n_embd=64, n_layer=2, n_head=4)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.body(tokens).logits


def snapshot(model):
    """A copy of every parameter."""
    return [p.detach().clone() for p in model.parameters()]


def same(model, before):
    """Whether every parameter is, bit for bit, what it was."""
    return all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))


def equal(one, other):
    """Whether two state dicts, or parts of them, are the same to the bit."""
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other


def perceptron():
    """Two layers with biases."""
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def loss_of(model):
    """A loss of a `perceptron`."""
    return F.cross_entropy(model(torch.ones(4, 6)), torch.tensor([0, 1, 2, 0]))


def backward(model, sign=1.0):
    """Gradients of a loss of a `perceptron`; returns the loss."""
    loss = loss_of(model)
    (sign * loss).backward()
    return loss


def train(model, opt, steps):
    """Steps of a `perceptron`; returns the losses."""
    losses = []
    for _ in range(steps):
        opt.zero_grad()
        losses.append(backward(model).item())
        opt.step()
    return losses


def numbers(opt):
    """Every hyperparameter of every floor and group."""
    return [v for floors in opt.hyperparameters() for floor in floors for v in floor.values()]


def layers(opt):
    """Each tensor's geometry, group by group; None: by its shape."""
    return [geometry_of(group) for group in opt.param_groups]


def by_shape(model):
    """Parameter groups in which tensors have the geometry of their shapes, and no module."""
    return [{"params": list(model.parameters()), "layer": None}]
