"""Four ways in which people train, each with one line changed: they run, say what to mend, learn.

The loops are written as their users write them: options, groups and schedules of AdamW are left in.
"""

import math
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import lr_scheduler

import untuned
from support.networks import GPT2, resnet
from support.pages import fallen
from untuned.errors import BareTensorsWarning, HorizonWarning, IgnoredWarning, LearningRateWarning

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:.*pin_memory.*no accelerator:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*tensorboardX:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
]

OURS = (BareTensorsWarning, HorizonWarning, IgnoredWarning, LearningRateWarning)


def said(train, *given):
    """What a training returns, and which of our warnings it gave, in order."""
    torch.manual_seed(0)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        result = train(*given)
    return result, [each.category for each in seen if each.category in OURS]


def last(losses):
    return sum(losses[-10:]) / 10


def decay_groups(model, decay):
    """As recipes make them: matrices with weight decay, vectors without."""
    params = [param for param in model.parameters() if param.requires_grad]
    return [
        {"params": [param for param in params if param.dim() >= 2], "weight_decay": decay},
        {"params": [param for param in params if param.dim() < 2], "weight_decay": 0.0},
    ]


# 1. A language model: groups, a rate set by hand in each step, clipping


def by_hand(optimizer, learning_rate, steps=60, warm=10):
    """Train a GPT with a loop that sets the rate itself; returns losses."""

    def train(text):
        model = GPT2().body
        opt = optimizer(model)
        losses = []
        for step in range(steps):
            share = 0.5 * (1 + math.cos(math.pi * max(0, step - warm) / (steps - warm)))
            lr = learning_rate * (step + 1) / (warm + 1) if step < warm else learning_rate * share
            for group in opt.param_groups:
                group["lr"] = lr
            starts = torch.randint(len(text) - 33, (8,))
            tokens = torch.stack([text[i : i + 32] for i in starts])
            loss = model(input_ids=tokens, labels=tokens).loss
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            opt.step()
            opt.zero_grad(set_to_none=True)
            losses.append(loss.item())
        return losses

    return train


def adamw(model):
    return torch.optim.AdamW(decay_groups(model, 0.1), lr=1e-3, betas=(0.9, 0.95), fused=True)


def auto_for_it(model):
    return untuned.Auto(decay_groups(model, 0.1), betas=(0.9, 0.95), fused=True)


def test_a_loop_that_sets_its_rate_says_what_to_mend_and_then_learns(shakespeare):
    before, none = said(by_hand(adamw, 1e-3), shakespeare)
    assert none == []
    left, warned = said(by_hand(untuned.Auto, 1e-3), shakespeare)
    assert warned == [LearningRateWarning]
    assert last(left) > last(before)  # what the warning is about
    mended, warned = said(by_hand(untuned.Auto, 1.0), shakespeare)
    assert warned == []
    assert last(mended) < last(before)


def test_the_same_loop_with_its_groups_and_options_left_in(shakespeare):
    before, _ = said(by_hand(adamw, 1e-3), shakespeare)
    mended, warned = said(by_hand(auto_for_it, 1.0), shakespeare)
    assert warned == [IgnoredWarning]
    assert last(mended) < last(before)


# 2. Images: groups without decay for vectors, a cosine by epochs, an average, checkpoints


def by_epochs(optimizer, epochs=3):
    def train(loader):
        model = resnet()
        opt = optimizer(decay_groups(model, 0.05))
        schedule = lr_scheduler.CosineAnnealingLR(opt, T_max=epochs)
        losses = []
        for _ in range(epochs):
            model.train()
            for images, labels in loader:
                loss = F.cross_entropy(model(images), labels, label_smoothing=0.1)
                opt.zero_grad()
                loss.backward()
                opt.step()
                losses.append(loss.item())
            schedule.step()
            saved = {"model": model.state_dict(), "opt": opt.state_dict()}
            opt.load_state_dict(saved["opt"])
        model.eval()
        return losses

    return train


def test_a_loop_of_epochs_with_no_decay_groups_learns(loader):
    batches = list(loader)[:30]
    before, _ = said(by_epochs(lambda groups: torch.optim.AdamW(groups, lr=1e-3)), batches)
    after, warned = said(by_epochs(untuned.Auto), batches)
    assert warned == [IgnoredWarning]
    assert fallen(after, 0.5)
    assert last(after) < 1.1 * last(before)


# 3. Fine-tuning with a schedule of transformers, warm-up and linear decay


def fine_tuning(optimizer, steps=40):
    def train(text):
        from transformers import get_scheduler

        model = GPT2().body
        opt = optimizer(model)
        schedule = get_scheduler("linear", opt, num_warmup_steps=5, num_training_steps=steps)
        losses = []
        model.train()
        for step in range(steps):
            tokens = text[step * 256 : (step + 1) * 256].view(8, 32)
            loss = model(input_ids=tokens, labels=tokens).loss
            loss.backward()
            opt.step()
            schedule.step()
            opt.zero_grad()
            losses.append(loss.item())
        return losses

    return train


def test_a_fine_tuning_script_learns_with_its_schedule_left_in(shakespeare):
    before, _ = said(fine_tuning(lambda m: torch.optim.AdamW(m.parameters(), 5e-4)), shakespeare)
    after, warned = said(fine_tuning(lambda m: untuned.Auto(m.parameters())), shakespeare)
    assert warned == []
    assert last(after) < last(before)
    _, warned = said(fine_tuning(lambda m: untuned.Auto(m.parameters(), 5e-5)), shakespeare)
    assert warned == [LearningRateWarning]


# 4. A Lightning module with OneCycleLR


def one_cycle(optimizer, max_lr):
    def train(loader):
        import lightning

        class Classifier(lightning.LightningModule):
            def __init__(self):
                super().__init__()
                self.net, self.losses = resnet(), []

            def training_step(self, batch, _):
                images, labels = batch
                loss = F.cross_entropy(self.net(images), labels)
                self.losses.append(loss.item())
                return loss

            def configure_optimizers(self):
                opt = optimizer(self.parameters())
                steps = self.trainer.estimated_stepping_batches
                schedule = lr_scheduler.OneCycleLR(opt, max_lr=max_lr, total_steps=steps)
                scheduler = {"scheduler": schedule, "interval": "step"}
                return {"optimizer": opt, "lr_scheduler": scheduler}

        module = Classifier()
        lightning.Trainer(max_epochs=1, logger=False, enable_checkpointing=False).fit(
            module, loader
        )
        return module.losses

    return train


def test_a_lightning_module_with_one_cycle_says_what_to_mend_and_then_learns(loader):
    before, _ = said(one_cycle(lambda params: torch.optim.AdamW(params, 1e-3), 3e-3), loader)
    _, warned = said(one_cycle(untuned.Auto, 3e-3), loader)
    assert set(warned) == {LearningRateWarning, IgnoredWarning}  # the rate, and its momentum
    after, warned = said(one_cycle(untuned.Auto, 1.0), loader)
    assert warned == [IgnoredWarning]
    assert fallen(after, 0.3)
    assert last(after) < 1.1 * last(before)
