"""What a tower promises: records that survive skips and saves, floors that stay in bounds."""

import copy
import gc
import math
import subprocess
import sys
import textwrap
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import untuned
from networks import backward, perceptron, same, snapshot
from untuned import errors, guard
from untuned.domain import POSITIVE, hyperparameter
from untuned.elementwise import Elementwise, Move
from untuned.notation import parse
from untuned.rules import AGD, SGD, AdaGrad, Adam, FreeNero, Nero, RMSProp

BOTTOMS = [
    SGD(0.1),
    SGD(0.1, momentum=0.9),
    AdaGrad(),
    RMSProp(),
    Adam(),
    AGD(),
    Nero(),
    FreeNero(),
    Adam().as_published(),
    SGD(0.1).per_tensor("lr"),
    Nero().per_tensor("lr", "beta"),
]
TOPS = [SGD(1.0), SGD(0.1, momentum=0.5), AdaGrad(), RMSProp(), Adam(0.05), AGD(), Nero()]


def train(model, opt, steps):
    losses = []
    for _ in range(steps):
        opt.zero_grad()
        losses.append(backward(model).item())
        opt.step()
    return losses


def numbers(opt):
    """Every hyperparameter of every floor and group."""
    return [v for floors in opt.hyperparameters() for floor in floors for v in floor.values()]


@pytest.mark.parametrize("top", TOPS, ids=repr)
@pytest.mark.parametrize("bottom", BOTTOMS, ids=repr)
def test_any_rule_stands_on_any_other(bottom, top):
    torch.manual_seed(0)
    model = perceptron()
    opt = untuned.Optimizer(model, bottom / top / SGD(0.1))
    start = numbers(opt)
    losses = train(model, opt, 30)
    assert losses[-1] < losses[0]
    floors = opt.hyperparameters()[0]
    assert len(floors) == 3
    assert all(math.isfinite(number) for number in numbers(opt))
    assert numbers(opt)[0] != start[0]  # the rate, or gain: others move less than 32 bits tell


def test_the_first_step_moves_weights_but_no_hyperparameter():
    model = perceptron()
    opt = untuned.Optimizer(model, Adam(0.1) / Adam(0.1) / SGD(0.1))
    start = numbers(opt)
    before = snapshot(model)
    train(model, opt, 1)
    assert numbers(opt) == pytest.approx(start, rel=1e-6)
    assert not same(model, before)
    train(model, opt, 1)
    assert numbers(opt) != pytest.approx(start, rel=1e-6)


@pytest.fixture(params=["host reads", "device only"])
def _eyes(request, monkeypatch):
    """Run both as on a CPU and as where the host must not look (a GPU, a compiled step)."""
    if request.param == "device only":
        monkeypatch.setattr(guard, "readable", lambda flag: False)


@pytest.mark.usefixtures("_eyes")
@pytest.mark.filterwarnings("ignore::untuned.errors.NonFiniteGradientWarning")
@pytest.mark.parametrize("bottom", BOTTOMS, ids=repr)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("when", [0, 3])
def test_a_skipped_step_leaves_everything_and_keeps_the_record(bottom, bad, when):
    torch.manual_seed(0)
    model = perceptron()
    twin_model = copy.deepcopy(model)
    opt = untuned.Optimizer(model, bottom / Adam(0.05) / SGD(0.1))
    twin = untuned.Optimizer(twin_model, bottom / Adam(0.05) / SGD(0.1))
    for step in range(6):
        if step == when:
            opt.zero_grad()
            backward(model)
            model[2].weight.grad[1, 1] = bad
            opt.step()
        train(model, opt, 1)
        train(twin_model, twin, 1)
    assert opt.skipped_steps == 1
    assert same(model, snapshot(twin_model))
    assert numbers(opt) == numbers(twin)


def test_a_grad_scaler_unscales_and_skips_and_the_record_is_kept():
    torch.manual_seed(0)
    model = perceptron()
    twin_model = copy.deepcopy(model)
    opt = untuned.Optimizer(model, Adam(0.1) / SGD(1.0))
    twin = untuned.Optimizer(twin_model, Adam(0.1) / SGD(1.0))
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for step in range(6):
        opt.zero_grad()
        loss = F.cross_entropy(model(torch.ones(4, 6)), torch.tensor([0, 1, 2, 0]))
        scaler.scale(loss).backward()
        if step == 3:  # one too many, which the scaler drops
            model[0].weight.grad[0, 0] = float("inf")
        scaler.unscale_(opt)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(opt)
        scaler.update()
        if step != 3:
            twin.zero_grad()
            backward(twin_model)
            nn.utils.clip_grad_norm_(twin_model.parameters(), 1.0)
            twin.step()
    assert opt.skipped_steps == 0  # it never saw it
    torch.testing.assert_close(list(model.parameters()), list(twin_model.parameters()))
    assert numbers(opt) == pytest.approx(numbers(twin), rel=1e-4)


