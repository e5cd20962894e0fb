"""What a tower promises: records that survive skips, floors that stay in their bounds."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import untuned
from support.networks import backward, numbers, perceptron, same, snapshot, train
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


@pytest.mark.usefixtures("_eyes")
@pytest.mark.parametrize("lr", [0.0, torch.tensor(0.0)], ids=["float", "tensor"])
@pytest.mark.parametrize("tuned", [(), ("lr",), ("lr", "momentum")], ids=str)
def test_with_a_rate_of_zero_momentum_goes_on(tuned, lr):
    """As in a warm-up that starts from there: 1, then 1.9 and so on."""
    weight = nn.Parameter(torch.ones(3))
    rule = SGD(momentum=0.9)
    opt = untuned.Optimizer([weight], rule.tuning(*tuned) / SGD() if tuned else rule, lr=lr)
    for _ in range(4):
        weight.grad = torch.ones(3)
        opt.step()
    if len(tuned) > 1:  # then what is kept is that of before the last step
        assert opt.state[weight]["m"][0].item() == pytest.approx(2.71)
    else:
        assert opt.state[weight]["m"][0].item() == pytest.approx(3.439)
