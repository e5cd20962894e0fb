"""Parameters in place of their module: Auto finds it, or warns."""

import warnings

import pytest
import torch
from torch import nn

import untuned
from support.networks import layers
from untuned.errors import BareTensorsWarning


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.LSTM(16, 8), LastOutput())


class LastOutput(nn.Module):
    """A head on what a recurrence returns."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(8, 3)

    def forward(self, outputs):
        return self.head(outputs[0])


def trained(net, opt, steps=10):
    """The weights after some steps on data of size five."""
    x = 5 * torch.randn(6, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    x = x.to(next(net.parameters()).dtype)
    for _ in range(steps):
        opt.zero_grad()
        net(x).square().mean().backward()
        opt.step()
    return [weight.detach().clone() for weight in net.parameters()]


WAYS = {
    "parameters()": lambda net: net.parameters(),
    "named_parameters()": lambda net: net.named_parameters(),
    "in a group": lambda net: [{"params": net.parameters()}],
    "parts": lambda net: [{"params": part.parameters()} for part in net if [*part.parameters()]],
}
LISTS = {  # AGD takes these by their shapes, as its docstring says
    "list": lambda net: list(net.parameters()),
    "pairs": lambda net: list(net.named_parameters()),
    "filter": lambda net: filter(lambda p: p.requires_grad, net.parameters()),
    "list in a group": lambda net: [{"params": [*net.parameters()]}],
}
CASES = [
    *[pytest.param(way, untuned.Auto, id=f"Auto, {name}") for name, way in (WAYS | LISTS).items()],
    *[pytest.param(way, untuned.AGD, id=f"AGD, {name}") for name, way in WAYS.items()],
]


@pytest.mark.parametrize(("way", "build"), CASES)
def test_a_modules_parameters_are_as_good_as_the_module(way, build):
    """The same weights, bit for bit, averages included."""
    nets = network(), network()
    as_parts = way is WAYS["parts"]
    module = [{"params": part} for part in nets[1] if [*part.parameters()]] if as_parts else nets[1]
    ours, theirs = build(way(nets[0])), build(module)
    assert layers(ours) == layers(theirs)
    for one, other in zip(trained(nets[0], ours), trained(nets[1], theirs), strict=True):
        assert torch.equal(one, other)
    if build is untuned.Auto:
        assert str(untuned.report(ours)) == str(untuned.report(theirs))
        assert "average.iterate" in str(ours.state_dict())


def test_a_group_that_is_added_later_may_be_a_modules_parameters():
    net, new = network(), nn.Linear(3, 3)
    opt = untuned.Auto(net)
    opt.add_param_group({"params": new.parameters(), "lr": 0.5})
    assert [group["lr"] for group in opt.param_groups] == [1.0, 0.5]
    assert opt.param_groups[1]["params"] == list(new.parameters())
    assert layers(opt)[1][0] == untuned.geometry.Head(untuned.geometry.Dense())


GROUPS = {
    "decay groups": lambda net: [
        {"params": [p for p in net.parameters() if p.ndim > 1], "lr": 0.5},
        {"params": (p for p in net.parameters() if p.ndim < 2)},
    ],
    "half a module": lambda net: [{"params": list(net[:2].parameters())}, {"params": net[2:]}],
    "one by one": lambda net: [{"params": p} for p in net.parameters()],
    "in part": lambda net: list(net.named_parameters())[2:],
}


@pytest.mark.parametrize("way", GROUPS.values(), ids=GROUPS)
def test_lists_of_tensors_have_their_modules_geometry_in_the_users_groups(way):
    def geometry(opt):
        return {
            id(p): layer
            for group, its in zip(opt.param_groups, layers(opt), strict=True)
            for p, layer in zip(group["params"], its, strict=True)
        }

    net = network()
    whole, opt = untuned.Auto(net), untuned.Auto(way(net))
    groups = way(net)
    groups = groups if isinstance(groups[0], dict) else [{}]
    assert len(opt.param_groups) == len(groups)
    assert [g["lr"] for g in opt.param_groups] == [g.get("lr", 1.0) for g in groups]
    known = geometry(whole)
    assert geometry(opt) == {key: known[key] for key in geometry(opt)}
    assert "head: 3.head.weight" in repr(opt)
    assert "average: the module holds it" in repr(opt)


def test_decay_groups_end_where_the_module_does():
    nets = network().double(), network().double()
    ours, theirs = untuned.Auto(GROUPS["decay groups"](nets[0])), untuned.Auto(nets[1])
    for group in ours.param_groups:
        group["lr"] = 1.0
    pairs = zip(trained(nets[0], ours), trained(nets[1], theirs), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_a_list_that_is_added_later_belongs_to_the_module_of_the_others():
    net = network()
    opt = untuned.Auto(list(net[3].parameters()))
    opt.add_param_group({"params": list(net[2].parameters())})
    assert opt.param_groups[1]["param_names"] == [f"2.{n}" for n, _ in net[2].named_parameters()]
    assert not any(isinstance(layer, untuned.geometry.Head) for layer in layers(opt)[1])


def test_of_a_compiled_module_it_is_the_one_that_sees_the_passes():
    torch._dynamo.reset()
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    compiled = torch.compile(net, backend="aot_eager")
    opt = untuned.Auto(list(compiled.parameters()))
    with warnings.catch_warnings():
        warnings.simplefilter("error", untuned.errors.UnseenInputsWarning)
        warnings.simplefilter("error", untuned.errors.AverageWarning)
        for _ in range(3):
            opt.zero_grad()
            compiled(torch.full((6, 4), 5.0)).square().mean().backward()
            opt.step()
    assert untuned.report(opt).layers[0].inputs == pytest.approx(5)


def test_a_parameter_beside_the_modules_leaves_lists_as_they_are():
    net, beside = network(), nn.Parameter(torch.ones(3))
    with pytest.warns(BareTensorsWarning):
        opt = untuned.Auto([*net.parameters(), beside])
    assert layers(opt) == [[None] * 9]
    assert len(opt.param_groups[0]["params"]) == 9


def test_parameters_of_no_one_module_warn_once_and_train():
    net, other = network(), network()
    given = [*net.parameters(), *other.parameters()]
    with pytest.warns(BareTensorsWarning, match=r"untuned\.Auto\(model\)") as seen:
        opt = untuned.Auto([{"params": given[::2]}, {"params": given[1::2]}])
    assert len(seen) == 1
    assert seen[0].filename == __file__
    before = [weight.detach().clone() for weight in net.parameters()]
    assert not any(map(torch.equal, before, trained(net, opt, 3)))


def test_tensors_that_no_module_owns_and_stated_geometry_are_no_habit():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        untuned.Auto([torch.zeros(4, 4, requires_grad=True)])
        weight = nn.Parameter(torch.zeros(4, 4))
        untuned.Auto([{"params": [weight], "layer": untuned.geometry.Dense(parts=2)}])
        untuned.AGD(list(network().parameters()))  # says in its docstring what it makes of these


def test_a_generator_that_has_begun_is_the_list_of_what_is_left():
    net = network()
    rest = net.parameters()
    next(rest)
    opt = untuned.AGD(rest)
    assert sum(len(group["params"]) for group in opt.param_groups) == 7
    (group,) = untuned.AGD(net.parameters(recurse=True), gain=2).param_groups[:1]
    assert group["gain"] == 2
    net[3].gain = nn.Parameter(torch.ones(3))  # beside the head, which is within
    own = untuned.AGD(net[3].parameters(recurse=False))
    assert [len(group["params"]) for group in own.param_groups] == [1]


def test_no_hook_stays_with_torch():
    """The module is found without hooks on all modules, which would slow every other one."""
    from torch.nn.modules import module

    untuned.Auto(network().parameters())
    assert not module._global_forward_pre_hooks
    assert not module._global_forward_hooks