def test_accumulated_gradients_are_one_gradient():
    model = perceptron()
    twin = copy.deepcopy(model)
    opt = untuned.Optimizer(model, SGD(0.1) / SGD(1.0))
    other = untuned.Optimizer(twin, SGD(0.1) / SGD(1.0))
    for _ in range(4):
        opt.zero_grad()
        backward(model)
        backward(model)
        opt.step()
        other.zero_grad(set_to_none=False)  # in place: a record must not be the gradient itself
        (2 * F.cross_entropy(twin(torch.ones(4, 6)), torch.tensor([0, 1, 2, 0]))).backward()
        other.step()
    torch.testing.assert_close(list(model.parameters()), list(twin.parameters()))
    assert numbers(opt) == pytest.approx(numbers(other))


@pytest.mark.parametrize("bottom", BOTTOMS, ids=repr)
def test_climbing_the_negative_is_descending(bottom):
    model = perceptron()
    twin = copy.deepcopy(model)
    down = untuned.Optimizer(model, bottom / SGD(0.5))
    up = untuned.Optimizer(twin, bottom / SGD(0.5), maximize=True)
    for _ in range(5):
        down.zero_grad()
        up.zero_grad()
        backward(model)
        backward(twin, sign=-1.0)
        down.step()
        up.step()
    torch.testing.assert_close(list(model.parameters()), list(twin.parameters()))
    assert numbers(up) == pytest.approx(numbers(down), rel=1e-5)


def test_a_parameter_that_sits_out_forgets_its_last_step():
    """Its state is brought up to date, and later gradients say nothing of that step."""
    torch.manual_seed(0)
    model = perceptron().double()
    twin = copy.deepcopy(model)
    # a floor above that does not move: what remains is the bookkeeping
    opt = untuned.Optimizer(model, Adam(0.1) / SGD(1e-300))
    plain = torch.optim.Adam(twin.parameters(), 0.1)
    for step in range(8):
        for net, optimizer in ((model, opt), (twin, plain)):
            optimizer.zero_grad()
            output = net(torch.ones(4, 6, dtype=torch.float64))
            F.cross_entropy(output, torch.tensor([0, 1, 2, 0])).backward()
            if step in (2, 3, 6):
                net[2].bias.grad = None
            optimizer.step()
    torch.testing.assert_close(
        list(model.parameters()), list(twin.parameters()), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("bottom", BOTTOMS, ids=repr)
def test_a_gradient_says_nothing_of_a_step_before_the_last(bottom):
    quiet, other = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(4, 3))
    opt = untuned.Optimizer([quiet, other], bottom / SGD(1.0))
    gradients = torch.linspace(-1, 1, 12).view(4, 3)
    start = numbers(opt)
    for given in (gradients, None, gradients):
        quiet.grad, other.grad = torch.zeros(3), given
        opt.step()
        # `quiet` has nothing to say, `other` sat out
        assert numbers(opt) == pytest.approx(start, rel=1e-6)
    opt.step()
    assert numbers(opt) != pytest.approx(start, rel=1e-6)


@pytest.mark.parametrize("name", ["lr", "momentum"])
def test_only_what_is_named_is_tuned(name):
    model = perceptron()
    opt = untuned.Optimizer(model, SGD(0.1, momentum=0.5).tuning(name) / SGD(1.0))
    train(model, opt, 5)
    floor = opt.hyperparameters()[0][0]
    start = {"lr": 0.1, "momentum": 0.5}
    for other, value in floor.items():
        assert (value == pytest.approx(start[other], rel=1e-6)) == (other != name)


def test_a_hyperparameter_that_is_switched_off_stays_off():
    model = perceptron()
    opt = untuned.Optimizer(model, SGD(0.1) / SGD(1.0))
    train(model, opt, 3)
    assert opt.hyperparameters()[0][0]["momentum"] == 0.0
    assert all("m" not in opt.state[p] for p in model.parameters())


