"""What users hand over, and the parameter groups that it becomes."""

import io

import numpy as np
import pytest
import torch
from torch import nn

import untuned
from support.networks import backward, layers, perceptron, same, snapshot, train
from untuned.geometry import Dense, Embedding
from untuned.rules import Adam


def test_it_is_a_torch_optimizer_whose_groups_are_the_users():
    model = perceptron()
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
    reference, model = perceptron(), perceptron()
    model.load_state_dict(reference.state_dict())
    for net, params in ((reference, reference), (model, give(model))):
        opt = untuned.AGD(params)
        backward(net)
        opt.step()
    for a, b in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_a_module_is_one_group_whose_tensors_have_a_geometry_each():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.gates, self.head = nn.Embedding(9, 4), nn.LSTM(4, 5), nn.Linear(5, 9)

    model = Net()
    opt = untuned.AGD(model)
    assert opt.param_groups[0]["params"] == list(model.parameters())
    assert opt.param_groups[0]["param_names"] == [name for name, _ in model.named_parameters()]
    (found,) = layers(opt)
    assert found[:2] == [Embedding(), Dense(parts=4)]
    assert found[-2:] == [None, None]  # as their shapes tell


def test_a_group_may_say_its_layer():
    weight = torch.randn(6, 4, requires_grad=True)
    weight.grad = torch.randn(6, 4)
    before = weight.detach().clone()
    opt = untuned.AGD([{"params": [weight], "layer": Embedding()}])
    opt.step()
    moved = (weight.detach() - before).norm(dim=1) / float(opt.param_groups[0]["effective_lr"])
    torch.testing.assert_close(moved, torch.full((6,), 2.0))  # each row its own


def test_geometry_follows_tensors_that_take_others_places():
    """As FSDP2 and Accelerate replace them, a user grows a table, or prunes a layer."""

    def trained(change):
        torch.manual_seed(0)
        model = nn.ModuleDict({"table": nn.Embedding(9, 4), "gates": nn.LSTM(4, 5)})
        opt = untuned.AGD(model)
        group = opt.param_groups[0]
        group["params"] = change(group["params"])
        for param in group["params"]:
            param.grad = torch.ones_like(param)
        opt.step()
        return layers(opt)[0]

    def anew(params):
        return [nn.Parameter(param.detach().clone()) for param in params]

    def grown(params):
        return [nn.Parameter(torch.zeros(12, 4)), *params[1:]]

    same = trained(list)
    assert trained(anew) == trained(grown) == same
    assert trained(lambda params: params[2:]) == same[2:]
    assert trained(lambda params: [*params, torch.zeros(3, requires_grad=True)]) == [*same, None]


def test_groups_can_be_added_late_named_or_not():
    model, head = perceptron(), nn.Linear(3, 2)
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
    model = perceptron()
    opt = untuned.AGD(model)
    good, bad = torch.zeros(2, 2, requires_grad=True), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(untuned.errors.ParameterTypeError):
        opt.add_param_group({"params": [good, bad]})
    assert len(opt.param_groups) == 1
    assert len(opt.param_groups[0]["params"]) == 4


def test_the_users_dicts_are_left_alone():
    model = perceptron()
    given = {"params": model, "lr": 0.5}
    untuned.AGD([given])
    assert given == {"params": model, "lr": 0.5}


def test_a_tensor_listed_twice_is_one_parameter_in_its_first_place():
    a, b = torch.randn(3, 3, requires_grad=True), torch.randn(3, 3, requires_grad=True)
    for params in ([a, b, a], [("a", a), ("b", b), ("also", a)]):
        group = untuned.AGD(params).param_groups[0]
        assert [id(p) for p in group["params"]] == [id(a), id(b)]
    assert group["param_names"] == ["a", "b"]


def test_the_users_groups_stay_apart_by_name_or_without_in_any_order():
    model = perceptron()
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


def test_a_groups_name_stays():
    model = nn.Sequential(nn.LSTM(3, 4), nn.Linear(4, 2))
    opt = untuned.AGD([{"params": model[0], "name": "body"}, {"params": model[1]}])
    assert [group.get("name") for group in opt.param_groups] == ["body", None]


@pytest.mark.parametrize("rule", ["auto", "agd", "nero", "adam", "nero / sgd"])
def test_schedules_and_their_lists_have_an_entry_for_each_group_of_the_users(rule):
    """As of `torch.optim`, whatever geometries the modules need."""
    body, head = nn.Sequential(nn.Embedding(9, 4), nn.LSTM(4, 5)), nn.Linear(5, 9)
    groups = [{"params": body, "lr": 0.5}, {"params": head, "lr": 1.0}]
    opt = untuned.Optimizer(groups, rule)
    schedule = torch.optim.lr_scheduler.LambdaLR(opt, [lambda t: 1.0, lambda t: 0.5**t])
    assert schedule.get_last_lr() == [0.5, 1.0]
    opt.step()
    schedule.step()
    assert schedule.get_last_lr() == [0.5, 0.5]
    assert len(opt.hyperparameters()) == 2


NUMPY = [np.array(0.25), np.array(0.25, dtype=np.float32), np.float32(0.25), np.float64(0.25)]


@pytest.mark.parametrize("rate", NUMPY, ids=repr)
@pytest.mark.parametrize("where", ["argument", "group", "later"])
@pytest.mark.parametrize("rule", ["auto", "agd", "nero", "adam", "sgd", "adam / sgd"])
def test_lr_may_be_a_number_of_numpys(rule, where, rate):
    """As torch.optim takes it: a schedule computes it so."""

    def losses(lr):
        torch.manual_seed(0)
        model = perceptron()
        if where == "group":
            opt = untuned.Optimizer([{"params": model, "lr": lr}], rule)
        else:
            opt = untuned.Optimizer(model, rule, lr=lr if where == "argument" else 0.5)
        if where == "later":
            opt.param_groups[0]["lr"] = lr
        found = train(model, opt, 3)
        torch.save(opt.state_dict(), file := io.BytesIO())
        file.seek(0)
        opt.load_state_dict(torch.load(file, weights_only=True))
        return found + train(model, opt, 3)

    assert losses(rate) == losses(0.25)


def test_hyperparameters_may_be_numbers_of_numpys():
    models = []
    for rule in (Adam(np.array(0.25), (np.array(0.5), np.array(0.75))), Adam(0.25, (0.5, 0.75))):
        torch.manual_seed(0)
        models.append(model := perceptron())
        train(model, untuned.Optimizer(model, rule), 3)
    assert same(models[0], snapshot(models[1]))
