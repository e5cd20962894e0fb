"""The pages tell the truth: their code runs, and does what they say of it."""

import copy
import re

import pytest
import torch
import torch.nn.functional as F
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.data import DataLoader, TensorDataset

import untuned
from support.networks import same, snapshot
from support.pages import (
    PAGES,
    ROOT,
    code_of,
    fallen,
    pages_run_by,
    run_page,
    text_of,
    train_plainly,
)
from untuned.notation import tower_of

FILES = (ROOT / "tests").rglob("test_*.py")
RUN = set().union(*map(pages_run_by, FILES))


def classifier(outputs=10):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, outputs))


@pytest.fixture
def loader(digits):
    return DataLoader(TensorDataset(*digits), batch_size=32, drop_last=True)


@pytest.fixture
def model():
    return classifier()


@pytest.fixture(autouse=True)
def _alone(tmp_path, monkeypatch):
    """Pages write where they are run."""
    monkeypatch.chdir(tmp_path)


def loss_of(model, loader):
    with torch.no_grad():
        return F.cross_entropy(model(loader.dataset.tensors[0]), loader.dataset.tensors[1]).item()


@pytest.mark.parametrize("page", [page for page in PAGES if code_of(page)])
def test_every_page_with_code_is_run(page):
    assert page in RUN


def test_the_plain_loop_learns_and_ends_where_ours_does(model, loader):
    twin = copy.deepcopy(model)
    run_page("how-to/plain-loop", slice(1), model=model, loader=loader)
    _, losses = train_plainly(twin, loader, "auto")
    assert same(model, snapshot(twin))
    assert fallen(losses, 0.5)


def test_autos_page_makes_an_optimizer_that_learns(model, loader):
    start = loss_of(model, loader)
    opt = run_page("auto", model=model)["opt"]
    for images, labels in loader:
        opt.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        opt.step()
    assert loss_of(model, loader) < start / 2


def test_the_report_shows_what_was_inferred_and_stated(model, loader, capsys):
    run_page("how-to/inferred", slice(1), model=model, loader=loader)
    size = float(torch.cat([x for x, _ in loader])[: 8 * 32].square().mean().sqrt())
    printed = capsys.readouterr().out
    assert f"  {size:.2g}" in printed
    assert printed.count("head") == 2  # the column, and one row
    opt = run_page("how-to/inferred", model=model, loader=loader)["opt"]
    F.cross_entropy(model(loader.dataset.tensors[0]), loader.dataset.tensors[1]).backward()
    opt.step()
    assert untuned.report(opt).layers[0].inputs == 20


def test_the_adversarial_page_finds_the_modes_of_a_ring():
    """Eight Gaussians: most have samples near them soon, where the start has none."""

    def perceptron(inputs, outputs):
        sizes = (inputs, 64), (64, 64)
        layers = [each for fan in sizes for each in (nn.Linear(*fan), nn.ReLU())]
        return nn.Sequential(*layers, nn.Linear(64, outputs))

    angles = torch.arange(8) * torch.pi / 4
    centres = 2 * torch.stack([angles.cos(), angles.sin()], 1)
    generator = perceptron(8, 2)

    def modes():
        with torch.no_grad():
            distances = torch.cdist(generator(torch.randn(2000, 8)), centres)
        near = distances.min(1)
        return (near.indices[near.values < 0.25].bincount(minlength=8) > 20).sum().item()

    assert modes() == 0
    loader = [centres[torch.randint(8, (256,))] + 0.05 * torch.randn(256, 2) for _ in range(600)]
    discriminator = perceptron(2, 1)
    run_page("how-to/adversarial", generator=generator, discriminator=discriminator, loader=loader)
    assert modes() >= 5


def test_the_plain_loop_accumulates_and_takes_closures(model, loader):
    scope = run_page("how-to/plain-loop", model=model, loader=loader)
    assert 0 < scope["loss"].item() < 1
    assert scope["opt"].skipped_steps == 0


