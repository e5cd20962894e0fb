"""Hugging Face: the page's Trainer does what a plain loop does, and goes on where it stopped."""

import copy
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

import untuned
from support.networks import GPT2, layers, numbers, same, snapshot
from support.pages import RULES, fallen, run_page

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:.*pin_memory.*no accelerator:UserWarning"),
]

STEPS = 10


@pytest.fixture(scope="module")
def passages(shakespeare):
    """Pieces of 64 characters."""
    return [{"input_ids": piece, "labels": piece} for piece in shakespeare[: 400 * 64].split(64)]


def language_model(dropout=0.1):
    model = GPT2().body
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = dropout
    return model


def trainer(model, dataset, optimizer=None, optimizers=(None, None), **arguments):
    """A Trainer as on the page, of fewer steps."""
    from transformers import Trainer, TrainingArguments

    given = {
        "max_steps": STEPS,
        "save_steps": STEPS // 2,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0,
    }
    return Trainer(
        model,
        TrainingArguments("runs", **(given | arguments)),
        train_dataset=dataset,
        optimizer_cls_and_kwargs=optimizer,
        optimizers=optimizers,
    )


class Page(NamedTuple):
    """The scope that the page leaves, a twin of its network from before, the batches it saw."""

    scope: dict
    twin: nn.Module
    batches: list[dict]


@pytest.fixture(scope="module")
def page(passages, once):
    with once():
        model = language_model(dropout=0)
        twin = copy.deepcopy(model)
        batches = []  # as the Trainer shuffles them, with what it says of the loss
        model.register_forward_pre_hook(lambda *call: batches.append(call[-1]), with_kwargs=True)
        scope = run_page("how-to/huggingface", model=model, dataset=passages)
        return Page(scope, twin, batches)


def test_the_page_learns_and_ends_where_a_plain_loop_does(page):
    scope, twin, batches = page
    opt, losses = untuned.Auto(twin, horizon=60), []
    for batch in batches:
        loss = twin(**batch).loss
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(twin.parameters(), 1.0)
        opt.step()
        losses.append(loss.item())
    assert same(scope["model"], snapshot(twin))
    history = [row["loss"] for row in scope["trainer"].state.log_history if "loss" in row]
    assert history == pytest.approx([sum(losses[i : i + 5]) / 5 for i in range(0, 60, 5)])
    assert fallen(losses, 0.8)


def test_the_pages_trainers_log_what_auto_finds_and_know_the_horizon_of_epochs(page, passages):
    """400 pieces in batches of 8 for two epochs, each batch of 20 accumulated: 3 steps an epoch."""
    scope = page.scope

    class Both(scope["EpochTrainer"], scope["LoggingTrainer"]):
        pass

    arguments = scope["TrainingArguments"](
        "runs", num_train_epochs=2, logging_steps=1, lr_scheduler_type="constant",
        gradient_accumulation_steps=20, report_to="tensorboard",
    )  # fmt: skip
    logging = Both(
        language_model(), arguments, train_dataset=passages, optimizer_cls_and_kwargs=PLAIN
    )
    logging.train()
    history = [row for row in logging.state.log_history if "loss" in row]
    assert [row["steps"] for row in history] == [1, 2, 3, 4, 5, 6]
    left = [row["effective_lr"] / row["believed"] for row in history]
    assert [row["learning_rate"] for row in history] == [1.0] * 6
    assert left == pytest.approx([0.06 * (1 - t / 6) for t in range(6)], rel=1e-4)
    (written,) = Path("runs").rglob("events*")
    events = EventAccumulator(str(written)).Reload().Scalars("train/effective_lr")
    assert [each.value for each in events][:6] == pytest.approx(
        [r["effective_lr"] for r in history]
    )


def test_the_trainers_own_decay_beside_a_horizon_warns(passages):
    both = trainer(language_model(), passages, AUTO, lr_scheduler_type="linear")
    with pytest.warns(untuned.errors.HorizonWarning, match="drop the schedule"):
        both.train()


