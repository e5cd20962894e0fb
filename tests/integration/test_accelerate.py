"""Accelerate: the page runs, and does what a plain loop does."""

import copy

import pytest
import torch.nn.functional as F

import untuned
from support.networks import numbers, resnet, same, snapshot
from support.pages import RULES, fallen, optimizer, run_page, train_plainly

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def _fresh():
    """All of Accelerate's objects in a process share a state: forget it."""
    from accelerate.state import AcceleratorState, GradientState

    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def prepared(rule, loader):
    from accelerate import Accelerator

    accelerator, model = Accelerator(), resnet()
    return accelerator, *accelerator.prepare(model, optimizer(model, rule), loader)


def take_steps(accelerator, model, opt, batches):
    for images, labels in batches:
        accelerator.backward(F.cross_entropy(model(images), labels))
        opt.step()
        opt.zero_grad()


def test_the_page_accumulates_gradients_and_ends_where_a_plain_loop_does(loader, capsys):
    model = resnet()
    twin = copy.deepcopy(model)
    scope = run_page("how-to/accelerate", model=model, loader=loader)
    opt, losses = train_plainly(twin, loader, "auto", chunks=2, horizon=len(loader) // 2)
    assert same(scope["model"], snapshot(twin))
    assert fallen(losses, 0.7)
    assert scope["loss"].item() == losses[-1]
    assert scope["opt"].param_groups[0]["effective_lr"] == opt.param_groups[0]["effective_lr"]
    assert scope["opt"].optimizer.skipped_steps == 0
    assert capsys.readouterr().out == f"{untuned.metrics(opt)}\n"
    assert untuned.metrics(opt)["effective_lr"] < 0.01  # the end of the horizon


@pytest.mark.parametrize("rule", RULES)
def test_what_is_prepared_goes_on_from_a_saved_state(rule, loader):
    batches = list(loader)[:24]
    accelerator, model, opt, _ = prepared(rule, loader)
    take_steps(accelerator, model, opt, batches[:12])
    accelerator.save_state("saved")
    take_steps(accelerator, model, opt, batches[12:])
    weights, found = snapshot(model), numbers(opt.optimizer)

    accelerator, model, opt, _ = prepared(rule, loader)
    assert not same(model, weights)
    accelerator.load_state("saved")
    take_steps(accelerator, model, opt, batches[12:])
    assert same(model, weights)
    assert numbers(opt.optimizer) == found
