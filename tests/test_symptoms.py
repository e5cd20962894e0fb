"""The page of symptoms: what it shows is there to be seen, and its mends mend."""

import inspect
import re
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import untuned
from support.networks import same, snapshot
from support.pages import run_page, text_of
from untuned import errors

PAGE = text_of("how-to/symptoms")


def classifier():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def train(model, opt, digits, steps=40, scale=1.0):
    """Train, and return the losses, and the kinds of warnings that came."""
    images, labels = (each[: 32 * steps].split(32) for each in digits)
    losses = []
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for batch, wanted in zip(images, labels, strict=True):
            loss = F.cross_entropy(model(scale * batch.flatten(1)), wanted)
            opt.zero_grad()
            loss.backward()
            opt.step()
            losses.append(loss.item())
    return losses, {each.category for each in seen}


@pytest.fixture
def trained(digits):
    model = classifier()
    opt = untuned.Auto(model)
    train(model, opt, digits)
    return model, opt


def test_the_page_shows_what_it_says(trained, digits, capsys):
    model, opt = trained
    images = digits[0][:32].flatten(1)
    scope = run_page("how-to/symptoms", model=model, opt=opt, images=images)
    printed = capsys.readouterr().out
    assert printed.startswith("Auto\n  parameters: 4 tensors")
    assert "'skipped_steps': 0.0" in printed
    assert "\n0\nTrue\n" in printed
    kept = 4 * (2 * 32 * 64 + 3 * (10 * 32 + 42)) / 2**20  # of 32 bits: a matrix, the head, vectors
    assert float(printed.split("MiB of state")[0].split()[-1]) == pytest.approx(kept, rel=0.1)
    average = classifier()
    average.load_state_dict(model.state_dict())
    assert torch.equal(scope["outputs"], average(images))
    assert not torch.allclose(scope["outputs"], model(images))  # a pass in training


def test_every_warning_is_listed():
    table = PAGE.split("## A warning was printed")[1]
    kinds = {
        name
        for name, each in inspect.getmembers(errors, inspect.isclass)
        if issubclass(each, Warning)
    }
    assert set(re.findall(r"^\| `(\w+)` ", table, re.MULTILINE)) == kinds
    assert set(re.findall(r"`(\w+Warning)`", PAGE)) == kinds


def test_a_learning_rate_left_in_stands_still_and_shows(digits):
    model = classifier()
    opt = untuned.Auto(model, lr=1e-3)
    losses, seen = train(model, opt, digits)
    assert seen == {errors.LearningRateWarning}
    assert untuned.metrics(opt)["lr"] == 1e-3
    assert losses[-1] > 0.98 * losses[0]


def test_steps_past_the_horizon_are_tiny_and_show(digits):
    model = classifier()
    opt = untuned.Auto(model, horizon=20)
    _, seen = train(model, opt, digits)
    found = untuned.metrics(opt)
    assert seen == {errors.HorizonWarning}
    assert found["steps"] == 40 > 20
    assert found["effective_lr"] == pytest.approx(0.06 * found["believed"] / 20)


def test_nan_moves_nothing_and_is_counted(trained):
    model, opt = trained
    before = snapshot(model)
    opt.zero_grad()
    model(torch.ones(2, 64)).mul(0).log().sum().backward()
    with pytest.warns(errors.NonFiniteGradientWarning, match="gradient of"):
        opt.step()
    assert same(model, before)
    assert opt.skipped_steps == 1


def test_the_loss_may_be_nan_while_gradients_are_finite(trained):
    model, opt = trained
    loss = (-model(torch.ones(2, 64)).abs()).log().sum()
    opt.zero_grad()
    loss.backward()
    opt.step()
    assert loss.isnan()
    assert opt.skipped_steps == 0


def test_frozen_and_replaced_layers_show():
    model = classifier()
    model[0].requires_grad_(False)
    assert "(2 frozen)" in repr(untuned.Auto(model))
    model = classifier()
    opt = untuned.Auto(model)
    model[2] = nn.Linear(32, 10)
    (code,) = re.findall(r"^(held = .*?)```", PAGE, re.DOTALL | re.MULTILINE)
    with pytest.raises(AssertionError):
        exec(code, {"opt": opt, "model": model})


def test_data_of_a_hundred_begin_far_above_chance_and_the_report_shows_their_size(digits):
    model = classifier()
    opt = untuned.Auto(model)
    losses, _ = train(model, opt, digits, scale=255.0)
    assert losses[0] > 3 * torch.tensor(10.0).log()
    seen = digits[0][: 8 * 32].mul(255).square().mean().sqrt()
    assert untuned.report(opt).layers[0].inputs == pytest.approx(seen.item(), rel=1e-4)


def test_training_in_eval_mode_warns_of_no_average(digits):
    model = classifier().eval()
    opt = untuned.Auto(model)
    assert errors.AverageWarning in train(model, opt, digits, steps=2)[1]


def test_the_times_of_a_step_are_those_of_the_results():
    results = text_of("results").split("## All optimizers")[0].split("Seconds saved by workload")[1]
    times = [
        float(t) for t in re.findall(r"^\| [\w-]+ \| \S+ \(([\d.]+)\D\)", results, re.MULTILINE)
    ]
    assert len(times) == 35
    said = re.search(r"takes ([\d.]+) to ([\d.]+) times as\s+long", PAGE)
    assert [float(said[1]), float(said[2])] == [round(min(times), 1), round(max(times))]
