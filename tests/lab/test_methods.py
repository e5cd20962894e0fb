"""Optimizers by their text: what each stands for, and that it learns."""

import copy
import math
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

import untuned
from untuned.errors import UntunedError
from untuned.lab.baselines.methods import method_of
from untuned.lab.baselines.muon import hidden_matrices
from untuned.lab.baselines.table import BASELINES
from untuned.lab.errors import ConfigError

OURS = ("agd", "nero", "adam / sgd(lr=1e-5)", "agd(gain=2)", "sgd(lr=0.1)")


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(9, 8), nn.Flatten(), nn.Linear(16, 8), nn.ReLU(),
                         nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))  # fmt: skip


def train(model, optimizer, steps=5, each=lambda: None):
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        x = torch.randint(9, (12, 2), generator=generator)
        y = torch.randint(3, (12,), generator=generator)
        model.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        each()


def weights(model):
    return [p.detach().clone() for p in model.parameters()]


@pytest.mark.parametrize("text", [*OURS, *BASELINES])
def test_every_method_lowers_the_loss_on_digits(text, go):
    curve = go("fcn2-digits", text, steps=200).curve
    assert curve[-1]["valid_loss"] < 0.7 * curve[0]["valid_loss"]
    assert all(point["lr"] > 0 for point in curve[1:])


def test_a_lone_sgd_is_ours_and_sgdm_is_torchs():
    ours, _ = method_of("sgd(lr=0.2)").build(network(), 1)
    torchs, _ = method_of("sgdm(lr=0.2)").build(network(), 1)
    assert isinstance(ours, untuned.Optimizer)
    assert type(torchs) is torch.optim.SGD
    assert torchs.param_groups[0]["momentum"] == 0.9
    assert ours.param_groups[0]["lr"] == torchs.param_groups[0]["lr"] == 0.2


def test_only_agd_starts_from_the_papers_initialisation():
    for text in (*OURS, "adamw", "autoinitialised"):
        model = network()
        before = weights(model)
        method_of(text).build(model, 1)
        orthogonal = torch.allclose(model[4].weight @ model[4].weight.T, torch.eye(8), atol=1e-5)
        assert orthogonal == text.startswith(("agd", "autoinit"))
        if text in ("adamw", "sgd(lr=0.1)"):
            assert all(map(torch.equal, before, weights(model)))


def test_muon_moves_hidden_matrices_as_torchs_and_the_rest_as_adamw():
    model = network()
    other = copy.deepcopy(model)
    hidden = [other[2].weight, other[4].weight]
    rest = [p for p in other.parameters() if all(p is not h for h in hidden)]
    apart = torch.optim.Muon(hidden, lr=0.1), torch.optim.AdamW(rest, lr=0.02)
    joined, _ = method_of("muon(lr=0.1)").build(model, 5)
    assert [id(p) for p in hidden_matrices(model)] == [id(model[2].weight), id(model[4].weight)]
    train(model, joined)
    train(other, apart[0], each=apart[1].step)
    for mine, theirs in zip(weights(model), weights(other), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


def test_convolutions_and_tied_heads_are_not_for_muon():
    from support.networks import gpt2

    model = gpt2()
    hidden = set(map(id, hidden_matrices(model)))
    assert id(model.transformer.wte.weight) not in hidden
    assert len(hidden) == 4  # attention's two matrices and the two behind it
    assert hidden_matrices(nn.Conv2d(3, 3, 3)) == []


@pytest.mark.parametrize("name", ["DoG", "LDoG"])
def test_dog_is_evaluated_at_the_average_of_its_own_package(name):
    import dog

    model, other = network(), network()
    mine, _ = method_of(f"{name.lower()}(reps_rel=1e-3)").build(model, 9)
    theirs, averager = (
        getattr(dog, name)(other.parameters(), 1e-3),
        dog.PolynomialDecayAverager(other),
    )
    train(model, mine, steps=9)
    train(other, theirs, steps=9, each=averager.step)
    trained = weights(model)
    assert all(map(torch.equal, trained, weights(other)))
    mine.eval()
    mine.eval()  # a second time changes nothing
    for a, b in zip(weights(model), weights(averager.averaged_model), strict=True):
        torch.testing.assert_close(a, b)
    assert not any(map(torch.equal, trained, weights(model)))
    mine.train()
    assert all(map(torch.equal, trained, weights(model)))


def test_auto_can_be_told_a_horizon_and_others_cannot():
    model = nn.Linear(3, 2)
    optimizer, scheduler = method_of("auto").build(model, 4, "horizon")
    assert scheduler is None
    lengths = []
    for _ in range(4):
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        group = optimizer.param_groups[0]
        believed = float(group["floor0/network.believed"])  # first steps are shorter
        longest = math.log((1 + 5**0.5) / 2)  # of a head alone
        lengths.append(float(group["effective_lr"]) / longest / believed)
    assert lengths == pytest.approx([1, 3 / 4, 2 / 4, 1 / 4])
    with pytest.raises(ConfigError, match="Adam"):
        method_of("adamw").build(model, 4, "horizon")


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_schedules_are_torchs_own_in_sequence(schedule):
    model, steps, warm = network(), 60, 3
    optimizer, scheduler = method_of("sgdm(lr=2)").build(model, steps, schedule)
    other = torch.optim.SGD(network().parameters(), lr=2)
    up = LinearLR(other, start_factor=1 / warm, total_iters=warm - 1)
    down = (
        CosineAnnealingLR(other, steps - warm)
        if schedule == "cosine"
        else LinearLR(other, 1, 0, total_iters=steps - warm)
    )
    torchs = SequentialLR(other, [up, down], [warm])
    for _ in range(steps):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(other.param_groups[0]["lr"])
        for each in (optimizer, scheduler, other, torchs):
            each.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("adamww", "adamw"),
        ("adma / sgd(lr=1)", "adam"),
        ("prodgy", "prodigy"),
        ("adamw(learning_rate=1)", "lr"),
        ("adamw(0.1)", "adamw(lr=3e-4)"),
        ("adamw / sgd", "adamw is no rule"),
        ("adam /", "cannot be read"),
        ("sgd(lr=nonsense)", "unknown"),
        ("auto(gain=1)", "gain"),
    ],
)
def test_what_cannot_be_read_is_told_what_is_near(text, says):
    with pytest.raises(UntunedError, match=re.escape(says)):
        method_of(text)
