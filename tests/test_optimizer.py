"""The shell: everything that users do with a `torch.optim.Optimizer`."""

import copy
import io
import math
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.optim import lr_scheduler

import untuned
from networks import same, snapshot
from untuned.geometry import Dense, Embedding
from untuned.rules import AGD


def network():
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def backward(model, sign=1.0):
    loss = F.cross_entropy(model(torch.ones(4, 6)), torch.tensor([0, 1, 2, 0]))
    (sign * loss).backward()
    return loss


def test_it_is_a_torch_optimizer_whose_groups_are_the_users():
    model = network()
    opt = untuned.AGD(model)
    assert isinstance(opt, torch.optim.Optimizer)
    assert len(opt.param_groups) == 1
    assert opt.param_groups[0]["lr"] == 1.0
    assert opt.param_groups[0]["params"] == list(model.parameters())
    assert opt.hyperparameters() == [[{"gain": 1.0}]]


@pytest.mark.parametrize(
    "give",
    [
        lambda m: m,
        lambda m: m.parameters(),
        lambda m: list(m.named_parameters()),
        lambda m: [{"params": m}],
        lambda m: [{"params": m[0]}, {"params": m[2].named_parameters()}],
        lambda m: [{"params": [*m[0].parameters(), *m[2].parameters()]}],
        lambda m: ({"params": p} for p in m.parameters()),
    ],
)
def test_every_form_of_params_takes_the_same_step(give):
    reference, model = network(), network()
    model.load_state_dict(reference.state_dict())
    for net, params in ((reference, reference), (model, give(model))):
        opt = untuned.AGD(params)
        backward(net)
        opt.step()
    for a, b in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("rule", ["agd", "AGD()", "agd(gain=1)", "agd(1.0)", AGD()])
def test_a_rule_may_be_written_as_text(rule):
    opt = untuned.Optimizer(network(), rule)
    assert opt.hyperparameters() == [[{"gain": 1.0}]]


def test_a_module_becomes_a_group_for_each_geometry_that_its_shapes_do_not_tell():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.gates, self.head = nn.Embedding(9, 4), nn.LSTM(4, 5), nn.Linear(5, 9)

    model = Net()
    opt = untuned.AGD(model)
    layers = [group["layer"] for group in opt.param_groups]
    assert layers[0] is None
    assert {Embedding(), Dense(parts=4)} <= set(layers)
    assert opt.param_groups[0]["param_names"] == ["head.weight", "head.bias"]
    named = {p for group in opt.param_groups for p in group["params"]}
    assert named == set(model.parameters())


def test_a_group_may_say_its_layer():
    weight = torch.randn(6, 4, requires_grad=True)
    weight.grad = torch.randn(6, 4)
    before = weight.detach().clone()
    opt = untuned.AGD([{"params": [weight], "layer": Embedding()}])
    opt.step()
    moved = (weight.detach() - before).norm(dim=1) / float(opt.param_groups[0]["effective_lr"])
    torch.testing.assert_close(moved, torch.full((6,), 2.0))  # each row its own


def test_closures_return_the_loss_and_see_gradients_enabled():
    model = network()
    opt = untuned.AGD(model)
    before, expected = snapshot(model), backward(model).item()

    def closure():
        opt.zero_grad()
        return backward(model)

    with torch.no_grad():
        loss = opt.step(closure)
    assert loss.item() == expected
    assert not same(model, before)
    assert opt.step() is None


def test_zero_grad():
    model = network()
    opt = untuned.AGD(model)
    backward(model)
    opt.zero_grad()
    assert all(p.grad is None for p in model.parameters())
    backward(model)
    opt.zero_grad(set_to_none=False)
    assert all(not p.grad.any() for p in model.parameters())


def test_a_step_without_any_gradient_does_nothing():
    model = network()
    opt, before = untuned.AGD(model), snapshot(model)
    opt.step()
    assert same(model, before)
    assert opt.skipped_steps == 0


