"""Training loops of the user's own: the lab counts and validates, and changes nothing."""

import math
import random
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import untuned
from untuned.lab.config import Config
from untuned.lab.errors import ConfigError
from untuned.lab.training import run as training
from untuned.lab.workloads import TrainingLoop, Workload


def network():
    return nn.Sequential(nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 10))


@pytest.fixture
def batches(digits):
    """Ten batches of images and labels; the eleventh is for validation."""
    return list(zip(digits.images.flatten(1).split(100), digits.labels.split(100), strict=True))


def train(batches, model, optimizer):
    for images, labels in batches[:10]:
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss


def validate(batches, model):
    return F.cross_entropy(model(batches[10][0]), batches[10][1])


@pytest.fixture
def go(batches, monkeypatch):
    """A run of a loop."""

    def started(optimizer="adamw", steps=25, train=train, **options):
        loop = TrainingLoop(network, partial(train, batches), partial(validate, batches), 25)
        monkeypatch.setattr(training, "find", lambda name: Workload("a loop", lambda size: loop))
        options = {"accelerator": "cpu", "steps": steps, "seed": 3} | options
        return training.run(Config("mine", optimizer, **options))

    return started


def alone(batches, make_optimizer, rate=lambda step: None):
    """The same training without the lab: its validation and training losses."""
    torch.manual_seed(3)
    model, losses, valid = network(), [], []
    opt = make_optimizer(model)
    for step in range(26):
        model.eval()
        with torch.no_grad():
            valid.append(validate(batches, model).item())
        model.train()
        if step == 25:
            return valid, losses
        for group in opt.param_groups:
            group["lr"] = rate(step) or group["lr"]
        images, labels = batches[step % 10]  # the third time around, half of the batches
        loss = F.cross_entropy(model(images), labels)
        opt.zero_grad()
        loss.backward()
        opt.step()
        losses.append(loss.item())


def test_a_loop_trains_as_it_would_alone_with_the_schedule_of_the_grid(batches, go):
    def rate(step):
        """Warm up for a twentieth of 25 steps, then half a cosine."""
        return 0.01 * (1 if step < 1 else (1 + math.cos(math.pi * (step - 1) / 24)) / 2)

    result = go("adamw(lr=0.01)", schedule="cosine")
    valid, losses = alone(batches, lambda model: torch.optim.AdamW(model.parameters()), rate)
    assert [point["valid_loss"] for point in result.curve] == pytest.approx(valid, rel=1e-6)
    assert [point["train_loss"] for point in result.curve[1:]] == pytest.approx(losses, rel=1e-6)
    assert (result.status, result.stopped_at, result.metric_name) == ("done", 25, "validation loss")


def test_auto_is_validated_at_its_average(batches, go):
    result = go("auto")
    valid, losses = alone(batches, untuned.Auto)
    unaveraged, _ = alone(batches, lambda model: untuned.Auto(model, average=False))
    assert [point["valid_loss"] for point in result.curve] == pytest.approx(valid, rel=1e-6)
    assert [point["train_loss"] for point in result.curve[1:]] == pytest.approx(losses, rel=1e-6)
    assert valid[-1] != pytest.approx(unaveraged[-1], rel=1e-3)


def test_random_numbers_are_the_same_for_every_optimizer_and_new_in_every_step(go):
    def drawing(drawn, batches, model, optimizer):
        for images, labels in batches[:10]:
            drawn.append((torch.rand(()).item(), np.random.rand(), random.random()))  # noqa: NPY002
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()
            if isinstance(optimizer, torch.optim.SGD):
                torch.rand(7)  # what an optimizer draws is its own
            yield 1.0

    first, second, other = [], [], []
    go("adamw", 12, partial(drawing, first))
    go("sgdm", 12, partial(drawing, second))
    go("adamw", 12, partial(drawing, other), seed=4)
    assert first == second
    for kind in zip(*first, *other, strict=True):
        assert len(set(kind)) == 24


@pytest.mark.parametrize(
    ("what", "says"),
    [
        (lambda batches, model, optimizer: None, "returns NoneType"),
        (lambda batches, model, optimizer: iter(()), "yields nothing"),
        (lambda batches, model, optimizer: [1.0], "takes 0 steps before it yields"),
        (lambda batches, model, optimizer: [list(train(batches, model, optimizer))], "takes 10"),
        (lambda batches, *rest: (None for _ in train(batches, *rest)), "yields NoneType"),
    ],
)
def test_a_loop_that_yields_otherwise_is_told_how(what, says, go):
    with pytest.raises(ConfigError, match=rf"train {says}.*: let it yield the loss once after"):
        go(train=what)


@pytest.mark.parametrize(
    ("options", "says"),
    [({"precision": "bf16-mixed"}, "in 32 bits"), ({"resume": True}, "cannot be resumed")],
)
def test_what_the_lab_cannot_do_with_a_loop_is_refused(options, says, go, tmp_path):
    with pytest.raises(ConfigError, match=says):
        go(folder=tmp_path, **options)