def test_each_tensor_can_have_its_own():
    model = perceptron()
    opt = untuned.Optimizer(model, SGD(0.1).per_tensor("lr") / SGD(1.0))
    train(model, opt, 5)
    floor = opt.hyperparameters()[0][0]
    rates = [floor[f"lr[{name}]"] for name, _ in model.named_parameters()]
    assert len(set(rates)) == 4


def test_lr_multiplies_what_is_tuned_and_zero_moves_nothing():
    model = perceptron()
    opt = untuned.Optimizer(model, SGD(0.1) / SGD(1.0))
    schedule = torch.optim.lr_scheduler.LambdaLR(opt, lambda step: 0.5)
    assert opt.param_groups[0]["lr"] == 0.5
    before = snapshot(model)
    train(model, opt, 1)
    for param, old in zip(model.parameters(), before, strict=True):
        torch.testing.assert_close(param.detach(), old - 0.05 * param.grad)
    assert float(opt.param_groups[0]["effective_lr"]) == pytest.approx(0.05)
    schedule.step()
    opt.param_groups[0]["lr"] = 0.0
    before = snapshot(model)
    train(model, opt, 2)
    assert same(model, before)


def test_an_untuned_lr_is_the_learning_rate_itself():
    model = perceptron()
    opt = untuned.Optimizer(model, SGD(0.1, momentum=0.9).tuning("momentum") / SGD(1.0))
    assert opt.param_groups[0]["lr"] == 0.1
    opt.param_groups[0]["lr"] = 0.02
    train(model, opt, 2)
    assert float(opt.param_groups[0]["effective_lr"]) == pytest.approx(0.02)


def test_groups_have_towers_of_their_own():
    model = perceptron()
    groups = [
        {"params": model[0].parameters()},
        {"params": model[2].parameters(), "momentum": 0.5},
    ]
    opt = untuned.Optimizer(groups, SGD(0.1, momentum=0.9) / SGD(1.0))
    assert opt.hyperparameters()[1][0]["momentum"] == 0.5
    train(model, opt, 5)
    first, second = (floors[0] for floors in opt.hyperparameters())
    assert first["lr"] != second["lr"]
    assert second["momentum"] == pytest.approx(0.5, abs=0.2)


WILD = [SGD(1e12), SGD(1e4, momentum=0.9), Adam(1e3), AGD(gain=100.0)]


@pytest.mark.filterwarnings("ignore::untuned.errors.NonFiniteGradientWarning")
@pytest.mark.parametrize("top", WILD, ids=repr)
@pytest.mark.parametrize("bottom", BOTTOMS[:8], ids=repr)
def test_nothing_leaves_its_domain_and_no_step_more_than_doubles_a_rate(bottom, top):
    torch.manual_seed(0)
    weights = [nn.Parameter(torch.randn(4, 3)), nn.Parameter(torch.randn(4))]
    opt = untuned.Optimizer(weights, bottom / top / SGD(1e9))
    last = opt.hyperparameters()[0]
    for step in range(62):
        for weight in weights:
            weight.grad = torch.randn_like(weight) * 10.0 ** (step % 31 - 15)
        opt.step()
        floors = opt.hyperparameters()[0]
        for level, (floor, before) in enumerate(zip(floors, last, strict=True)):
            rule = opt.tower.floors[level].rule
            rule.check(floor)  # raises when outside, or NaN
            assert all(value < float("inf") for value in floor.values())
            for name in ("lr", "gain"):
                if name in floor and level < 2:
                    assert 0.499 < floor[name] / before[name] < 2.001
        last = floors


def test_the_unit_of_the_learning_rate_is_nothing_to_the_floor_above():
    """Weights in other units want another rate; its logarithm then moves as before."""
    rates = []
    for unit in (1.0, 1000.0):
        weight = nn.Parameter(torch.tensor([3.0, -2.0], dtype=torch.float64) * unit)
        opt = untuned.Optimizer([weight], SGD(0.01 * unit**2) / SGD(0.3) / SGD(0.1))
        for _ in range(20):
            opt.zero_grad()
            (weight / unit).pow(2).sum().backward()
            opt.step()
        rates.append(opt.hyperparameters()[0][0]["lr"] / unit**2)
    assert rates[0] == pytest.approx(rates[1], rel=1e-9)
    assert rates[0] > 0.02