def test_hooks_see_each_step_and_torchs_average_is_that_of_the_iterates(model, loader):
    run, (block,) = [], [b for b in code_of("how-to/plain-loop") if "AveragedModel" in b]
    hook = register_optimizer_step_post_hook(lambda *_: run.append(snapshot(model)))
    scope = {"model": model, "loader": loader, "torch": torch, "untuned": untuned}
    exec(block, scope)
    hook.remove()
    mean = None
    for weights in run:
        now = [weight.double() for weight in weights]
        mean = now if mean is None else [0.9 * m + 0.1 * n for m, n in zip(mean, now, strict=True)]
    for found, expected in zip(scope["ema"].module.parameters(), mean, strict=True):
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    log = scope["log"]
    assert [row["steps"] for row in log[1::2]] == list(range(1, len(loader) + 1))
    assert log[-2] == scope["loss"].item() < log[0] / 2  # before the last step, and the first


def test_the_schedule_warms_up_and_ends_at_zero(model, loader):
    rates, start = [], loss_of(model, loader)
    hook = register_optimizer_step_post_hook(
        lambda opt, *_: rates.append(float(opt.param_groups[0]["effective_lr"]))
    )
    scope = run_page("how-to/schedulers", model=model, loader=loader)
    hook.remove()
    assert rates[0] == pytest.approx(0.001)
    assert max(rates) == rates[5] == pytest.approx(0.01)
    assert scope["opt"].param_groups[0]["lr"] == pytest.approx(0, abs=1e-6)
    assert loss_of(model, loader) < start


def test_what_is_resumed_ends_where_what_went_on_does(model, loader):
    whole = copy.deepcopy(model)
    opt, _ = train_plainly(whole, [*loader, *loader], "adam / sgd")
    scope = run_page("how-to/checkpoints", model=model, loader=loader, build=classifier)
    assert same(scope["resumed"], snapshot(whole))
    assert scope["opt"].hyperparameters() == opt.hyperparameters()


def test_fine_tuning_needs_no_setting(model, loader):
    train_plainly(model, loader, "adam(lr=0.01)")
    start = loss_of(model, loader)
    run_page("how-to/fine-tuning", slice(1), model=model, loader=loader)
    assert loss_of(model, loader) < start


def test_what_fine_tuning_may_expect_is_what_the_results_say():
    page, results = text_of("how-to/fine-tuning"), text_of("results")
    rows = re.findall(r"^\| ([\w-]*\w) \| [^|]+ \| (\S+) \| (\S+) \|$", page, re.MULTILINE)
    assert len(rows) == 5
    for workload, saved, away in rows:
        assert f"| {workload} | {saved} ({away}) |" in results


def test_fine_tuning_moves_the_head_first_then_the_body_a_tenth_as_far(model, loader):
    train_plainly(model[:-1].append(nn.Linear(32, 10)), loader, "adam(lr=0.01)")
    before, start, head = snapshot(model[:-1]), loss_of(model, loader), model[-1]
    given = {"model": model, "loader": loader, "head": head, "torch": torch, "untuned": untuned}
    run_page("how-to/fine-tuning", slice(1, 2), **given)
    assert same(model[:-1], before)
    only_head = loss_of(model, loader)
    assert only_head < 0.9 * start
    scope = run_page("how-to/fine-tuning", slice(1, None), **given)
    assert not same(model[:-1], before)
    assert loss_of(model, loader) < only_head
    rates = {group["lr"]: len(group["params"]) for group in scope["opt"].param_groups}
    assert rates == {0.001: 2, 0.01: 2}  # a weight and a bias each


def test_the_log_has_what_its_table_names_and_a_tower_every_floor(model, loader, capsys):
    scope = run_page("how-to/logging", model=model, loader=loader)
    names = {"lr", "effective_lr", "skipped_steps", "steps", "degree", "reversals", "believed"}
    assert {f"`{name}`" for name in names} <= set(re.findall(r"`\w+`", text_of("how-to/logging")))
    events = EventAccumulator("runs/digits").Reload()
    assert set(events.Tags()["scalars"]) == {"loss"} | names
    written = [(point.step, point.value) for point in events.Scalars("steps")]
    assert written == [(step, step + 1) for step in range(0, len(loader), 10)]
    losses = [point.value for point in events.Scalars("loss")]
    assert losses[-1] < 0.5 * losses[0]
    assert list(map(float, capsys.readouterr().out.split())) == pytest.approx([1e-3, 0.9, 1e-3])
    assert untuned.metrics(scope["opt"]).keys() >= {
        f"floor{k}/{name}" for k in (0, 1) for name in ("lr", "beta1", "beta2", "eps")
    }


