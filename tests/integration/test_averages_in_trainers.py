"""Trainers evaluate, save and load the average of the weights without knowing of it."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import untuned
from support.averages import Average, averages, iterates
from support.networks import GPT2, equal, resnet

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:.*pin_memory.*no accelerator:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*tensorboardX:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
]


@pytest.fixture(autouse=True)
def _fresh():
    """All of Accelerate's objects in a process share a state: forget it."""
    from accelerate.state import AcceleratorState, GradientState

    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@pytest.fixture(scope="module")
def passages(shakespeare):
    """Pieces of 64 characters."""
    return [{"input_ids": piece, "labels": piece} for piece in shakespeare[: 200 * 64].split(64)]


def trainer(passages, callback=None, seed=0, **arguments):
    from transformers import Trainer, TrainingArguments

    torch.manual_seed(seed)
    given = {"max_steps": 20, "save_steps": 5, "eval_steps": 5, "eval_strategy": "steps"}
    given |= {"lr_scheduler_type": "constant", "per_device_train_batch_size": 4}
    return Trainer(
        GPT2().body,
        TrainingArguments("runs", **(given | arguments)),
        train_dataset=passages[:160],
        eval_dataset=passages[160:],
        optimizer_cls_and_kwargs=(lambda: untuned.Auto, {}),
        callbacks=[callback] if callback else None,
    )


def saved_at(step):
    from safetensors.torch import load_file

    return load_file(f"runs/checkpoint-{step}/model.safetensors")


def test_hugging_face_evaluates_and_saves_the_average(passages):
    from transformers import TrainerCallback

    class Watch(TrainerCallback):
        average = None

        def on_step_end(self, args, state, control, optimizer, **_):
            self.average = self.average or Average(optimizer.optimizer)
            self.average.follow()

    watch = Watch()
    run = trainer(passages, watch)
    run.train()
    watch.average.check(rtol=1e-4, atol=1e-6)
    weights = averages(run.model)
    for name, value in saved_at(20).items():
        assert torch.equal(value, weights[name])
    other = trainer(passages, seed=1)
    other.model.load_state_dict(saved_at(10), strict=False)  # the tied weight is saved once
    said = [row["eval_loss"] for row in run.state.log_history if "eval_loss" in row]
    assert said[1] == pytest.approx(other.evaluate()["eval_loss"], rel=1e-5)


def test_hugging_face_loads_the_best_average_at_the_end(passages):
    run = trainer(passages, load_best_model_at_end=True, metric_for_best_model="eval_loss")
    run.train()
    state = json.loads(Path("runs/checkpoint-20/trainer_state.json").read_text())
    said = {r["step"]: r["eval_loss"] for r in state["log_history"] if "eval_loss" in r}
    best = min(said, key=said.get)
    weights = averages(run.model)
    for name, value in saved_at(best).items():
        assert torch.equal(value, weights[name])
    assert run.evaluate()["eval_loss"] == pytest.approx(said[best], rel=1e-5)


def test_hugging_face_goes_on_bit_for_bit(passages):
    whole = trainer(passages, gradient_accumulation_steps=2)
    whole.train()
    resumed = trainer(passages, gradient_accumulation_steps=2, seed=1)
    resumed.train(resume_from_checkpoint="runs/checkpoint-10")
    assert equal(averages(resumed.model), averages(whole.model))
    ours, theirs = (iterates(run.model, run.optimizer.optimizer) for run in (whole, resumed))
    assert ours
    assert equal(ours, theirs)


def lightning_module(seed=0):
    import lightning

    class Classifier(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = resnet()
            self.said, self.average = [], None

        def training_step(self, batch, _):
            return F.cross_entropy(self.net(batch[0]), batch[1])

        def validation_step(self, batch, _):
            loss = F.cross_entropy(self.net(batch[0]), batch[1])
            self.said.append((averages(self), float(loss)))
            self.log("loss", loss)

        def configure_optimizers(self):
            return untuned.Auto(self)

        def on_before_zero_grad(self, optimizer):
            self.average = self.average or Average(optimizer)
            if optimizer.state:
                self.average.follow()

    torch.manual_seed(seed)
    return Classifier()


def fit(module, loader, epochs, resume=None):
    import lightning

    run = lightning.Trainer(
        max_epochs=epochs,
        limit_train_batches=12,
        limit_val_batches=2,
        num_sanity_val_steps=0,
        val_check_interval=6,
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    run.fit(module, loader, loader, ckpt_path=resume)
    return run


def test_lightning_validates_and_saves_the_average(loader):
    """Also within an epoch, and of a root that is never called."""
    module = lightning_module()
    run = fit(module, loader, 1)
    run.save_checkpoint("saved.ckpt")
    saved = torch.load("saved.ckpt", weights_only=False)["state_dict"]
    optimizer = run.optimizers[0]
    assert equal({name: saved[name] for name, _ in module.named_parameters()}, averages(module))
    assert not equal(iterates(module, optimizer), averages(module))
    assert equal(module.said[-1][0], averages(module))
    fresh = lightning_module(1)
    fresh.load_state_dict(saved)
    images, labels = list(loader)[1]
    with torch.no_grad():
        loss = F.cross_entropy(fresh.eval().net(images), labels)
    assert module.said[-1][1] == pytest.approx(float(loss), rel=1e-5)
    assert len(module.said) == 4


def test_lightning_goes_on_bit_for_bit(loader):
    whole = lightning_module()
    its = fit(whole, loader, 2).optimizers[0]
    fit(lightning_module(), loader, 1).save_checkpoint("half.ckpt")
    resumed = lightning_module(1)
    optimizer = fit(resumed, loader, 2, resume="half.ckpt").optimizers[0]
    assert equal(dict(resumed.state_dict()), dict(whole.state_dict()))
    assert equal(iterates(resumed, optimizer), iterates(whole, its))


@pytest.mark.parametrize("prepared", ["together", "model first"])
def test_accelerate_evaluates_and_goes_on_from_the_average(prepared, loader):
    from accelerate import Accelerator

    def run(steps, resume=False):
        torch.manual_seed(int(resume))
        accelerator, model = Accelerator(gradient_accumulation_steps=2), resnet()
        if prepared == "together":
            model, opt = accelerator.prepare(model, untuned.Auto(model))
        else:
            model = accelerator.prepare(model)
            opt = accelerator.prepare(untuned.Auto(model))
        if resume:
            accelerator.load_state("saved")
        average = Average(opt.optimizer)
        for images, labels in list(loader)[steps]:
            with accelerator.accumulate(model):
                accelerator.backward(F.cross_entropy(model(images), labels))
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
                opt.step()
                opt.zero_grad()
            if accelerator.sync_gradients and not resume:
                average.follow()
        return accelerator, model, opt.optimizer, average

    accelerator, model, opt, average = run(slice(0, 12))
    average.check(rtol=1e-4, atol=1e-6)
    accelerator.save_state("saved")
    unwrapped = accelerator.unwrap_model(model)
    assert isinstance(unwrapped, nn.Sequential)
    assert equal(dict(accelerator.get_state_dict(model)), dict(unwrapped.state_dict()))
    _, model, opt, _ = run(slice(0, 24))
    _, other, its, _ = run(slice(12, 24), resume=True)
    assert equal(dict(other.state_dict()), dict(model.state_dict()))
    assert equal(iterates(other, its), iterates(model, opt))