@dataclass(frozen=True)
class SignSGD(Elementwise):
    lr: float = hyperparameter(0.01, POSITIVE)
    sharpness: float = hyperparameter(5.0, POSITIVE)

    def update(self, grad, state):
        return Move(-self.lr, torch.tanh(self.sharpness * grad))


def test_a_users_rule_has_towers_for_free():
    weight = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    opt = untuned.Optimizer([weight], SignSGD() / SGD(0.5))
    first = torch.tensor([0.3, -0.1], dtype=torch.float64)
    second = torch.tensor([0.2, 0.4], dtype=torch.float64)
    for grad in (first, second):
        weight.grad = grad
        opt.step()
    lr, sharpness = (torch.tensor(v, dtype=torch.float64).log() for v in (0.01, 5.0))

    def gain(lr, sharpness):
        return (second * -lr.exp() * torch.tanh(sharpness.exp() * first)).sum()

    d = 1e-6
    slopes = [
        (gain(lr + d, sharpness) - gain(lr - d, sharpness)) / (2 * d),
        (gain(lr, sharpness + d) - gain(lr, sharpness - d)) / (2 * d),
    ]
    floor = opt.hyperparameters()[0][0]
    assert floor["lr"] == pytest.approx(float((lr - 0.5 * slopes[0]).exp()), rel=1e-8)
    assert floor["sharpness"] == pytest.approx(float((sharpness - 0.5 * slopes[1]).exp()), rel=1e-8)


def test_a_dead_neuron_does_not_silence_the_others():
    """Its root has no derivative; the hypergradient must not become NaN, and be dropped, for it."""
    for rule in (FreeNero(0.1), Adam(0.1), RMSProp(0.1), AdaGrad(0.1), AGD()):
        weight = nn.Parameter(torch.ones(4, 3))
        opt = untuned.Optimizer([weight], rule / SGD(0.01))
        for _ in range(4):
            weight.grad = torch.ones(4, 3)
            weight.grad[1] = 0.0
            opt.step()
        rate = next(iter(opt.hyperparameters()[0][0].values()))
        assert rate > 1.0001 * next(iter(rule.hyperparameters().values())), rule


@pytest.mark.parametrize("way", ["lone", "tuned in part"])
def test_a_schedule_of_what_nobody_tunes_is_followed_step_by_step(way):
    """The last step is replayed with what it was taken with, not with what is there now."""
    rule = Adam(0.1) if way == "lone" else Adam(0.1).tuning("lr", "eps") / SGD(1e-300)
    ours, theirs = (nn.Parameter(torch.ones(5, dtype=torch.float64)) for _ in range(2))
    opt = untuned.Optimizer([ours], rule)
    m, v, n1, n2 = (torch.zeros(5, dtype=torch.float64) for _ in range(4))
    for step in range(8):
        betas = (0.95, 0.999) if step % 2 else (0.5, 0.9)
        opt.param_groups[0]["betas"] = betas
        ours.grad = torch.cos(torch.arange(5.0, dtype=torch.float64) + step)
        opt.step()
        m, v = (
            b * x + (1 - b) * g
            for b, x, g in zip(betas, (m, v), (ours.grad, ours.grad**2), strict=True)
        )
        n1, n2 = (b * n + (1 - b) for b, n in zip(betas, (n1, n2), strict=True))
        with torch.no_grad():
            theirs -= 0.1 * (m / n1) / ((v / n2).sqrt() + 1e-8)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_a_step_of_no_length_says_nothing():
    weight = nn.Parameter(torch.randn(4, 3, dtype=torch.float64))
    opt = untuned.Optimizer([weight], FreeNero(0.1, beta=0.9).tuning("beta") / SGD(1.0))
    for lr in (0.0, 0.0, 1.0):
        opt.param_groups[0]["lr"] = lr
        weight.grad = torch.randn_like(weight) + 1
        opt.step()
    assert opt.hyperparameters()[0][0]["beta"] == pytest.approx(0.9, rel=1e-12)


MISMATCHED = [
    (Adam(), Adam() / SGD()),
    (Adam() / SGD(), Adam()),
    (Adam().tuning("lr") / SGD(), Adam() / SGD()),
    (SGD().as_published() / SGD(), SGD() / SGD()),
    (AGD() / SGD(), Nero() / SGD()),
    (SGD(), AGD()),
]


