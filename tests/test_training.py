"""Real networks on real data, with nothing tuned."""

import math

import pytest
import torch
import torch.nn.functional as F

import untuned
from support.networks import GPT2, LSTM, mlp, resnet
from untuned.lab.workloads.networks import Chain


def accuracy_of(model, opt, digits, seed, steps=500, batch=128):
    """Train on four fifths of the digits, in an order that the seed sets; test on the rest."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(digits.labels), generator=generator)
    train, test = order[:1437], order[1437:]
    for _ in range(steps):
        chosen = train[torch.randint(len(train), (batch,), generator=generator)]
        loss = F.cross_entropy(model(digits.images[chosen]), digits.labels[chosen])
        opt.zero_grad()
        loss.backward()
        opt.step()
    with torch.no_grad():
        return (model(digits.images[test]).argmax(1) == digits.labels[test]).float().mean().item()


@pytest.mark.parametrize("seed", range(2))
def test_agd_trains_32_bare_layers_where_adamw_at_its_default_fails(seed, digits):
    torch.manual_seed(seed)
    ours, theirs = Chain(32, 64), Chain(32, 64)  # theirs starts as torch starts it
    untuned.initialise_(ours)
    assert accuracy_of(ours, untuned.AGD(ours), digits, seed) >= 0.8
    adamw = torch.optim.AdamW(theirs.parameters())
    assert accuracy_of(theirs, adamw, digits, seed) < 0.4


@pytest.mark.parametrize(("build", "steps"), [(resnet, 200), (mlp, 400)])
def test_small_networks_learn_the_digits(build, steps, digits):
    model = build()
    assert untuned.initialise_(model) == []
    accuracy = accuracy_of(model.train(), untuned.AGD(model), digits, seed=0, steps=steps)
    assert accuracy > 0.9


@pytest.mark.parametrize("build", [LSTM, GPT2])
def test_language_models_learn_shakespeare_beyond_the_frequency_of_letters(build, shakespeare):
    counts = torch.bincount(shakespeare).float()
    frequency = -(counts / counts.sum() * (counts / counts.sum()).log()).sum()
    model = build()
    assert untuned.initialise_(model) == []
    opt, losses = untuned.AGD(model), []
    for _ in range(150):
        starts = torch.randint(len(shakespeare) - 65, (16,))
        text = torch.stack([shakespeare[s : s + 65] for s in starts])
        loss = F.cross_entropy(model(text[:, :-1]).flatten(0, 1), text[:, 1:].flatten())
        opt.zero_grad()
        loss.backward()
        opt.step()
        losses.append(loss.item())
    assert losses[0] > math.log(65) - 0.5
    assert sum(losses[-10:]) / 10 < float(frequency) - 0.3  # 3.3 nats a letter
