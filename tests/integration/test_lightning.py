"""Lightning: the page runs, and does what a plain loop does."""

import copy
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.data import DataLoader, TensorDataset

from support.networks import numbers, resnet, same, snapshot
from support.pages import (
    RULES,
    fallen,
    optimizer,
    run_page,
    train_plainly,
)

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:.*tensorboardX:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
    pytest.mark.filterwarnings("ignore:The dirpath has changed"),
]


class Page(NamedTuple):
    """The scope that the page leaves, a twin of its network from before training, its folder."""

    scope: dict
    twin: nn.Module
    folder: Path


@pytest.fixture(scope="module")
def few(digits):
    """12 batches of digits, in the same order every time."""
    part = TensorDataset(digits.images[:384], digits.labels[:384])
    return DataLoader(part, batch_size=32)


@pytest.fixture(scope="module")
def page(loader, once):
    with once() as folder:
        net = resnet()
        twin = copy.deepcopy(net)
        return Page(run_page("how-to/lightning", net=net, loader=loader), twin, folder)


def run(page, rule, loader, net=resnet, epochs=2, manual=False, resume=None, **options):
    """Train the page's classifier by a rule; returns it and its trainer."""
    import lightning

    class Ours(page.scope["Classifier"]):
        def configure_optimizers(self):
            return optimizer(self, rule)

    class Manual(Ours):
        automatic_optimization = False

        def training_step(self, batch, index):
            opt = self.optimizers()
            loss = super().training_step(batch, index)
            opt.zero_grad()
            self.manual_backward(loss)
            opt.step()
            return loss

    torch.manual_seed(0 if resume is None else 1)  # what is resumed starts from other weights
    module = (Manual if manual else Ours)(net())
    trainer = lightning.Trainer(max_epochs=epochs, log_every_n_steps=1, **options)
    trainer.fit(module, loader, ckpt_path=resume)
    return module, trainer


def logged(key):
    """What the last run wrote of a key, in order, for TensorBoard."""
    newest = max(Path("lightning_logs").iterdir(), key=lambda folder: folder.stat().st_mtime_ns)
    events = EventAccumulator(str(newest), size_guidance={"scalars": 0})
    return [point.value for point in events.Reload().Scalars(key)]


@pytest.fixture(scope="module", params=RULES)
def trained(request, page, few, once):
    """By each rule for two epochs: the rule, the module and its trainer."""
    with once():
        return request.param, *run(page, request.param, few)


def test_the_page_ends_where_a_plain_loop_does(page, loader, monkeypatch):
    scope, twin, folder = page
    monkeypatch.chdir(folder)
    batches = [*loader, *loader]
    opt, losses = train_plainly(twin, batches, "auto", horizon=len(batches))
    assert same(scope["net"], snapshot(twin))
    assert logged("loss") == pytest.approx(losses)
    assert fallen(losses, 0.3)
    assert logged("effective_lr")[-1] == float(opt.param_groups[0]["effective_lr"]) > 0
    assert scope["trainer"].optimizers[0].skipped_steps == 0


def test_manual_optimisation_ends_where_automatic_does(trained, page, few):
    rule, automatic, _ = trained
    manual, trainer = run(page, rule, few, manual=True)
    assert same(manual, snapshot(automatic))
    assert manual.optimizers().optimizer is trainer.optimizers[0]


def test_a_run_cut_short_ends_where_one_in_a_piece_does(trained, page, few):
    rule, whole, trainer = trained
    run(page, rule, few, epochs=1)[1].save_checkpoint("half.ckpt")
    resumed, other = run(page, rule, few, resume="half.ckpt")
    assert same(resumed, snapshot(whole))
    assert numbers(other.optimizers[0]) == numbers(trainer.optimizers[0])


def test_the_monitor_shows_the_multiplier_and_the_pages_callback_the_step(page, few, monkeypatch):
    from lightning.pytorch.callbacks import LearningRateMonitor

    monkeypatch.delattr(page.scope["Classifier"], "on_train_batch_end")  # the callback's task now
    took = []
    hook = register_optimizer_step_post_hook(
        lambda opt, *_: took.append(float(opt.param_groups[0]["effective_lr"]))
    )
    both = [LearningRateMonitor("step"), page.scope["LogOptimizer"]()]
    run(page, "agd", few, epochs=1, callbacks=both)
    hook.remove()
    assert logged("lr-Optimizer") == [1.0] * len(few)
    assert logged("effective_lr") == pytest.approx(took)
    assert len(set(took)) > len(few) // 2