@pytest.mark.parametrize(("saved", "loaded"), MISMATCHED)
def test_the_state_of_another_tower_is_refused_and_nothing_changes(saved, loaded):
    model = perceptron()
    source, target = untuned.Optimizer(model, saved), untuned.Optimizer(perceptron(), loaded)
    train(model, source, 2)
    before = numbers(target)
    with pytest.raises(errors.StateError, match="build it with the rule"):
        target.load_state_dict(source.state_dict())
    assert numbers(target) == before
    assert not target.state


def test_hooks_see_and_change_what_is_loaded():
    model = perceptron()
    opt, other = untuned.Optimizer(model, Adam()), untuned.Optimizer(model, Adam())
    train(model, opt, 2)

    def forget(_, state_dict):
        state = state_dict["state"]
        zeros = {i: {k: torch.zeros_like(v) for k, v in s.items()} for i, s in state.items()}
        return {**state_dict, "state": zeros}

    other.register_load_state_dict_pre_hook(forget)
    other.load_state_dict(opt.state_dict())
    assert all(not other.state[p]["m"].any() for p in model.parameters())


def test_a_saved_state_does_not_move_with_the_optimizer():
    model = perceptron()
    opt = untuned.Optimizer(model, SGD(0.1) / SGD(1.0))
    train(model, opt, 3)
    groups = opt.state_dict()["param_groups"]
    then = [float(group["floor0.lr"]) for group in groups]
    train(model, opt, 3)
    assert [float(group["floor0.lr"]) for group in groups] == then


def test_options_of_a_group_that_a_tower_tunes_are_where_it_starts():
    opt = untuned.Optimizer(
        [{"params": [nn.Parameter(torch.ones(3))], "momentum": 0.5}], SGD(0.1, momentum=0.9) / SGD()
    )
    assert opt.hyperparameters()[0][0]["momentum"] == 0.5
    assert "momentum" not in opt.param_groups[0]  # editing it would change nothing


SCRIPT = """
    import sys, torch, torch.nn.functional as F
    import untuned
    from untuned.rules import *

    torch.set_num_threads(1)
    tower, kind, path = sys.argv[1:]
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
    opt = untuned.Optimizer(model, tower)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(opt, 50)
    start = 0
    if kind == "rest":
        saved = torch.load(path, weights_only=True)
        model.load_state_dict(saved["model"])
        opt.load_state_dict(saved["opt"])
        schedule.load_state_dict(saved["schedule"])
        start = 20
    for step in range(start, 40 if kind in ("whole", "rest") else 20):
        torch.manual_seed(step)
        opt.zero_grad()
        F.cross_entropy(model(torch.randn(16, 6)), torch.randint(3, (16,))).backward()
        opt.step()
        schedule.step()
    if kind == "half":
        torch.save({"model": model.state_dict(), "opt": opt.state_dict(),
                    "schedule": schedule.state_dict()}, path)
    print([p.flatten().tolist() for p in model.parameters()], opt.hyperparameters())
"""