def test_parameters_without_gradient_stay_and_do_not_count_as_layers():
    model, small = network(), nn.Linear(6, 8)
    small.load_state_dict(model[0].state_dict())
    opt, reference = untuned.AGD(model), untuned.AGD(small)
    x = torch.randn(5, 6)
    for net in (model[0], small):
        net(x).square().mean().backward()
    before = snapshot(model[2])
    opt.step()
    reference.step()
    assert same(model[2], before)
    torch.testing.assert_close(model[0].weight, small.weight)


def test_frozen_parameters_stay_and_move_once_thawed():
    model = network()
    model[0].requires_grad_(False)
    opt, before = untuned.AGD(model), snapshot(model[0])
    backward(model)
    opt.step()
    assert same(model[0], before)
    model[0].requires_grad_(True)
    opt.zero_grad()
    backward(model)
    opt.step()
    assert not same(model[0], before)


def test_groups_can_be_added_late_named_or_not():
    model, head = network(), nn.Linear(3, 2)
    opt = untuned.AGD(model)
    opt.add_param_group({"params": head, "lr": 0.5})
    extra = torch.zeros(2, 2, requires_grad=True)
    opt.add_param_group({"params": [extra]})
    assert [group["lr"] for group in opt.param_groups] == [1.0, 0.5, 1.0]
    before = snapshot(head)
    head(model(torch.ones(1, 6))).sum().backward()
    opt.step()
    assert not same(head, before)


def test_a_refused_group_leaves_the_optimizer_as_it_was():
    model = network()
    opt = untuned.AGD(model)
    good, bad = torch.zeros(2, 2, requires_grad=True), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(untuned.errors.ParameterTypeError):
        opt.add_param_group({"params": [good, bad]})
    assert len(opt.param_groups) == 1
    assert len(opt.param_groups[0]["params"]) == 4


def test_the_users_dicts_are_left_alone():
    model = network()
    given = {"params": model, "lr": 0.5}
    untuned.AGD([given])
    assert given == {"params": model, "lr": 0.5}


def test_tied_parameters_move_once():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.b(self.a(x))

    model = Tied()
    before = model.a.weight.detach().clone()
    opt = untuned.AGD(model)
    model(torch.randn(3, 4)).square().mean().backward()
    opt.step()
    eta = float(opt.param_groups[0]["effective_lr"])
    assert float((model.a.weight.detach() - before).norm()) == pytest.approx(eta, rel=1e-5)  # L = 1


def test_a_tensor_listed_twice_is_one_parameter_in_its_first_place():
    a, b = torch.randn(3, 3, requires_grad=True), torch.randn(3, 3, requires_grad=True)
    for params in ([a, b, a], [("a", a), ("b", b), ("also", a)]):
        group = untuned.AGD(params).param_groups[0]
        assert [id(p) for p in group["params"]] == [id(a), id(b)]
    assert group["param_names"] == ["a", "b"]


