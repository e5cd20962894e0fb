"""A new head on frozen features learns no less than with AdamW."""

import math

import torch
import torch.nn.functional as F
from torch import nn

import untuned

TRAINED, STEPS = 1400, 200


def loss_of_a_head(digits, build, decays):
    """On digits that were not trained on; the features are random and do not move."""
    torch.manual_seed(0)
    pixels, labels = digits.images.flatten(1), digits.labels
    net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    net[0].requires_grad_(False)
    opt = build(net)
    rate = torch.optim.lr_scheduler.LambdaLR(opt, lambda t: (1 + math.cos(math.pi * t / STEPS)) / 2)
    for _ in range(STEPS):
        rows = torch.randint(TRAINED, (32,))
        opt.zero_grad()
        F.cross_entropy(net(pixels[rows]), labels[rows]).backward()
        opt.step()
        if decays:
            rate.step()
    net.eval()
    with torch.no_grad():
        return float(F.cross_entropy(net(pixels[TRAINED:]), labels[TRAINED:]))


def test_a_head_alone_ends_near_adamws_at_the_best_of_four_rates(digits):
    rates = (0.003, 0.01, 0.03, 0.1)
    losses = [
        loss_of_a_head(digits, lambda n, lr=lr: torch.optim.AdamW(n.parameters(), lr=lr), True)
        for lr in rates
    ]
    assert loss_of_a_head(digits, untuned.Auto, False) < 1.05 * min(losses)