@pytest.mark.parametrize(
    "tower",
    [
        "adam / adam / sgd(lr=0.1)",
        "sgd(momentum=0.9).per_tensor('lr') / rmsprop / adam",
        "agd / nero / sgd(lr=0.1)",
        "nero / adagrad / agd",
        "adam.tuning('lr') / sgd(lr=1, momentum=0.5) / sgd",
    ],
)
def test_three_floors_resume_bit_for_bit_in_another_process(tower, tmp_path):
    def run(kind):
        return subprocess.run(
            [sys.executable, "-c", textwrap.dedent(SCRIPT), tower, kind, str(tmp_path / "saved")],
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    whole = run("whole")
    assert run("half") != whole
    assert run("rest") == whole


@pytest.mark.parametrize("tower", [Adam() / Adam() / SGD(), AGD() / Nero(), SGD() / SGD()])
def test_memory_is_flat_over_a_thousand_steps(tower):
    model = perceptron()
    opt = untuned.Optimizer(model, tower)

    def alive():
        gc.collect()
        tensors = [t for t in gc.get_objects() if issubclass(type(t), torch.Tensor)]
        sizes = [t.numel() * t.element_size() for t in tensors]
        return len(sizes), sum(sizes)

    train(model, opt, 10)
    early = alive()
    train(model, opt, 1000)
    assert alive() == early


def test_the_record_is_one_tensor_of_a_weights_size():
    for tower, tensors in ((SGD() / SGD(), 1), (Adam() / SGD(), 3), (AGD() / SGD(), 1)):
        weight = nn.Parameter(torch.randn(40, 30))
        opt = untuned.Optimizer([weight], tower)
        for _ in range(3):
            weight.grad = torch.randn_like(weight)
            opt.step()
        kept = sum(v.numel() for v in opt.state[weight].values())
        assert tensors * weight.numel() <= kept < (tensors + 0.1) * weight.numel()


def test_copies_go_their_own_ways():
    model = perceptron()
    opt = untuned.Optimizer(model, Adam() / Adam() / SGD())
    train(model, opt, 5)
    other_model, other = copy.deepcopy((model, opt))
    at_copying = numbers(opt)
    train(other_model, other, 5)
    assert numbers(opt) == at_copying
    assert numbers(other) != at_copying
    train(model, opt, 5)
    assert numbers(opt) == numbers(other)
    assert same(model, snapshot(other_model))


def test_the_notation_reads_as_the_tower_is_written():
    pairs = [
        ("adam / sgd(lr=1e-5)", Adam() / SGD(lr=1e-5)),
        ("sgd / sgd / sgd", SGD() / SGD() / SGD()),
        ("Adam(betas=(0.5, 0.9)).tuning('lr', 'beta2') / agd", None),
        ("sgd(0.1).per_tensor('lr') / nero", SGD(0.1).per_tensor("lr") / Nero()),
        ("(adam / sgd).as_published()", (Adam() / SGD()).as_published()),
        ("adam / (rmsprop / sgd)", Adam() / RMSProp() / SGD()),
    ]
    for text, tower in pairs:
        expected = tower or Adam(betas=(0.5, 0.9)).tuning("lr", "beta2") / AGD()
        assert parse(text) == expected


BAD = [
    (lambda: SGD().tuning("rate") / SGD(), errors.UnknownHyperparameterError, "'rate'.*lr"),
    (lambda: SGD().per_tensor("rate") / SGD(), errors.UnknownHyperparameterError, "'rate'"),
    (lambda: SGD().tuning("momentum") / SGD(), errors.DomainError, "momentum=0.*edge"),
    (lambda: Adam().as_published().tuning("eps"), errors.UnknownHyperparameterError, "'eps'"),
    (lambda: Adam(betas=(0.9, 1.0)), errors.DomainError, "beta2=1.0"),
    (lambda: Adam(betas=0.9), errors.DomainError, "betas=0.9: give 2 numbers"),
    (lambda: untuned.Optimizer([nn.Parameter(torch.ones(2))], SGD().tuning("lr")),
     errors.UnknownRuleError, "nothing stands above"),
    (lambda: SGD() / 3, TypeError, "/"),
    (lambda: parse("adam / lion"), errors.UnknownRuleError, "adamw|there are"),
    (lambda: parse("adam.as_published('lr')"), errors.UnknownRuleError, "takes nothing"),
    (lambda: SGD().tuning() / SGD(), errors.UnknownHyperparameterError, "names nothing"),
    (lambda: SGD() / SGD().per_tensor("lr"), errors.UnknownHyperparameterError, "ground floor"),
    (
        lambda: untuned.Optimizer([nn.Parameter(torch.ones(2))], SGD() / SGD().tuning("lr")),
        errors.UnknownRuleError,
        "nothing stands above SGD",
    ),
    (
        lambda: untuned.Optimizer(
            [{"params": [nn.Parameter(torch.ones(2))], "momentum": 0.0}],
            SGD(momentum=0.9).tuning("momentum") / SGD(),
        ),
        errors.DomainError,
        "momentum=0.0.*edge",
    ),
    (lambda: Adam(betas=(1 - 1e-9, 0.999)), errors.DomainError, "beta1"),
    (lambda: SGD(lr="0.1"), errors.DomainError, "lr='0.1'"),
    (lambda: parse("adam.tune('lr') / sgd"), errors.UnknownRuleError, "tuning"),
    (lambda: parse("adam.tuning(lr) / sgd"), errors.UnknownRuleError, "names"),
    (lambda: parse("adam * sgd"), errors.UnknownRuleError, "unknown"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), BAD)
def test_a_wrong_tower_is_a_clear_error(call, error, message):
    with pytest.raises(error, match=message):
        call()