def test_maximize_climbs_as_minimising_the_negative_descends():
    up, down = network(), network()
    down.load_state_dict(up.state_dict())
    climber, descender = untuned.AGD(up, maximize=True), untuned.AGD(down)
    backward(up)
    grads = [p.grad.clone() for p in up.parameters()]
    backward(down, sign=-1.0)
    climber.step()
    descender.step()
    for a, b in zip(up.parameters(), down.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    assert all(torch.equal(p.grad, g) for p, g in zip(up.parameters(), grads, strict=True))


@pytest.mark.parametrize("size", [0.0, 1.0, 1e15])
def test_lr_zero_moves_nothing_whatever_the_gradient(size):
    model = network()
    opt, before = untuned.AGD(model, lr=0.0), snapshot(model)
    for param in model.parameters():
        param.grad = size * torch.randn_like(param)
    opt.step()
    assert same(model, before)
    assert float(opt.param_groups[0]["effective_lr"]) == 0.0


def paper_eta(model):
    """The paper's eta of a chain of two layers with biases, transcribed."""
    G = 0.0
    for layer in (model[0], model[2]):
        rows, columns = layer.weight.shape
        G += math.sqrt(rows / columns) * float(layer.weight.grad.norm()) / 2
        G += math.sqrt(rows) * float(layer.bias.grad.norm()) / 2
    return math.log((1 + math.sqrt(1 + 4 * G)) / 2)


SCHEDULERS = [
    lambda opt: lr_scheduler.LambdaLR(opt, lambda step: 0.5**step),
    lambda opt: lr_scheduler.LinearLR(opt, 0.5, 1.0, 3),
    lambda opt: lr_scheduler.CosineAnnealingLR(opt, 4),
    lambda opt: lr_scheduler.OneCycleLR(opt, 1.0, total_steps=6, cycle_momentum=False),
    lambda opt: lr_scheduler.SequentialLR(
        opt, [lr_scheduler.ConstantLR(opt, 0.1, 2), lr_scheduler.ExponentialLR(opt, 0.9)], [2]
    ),
]


@pytest.mark.parametrize("schedule", SCHEDULERS)
@pytest.mark.parametrize("tensor_lr", [False, True])
def test_schedulers_multiply_the_automatic_step(schedule, tensor_lr):
    model = network()
    opt = untuned.AGD(model, lr=torch.tensor(1.0) if tensor_lr else 1.0)
    scheduler = schedule(opt)
    for _ in range(4):
        lr = float(opt.param_groups[0]["lr"])
        before = snapshot(model)
        opt.zero_grad()
        backward(model)
        opt.step()
        rate = float(opt.param_groups[0]["effective_lr"])
        moved = float((model[0].weight.detach() - before[0]).norm())
        assert moved == pytest.approx(rate / 2 * (8 / 6) ** 0.5, rel=1e-3)  # L = 2
        assert rate == pytest.approx(lr * paper_eta(model), rel=1e-4)
        scheduler.step()


def test_hooks_fire_once_a_step():
    model = network()
    opt = untuned.AGD(model)
    fired = []
    opt.register_step_pre_hook(lambda *_: fired.append("before"))
    opt.register_step_post_hook(lambda *_: fired.append("after"))
    backward(model)
    opt.step()
    assert fired == ["before", "after"]


def test_state_dict_is_plain_and_loads_with_weights_only():
    model = network()
    opt = untuned.AGD(model, lr=0.3, gain=2.0)
    backward(model)
    opt.step()
    file = io.BytesIO()
    torch.save(opt.state_dict(), file)
    file.seek(0)
    fresh = untuned.AGD(model)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert fresh.hyperparameters() == [[{"gain": 2.0}]]
    assert fresh.param_groups[0]["lr"] == 0.3


def test_geometry_is_the_models_and_survives_loading():
    model = nn.LSTM(3, 4)
    opt = untuned.AGD(model)
    layers = [group["layer"] for group in opt.param_groups]
    saved = opt.state_dict()["param_groups"]
    assert [group["layer"] for group in saved] == [str(layer) for layer in layers]
    opt.load_state_dict(copy.deepcopy(opt.state_dict()))
    assert [group["layer"] for group in opt.param_groups] == layers


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("build", [untuned.AGD, untuned.Nero])
def test_torchs_distributed_checkpoints_carry_it(flat, build):
    options = StateDictOptions(flatten_optimizer_state_dict=flat)
    model, fresh = network(), network()
    opt = build(model)
    for _ in range(2):
        opt.zero_grad()
        backward(model)
        opt.step()
    saved = copy.deepcopy(get_optimizer_state_dict(model, opt, options=options))
    fresh.load_state_dict(model.state_dict())
    weights = snapshot(fresh)
    other = build(fresh)
    fresh.load_state_dict(model.state_dict())
    set_optimizer_state_dict(fresh, other, saved, options=options)
    assert same(fresh, weights)  # it starts by a step with lr = 0
    for net, each in ((model, opt), (fresh, other)):
        each.zero_grad()
        backward(net)
        each.step()
    assert same(fresh, snapshot(model))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_go_on_alike(duplicate):
    model = network()
    pair = duplicate((model, untuned.AGD(model, gain=2.0)))
    for net, opt in ((model, untuned.AGD(model, gain=2.0)), pair):
        for _ in range(3):
            opt.zero_grad()
            backward(net)
            opt.step()
    assert same(pair[0], snapshot(model))
    assert pair[1].skipped_steps == 0


def test_half_precision_and_mixed_precision_parameters():
    model = network()
    model[0].to(torch.bfloat16)
    model[2].to(torch.float64)
    opt = untuned.AGD(model)
    before = snapshot(model)
    for param in model.parameters():
        param.grad = torch.randn_like(param)
    opt.step()
    for param, old in zip(model.parameters(), before, strict=True):
        assert param.dtype == old.dtype
        assert not torch.equal(param, old)


def test_channels_last_convolutions_move_as_contiguous_ones():
    plain = nn.Conv2d(4, 6, 3, groups=2)
    last = copy.deepcopy(plain).to(memory_format=torch.channels_last)
    x = torch.randn(2, 4, 5, 5)
    for net in (plain, last):
        opt = untuned.AGD(net)
        net(x).square().mean().backward()
        opt.step()
    torch.testing.assert_close(plain.weight, last.weight)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(4,), (4, 4), (4, 4, 3, 3), ()])
