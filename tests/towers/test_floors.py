"""Which hyperparameters are tuned, for whom, and how a tower is written."""

import pytest
import torch
from torch import nn

import untuned
from support.networks import perceptron, same, snapshot, train
from untuned import errors
from untuned.notation import parse
from untuned.rules import AGD, SGD, Adam, Nero, RMSProp


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


def test_options_of_a_group_that_a_tower_tunes_are_where_it_starts():
    opt = untuned.Optimizer(
        [{"params": [nn.Parameter(torch.ones(3))], "momentum": 0.5}], SGD(0.1, momentum=0.9) / SGD()
    )
    assert opt.hyperparameters()[0][0]["momentum"] == 0.5
    assert "momentum" not in opt.param_groups[0]  # editing it would change nothing


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
