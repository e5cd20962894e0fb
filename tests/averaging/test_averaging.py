"""The module holds the average of its weights: what is evaluated, saved, copied and exported."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import untuned
from support.averages import (
    COUNT,
    ITERATE,
    Average,
    averages,
    batch,
    iterates,
    loss_of,
    train,
    trained,
)
from support.networks import by_shape, equal, perceptron
from untuned.errors import ParameterError


@pytest.mark.usefixtures("_eyes")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_module_holds_the_average_of_its_iterates(dtype):
    model = perceptron().to(dtype)
    opt = untuned.Auto(model)
    average = Average(opt)
    for step in range(30):
        train(model, opt, [step])
        average.follow()
    average.check(rtol=1e-5 if dtype == torch.float32 else 1e-6, atol=1e-7)


@pytest.mark.usefixtures("_eyes")
@pytest.mark.filterwarnings("ignore::untuned.errors.LearningRateWarning")
def test_changes_of_less_than_half_an_ulp_add_up_in_bfloat16():
    """An average at 1 of iterates at 1.003, where bfloat16 knows 1.0078 next."""
    net = nn.Linear(256, 256, bias=False).bfloat16()
    opt = untuned.Auto(net, lr=1e-30)  # the iterate stays
    net(torch.ones(1, 256, dtype=torch.bfloat16)).sum().backward()
    opt.step()
    state, x = opt.state[net.weight], 1.0
    net.weight.data.fill_(1.0)
    state[ITERATE].fill_(1.0078125)
    state[COUNT].fill_(2000)
    for t in range(2001, 2201):
        net(torch.ones(1, 256, dtype=torch.bfloat16))
        opt.step()
        x += 9 / (t + 8) * (1.0078125 - x)
    assert set(net.weight.detach().unique().tolist()) == {1.0, 1.0078125}
    assert float(net.weight.detach().double().mean()) == pytest.approx(x, abs=1e-4)


def test_the_average_of_rounded_iterates_in_bfloat16():
    model = perceptron().bfloat16()
    opt = untuned.Auto(model)
    average = Average(opt)
    for step in range(30):
        train(model, opt, [step])
        average.follow()
    average.check(rtol=0.03, atol=0.03)


def test_the_state_is_two_tensors_for_a_matrix_and_three_elsewhere():
    model, opt = trained(untuned.Auto)
    large = dict.fromkeys(("0.weight",), 2)
    for name, p in model.named_parameters():
        as_large = [v for v in opt.state[p].values() if v.shape == p.shape]
        assert len(as_large) == large.get(name, 3), name
        assert all(v.numel() <= 2 for v in opt.state[p].values() if v.shape != p.shape), name


def test_it_may_be_turned_off_and_needs_a_module():
    model, opt = trained(lambda model: untuned.Auto(model, average=False))
    assert not any(ITERATE in state for state in opt.state.values())
    before = averages(model)
    model(batch(0)[0])
    assert equal(averages(model), before)
    assert {group["power"] for group in opt.param_groups} == {1.0}
    with pytest.raises(ParameterError, match="average=True needs the module"):
        untuned.Auto(by_shape(model), average=True)
    assert "average.iterate" not in str(untuned.Auto(by_shape(model)).state_dict())


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_scripted_network_whose_passes_cannot_be_seen_is_not_averaged():
    torch.manual_seed(0)
    scripted = torch.jit.script(perceptron())
    opt = untuned.Auto(scripted)
    train(scripted, opt, range(3))
    assert not any(ITERATE in state for state in opt.state.values())
    with pytest.raises(ParameterError, match="needs the module"):
        untuned.Auto(scripted, average=True)


def test_a_copy_trains_with_an_optimizer_of_its_own():
    model, opt = trained(untuned.Auto)
    before, W = averages(model), iterates(model, opt)
    twin, plain = copy.deepcopy(model), perceptron()
    plain.load_state_dict(model.state_dict())
    for each in (twin, plain):
        train(each, torch.optim.SGD(each.parameters(), lr=0.1), range(5))
    assert equal(averages(twin), averages(plain))
    assert equal(averages(model), before)
    assert equal(iterates(model, opt), W)


def test_copies_average_anew_with_an_auto_of_their_own():
    model, _ = trained(untuned.Auto)
    twin = copy.deepcopy(model)
    opt = untuned.Auto(twin)
    average = Average(opt)
    for step in range(5):
        train(twin, opt, [step])
        average.follow()
    average.check(rtol=1e-5, atol=1e-7)


def test_clipping_and_scaling_see_the_iterates_gradients():
    """The same steps as with gradients scaled by hand."""
    model, opt = trained(untuned.Auto)
    other, its = trained(untuned.Auto)
    for step in range(6, 9):
        for each, optimizer in ((model, opt), (other, its)):
            optimizer.zero_grad()
            loss_of(each, step).backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
        grads = [p.grad for p in other.parameters()]
        expected = sum(grad.double().square().sum() for grad in grads).sqrt()
        assert float(norm) == pytest.approx(float(expected), rel=1e-5)
        for grad in grads:
            grad.mul_(1e-3 / (norm + 1e-6))
        opt.step()
        its.step()
    assert equal(averages(model), averages(other))


def test_it_is_there_in_a_context_also_amid_a_pass():
    model, opt = trained(untuned.Auto)
    before = averages(model)
    with opt.averaged():
        assert equal(averages(model), before)
    loss = loss_of(model, 6)
    W = averages(model)
    with opt.averaged():
        assert equal(averages(model), before)
    with pytest.raises(KeyError), opt.averaged():
        raise KeyError
    assert equal(averages(model), W)
    loss.backward()
    assert not equal(W, before)


def test_two_modules_of_one_optimizer_average_both():
    torch.manual_seed(0)
    one, other = perceptron(), nn.Linear(3, 3)
    opt = untuned.Auto([{"params": one}, {"params": other}])
    average = Average(opt)
    for step in range(6):
        opt.zero_grad()
        x, labels = batch(step)
        F.cross_entropy(other(one(x)), labels).backward()
        opt.step()
        average.follow()
    average.check(rtol=1e-5, atol=1e-7)
    assert len(average.x) == 6