def test_small_gradients_of_16_bit_weights_do_not_overflow(dtype, shape):
    """Their coefficient, eta * radius / ||g||, is too large for float16; the step is not."""
    weight = torch.ones(shape, dtype=dtype, requires_grad=True)
    other = torch.randn(8, 8, requires_grad=True)
    weight.grad, other.grad = torch.full_like(weight, 1e-6), torch.randn(8, 8)
    opt = untuned.AGD([weight, other])
    opt.step()
    assert weight.isfinite().all()
    assert (weight < 1).all()
    assert opt.skipped_steps == 0


def test_the_users_groups_stay_apart_by_name_or_without_in_any_order():
    model = network()
    for groups in (
        [{"params": [torch.zeros(2, requires_grad=True)]}, {"params": model}],
        [{"params": model}, {"params": [torch.zeros(2, requires_grad=True)]}],
        [{"params": []}, {"params": model}],
        [{"params": model}, {"params": []}, {"params": [torch.zeros(2, requires_grad=True)]}],
    ):
        opt = untuned.AGD(groups)
        opt.zero_grad()
        backward(model)
        opt.step()
        assert len(opt.param_groups) == len(groups)


def test_a_module_may_be_given_a_layer_as_a_whole():
    opt = untuned.AGD([{"params": nn.Linear(4, 12, bias=False), "layer": Dense(parts=3)}])
    assert [group["layer"] for group in opt.param_groups] == [Dense(parts=3)]


def test_loading_the_state_of_an_older_or_another_optimizer_fills_what_it_lacks():
    model = network()
    opt = untuned.AGD(model)
    opt.load_state_dict(torch.optim.SGD(model.parameters(), lr=0.5).state_dict())
    assert opt.param_groups[0]["lr"] == 0.5
    assert opt.hyperparameters() == [[{"gain": 1.0}]]
    backward(model)
    opt.step()


def test_a_rate_that_a_schedule_made_nonsense_of_is_an_error_and_nothing_moves():
    model = network()
    opt, before = untuned.AGD(model), snapshot(model)
    backward(model)
    opt.param_groups[0]["lr"] = float("nan")
    with pytest.raises(untuned.errors.DomainError, match="lr=nan"):
        opt.step()
    assert same(model, before)


def test_maximize_needs_no_copy_of_the_gradients():
    from test_execute import Allocations

    weight = torch.randn(64, 64, requires_grad=True)
    weight.grad = torch.randn(64, 64)
    opt = untuned.AGD([weight], maximize=True)
    opt.step()
    with Allocations() as seen:
        opt.step()
    assert seen.largest < 100