def test_the_class_itself_finds_the_module_that_has_the_trainers_groups(passages):
    models = language_model(dropout=0), language_model(dropout=0)
    models[1].load_state_dict(models[0].state_dict())
    ways = (untuned.Auto, {}), PLAIN
    runs = [trainer(m, passages, way, max_steps=3) for m, way in zip(models, ways, strict=True)]
    found = []
    for run in runs:
        run.train()
        pairs = zip(run.optimizer.param_groups, layers(run.optimizer), strict=True)
        found.append(
            {n: x for group, own in pairs for n, x in zip(group["param_names"], own, strict=True)}
        )
    assert len(runs[0].optimizer.param_groups) == 2  # with and without decay
    assert found[0] == found[1]
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


AUTO = (lambda: untuned.Auto, {"horizon": STEPS})
PLAIN = (lambda: untuned.Auto, {})
FACTORIES = {rule: (lambda: untuned.Optimizer, {"rule": rule}) for rule in RULES} | {"auto": AUTO}


@pytest.mark.parametrize("optimizer", FACTORIES.values(), ids=FACTORIES)
def test_a_run_cut_short_ends_where_one_in_a_piece_does(optimizer, passages):
    whole = trainer(language_model(), passages, optimizer)
    whole.train()
    resumed = trainer(language_model(), passages, optimizer)
    resumed.train(resume_from_checkpoint=f"runs/checkpoint-{STEPS // 2}")
    assert same(resumed.model, snapshot(whole.model))
    assert numbers(resumed.optimizer.optimizer) == numbers(whole.optimizer.optimizer)


def test_auto_learns_with_gradients_clipped_and_ends_at_its_horizon(passages):
    logged = trainer(language_model(), passages, AUTO, max_grad_norm=1.0, logging_steps=1)
    logged.train()
    assert fallen([row["loss"] for row in logged.state.log_history if "loss" in row], 0.9)
    last = logged.optimizer.param_groups[0]["effective_lr"]
    assert float(last) == pytest.approx(0.06 / STEPS, rel=1e-4)


def test_the_factory_sees_the_modules_and_an_optimizer_built_before_ends_there_too(passages):
    model, twin, other = (language_model(dropout=0) for _ in range(3))
    twin.load_state_dict(model.state_dict())
    other.load_state_dict(model.state_dict())
    factory = trainer(model, passages, (lambda: untuned.AGD, {}))
    built = trainer(twin, passages, optimizers=(untuned.AGD(twin), None))
    shapes = trainer(other, passages, (untuned.AGD, {}))
    for each in (factory, built, shapes):
        each.train()
    assert same(model, snapshot(twin))
    assert not same(model, snapshot(other))
    assert {group["layer"] for group in shapes.optimizer.param_groups} == {None}
    fused = untuned.geometry.Dense(parts=3, transposed=True)
    assert fused in layers(factory.optimizer)[0]


def test_arguments_for_weight_decay_warn_from_the_class_and_pass_the_factory_by(passages):
    decayed = trainer(language_model(), passages, (untuned.AGD, {}), weight_decay=0.1)
    with pytest.warns(untuned.errors.IgnoredWarning, match="weight_decay"):
        decayed.train()
    trainer(language_model(), passages, (lambda: untuned.AGD, {}), weight_decay=0.1).train()


def test_clipping_shortens_agds_steps(passages):
    """What the page says of `max_grad_norm`, for a limit far below the gradient's norm."""
    rates = []
    for limit in (0, 1e-3):
        torch.manual_seed(0)
        run = trainer(
            language_model(), passages, (lambda: untuned.AGD, {}), max_steps=1, max_grad_norm=limit
        )
        run.train()
        rates.append(float(run.optimizer.param_groups[0]["effective_lr"]))
    assert rates[1] < 0.1 * rates[0]