def test_a_rule_alone_is_torchs_and_what_gdtuo_had_trains(model, loader):
    scope = run_page("how-to/migrating", slice(1), model=model)
    images, labels = next(iter(loader))
    for _ in range(5):
        for each, opt in ((model, scope["ours"]), (scope["twin"], scope["theirs"])):
            opt.zero_grad()
            F.cross_entropy(each(images), labels).backward()
            opt.step()
    for ours, theirs in zip(model.parameters(), scope["twin"].parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)
    run_page("how-to/migrating", model=model, loader=loader)
    assert loss_of(model, loader) < 1.5


def test_what_the_table_of_migrations_says_can_be_built(model):
    from untuned.rules import SGD, Adam

    table = text_of("how-to/migrating").split("\n\n")[1]
    built = 0
    for row in table.splitlines()[2:]:
        for code in re.findall(r"`([^`]+)`", row.split("|")[2]):
            given = {"untuned": untuned, "model": model, "net": model, "SGD": SGD, "Adam": Adam}
            made = eval(code.replace("...", "Adam()"), given)
            built += untuned.Optimizer(model, made) is not None if isinstance(made, str) else 1
    assert built >= 8


def test_rules_of_ones_own_are_tuned_and_see_geometry():
    code = code_of("how-to/own-rule")[0]
    assert len(code.split("@dataclass")[1].strip().splitlines()) <= 10
    scope = run_page("how-to/own-rule", slice(1))
    opt = scope["opt"]
    for _ in range(3):
        for param in opt.param_groups[0]["params"]:
            param.grad = torch.ones_like(param)
        opt.step()
    below, _ = opt.hyperparameters()[0]
    assert below["lr"] > 0.01
    assert below["sharpness"] != pytest.approx(5.0, rel=1e-9)

    weight = nn.Parameter(torch.zeros(16, 4))
    opt = untuned.Optimizer([weight], run_page("how-to/own-rule")["Normalised"](lr=0.5))
    weight.grad = torch.randn(16, 4)
    opt.step()
    assert weight.detach().norm().item() == pytest.approx(0.5 * (16 / 4) ** 0.5)
    torch.testing.assert_close(
        F.normalize(weight.flatten(), dim=0), -F.normalize(weight.grad.flatten(), dim=0)
    )


def test_geometries_of_ones_own_are_used():
    scope = run_page("how-to/own-geometry")
    matrices = scope["experts"].weight.detach().unflatten(0, (8, 32))
    eye = torch.eye(16).expand(8, 16, 16) * 32 / 16
    torch.testing.assert_close(matrices.mT @ matrices, eye, rtol=1e-4, atol=1e-4)
    assert scope["experts"](torch.randn(3, 16)).shape == (3, 8, 32)
    weights, opt = scope["weights"], scope["opt"]
    weights.grad, before = torch.ones(9), weights.detach().clone()
    opt.step()
    eta = float(opt.param_groups[0]["effective_lr"])
    assert (weights.detach() - before).norm().item() == pytest.approx(eta / 3, rel=1e-3)


def test_the_ideas_examples_run():
    weight = run_page("ideas/nero")["model"].weight.detach()
    assert weight.norm(dim=1).tolist() == pytest.approx([1.0] * 10, abs=1e-5)
    assert weight.mean(1).tolist() == pytest.approx([0.0] * 10, abs=1e-6)
    floors = run_page("ideas/towers")["opt"].hyperparameters()[0]
    assert [set(floor) for floor in floors] == [{"lr", "beta1", "beta2", "eps"}] * 2
    assert floors[0]["lr"] != pytest.approx(1e-3)


def test_every_tower_of_the_table_can_be_built(model):
    table = text_of("ideas/towers").split("| you write")[1].split("\n\n")[0]
    towers = re.findall(r"`([^`]+)`", "".join(row.split("|")[1] for row in table.splitlines()[2:]))
    assert len(towers) == 6
    for tower in towers:
        given = {name: getattr(untuned.rules, name) for name in untuned.rules.__all__}
        assert len(tower_of(eval(tower, given)).floors) >= 2
