"""Options that code brings from other optimizers: taken with one warning, or refused by name."""

import warnings

import pytest
import torch
from torch import nn

import untuned
from untuned.errors import IgnoredWarning, UnknownHyperparameterError
from untuned.rules import SGD, Adam

OPTIMIZERS = {
    "Auto": untuned.Auto,
    "AGD": untuned.AGD,
    "Nero": untuned.Nero,
    "SGD": lambda params, **options: untuned.Optimizer(params, SGD(), **options),
    "tower": lambda params, **options: untuned.Optimizer(params, "sgd / sgd", **options),
}
every_optimizer = pytest.mark.parametrize("build", OPTIMIZERS.values(), ids=OPTIMIZERS)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


def trained(opt, net, steps=3):
    """The weights after some steps."""
    for _ in range(steps):
        opt.zero_grad()
        net(torch.linspace(-1, 1, 12).view(3, 4)).square().sum().backward()
        opt.step()
    return [param.detach().clone() for param in net.parameters()]


@every_optimizer
def test_harmless_options_are_named_in_one_warning_and_change_nothing(build):
    options = {
        "weight_decay": 0.1, "betas": (0.9, 0.95), "eps": 1e-8, "fused": True, "foreach": True,
        "amsgrad": True, "capturable": True,
    }  # fmt: skip
    net, plain = network(), network()
    with pytest.warns(IgnoredWarning) as seen:
        opt = build(net, **options)
    assert len(seen) == 1
    assert all(name in str(seen[0].message) for name in options)
    assert seen[0].filename == __file__
    for ours, theirs in zip(trained(opt, net), trained(build(plain), plain), strict=True):
        assert torch.equal(ours, theirs)


def test_what_asks_for_nothing_is_taken_without_a_word():
    options = {"weight_decay": 0.0, "fused": None, "foreach": False, "amsgrad": False}
    options |= {"momentum": 0.0, "nesterov": False, "dampening": 0, "differentiable": False}
    untuned.Auto(network(), **options)
    untuned.Auto([{"params": network(), **options}])


@every_optimizer
def test_groups_with_weight_decay_as_recipes_make_them_are_taken_with_one_warning(build):
    net = network()
    groups = [
        {"params": [net[0].weight, net[2].weight], "weight_decay": 0.1, "layer": None},
        {"params": [net[0].bias, net[2].bias], "weight_decay": 0.0},
    ]
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        opt = build(groups, weight_decay=0.05)
    told = [str(each.message) for each in seen if each.category is IgnoredWarning]
    assert len(told) == 1
    assert "weight_decay" in told[0]
    before = [param.detach().clone() for param in net.parameters()]
    moved = zip(trained(opt, net), before, strict=True)
    assert all(not torch.equal(now, then) for now, then in moved)


def test_a_group_that_comes_later_says_only_what_is_new():
    with pytest.warns(IgnoredWarning, match="weight_decay"):
        opt = untuned.AGD(network(), weight_decay=0.1)
    opt.add_param_group({"params": network(), "weight_decay": 0.2})  # warnings are errors here
    with pytest.warns(IgnoredWarning, match=r"^betas: "):
        opt.add_param_group({"params": network(), "betas": (0.9, 0.99)})


@every_optimizer
@pytest.mark.parametrize("given", [{"differentiable": True}, {"nesterov": True}, {"centered": 1}])
def test_what_asks_for_another_step_is_refused_by_name(build, given):
    (name,) = given
    with pytest.raises(UnknownHyperparameterError, match=f"{name}="):
        build(network(), **given)


def test_the_mend_of_a_refusal_works():
    with pytest.raises(UnknownHyperparameterError, match=r"momentum=0\.9.*SGD") as refused:
        untuned.Auto(network(), momentum=0.9)
    assert isinstance(refused.value, TypeError)  # as torch's optimizers have it
    untuned.Optimizer(network(), SGD(lr=0.1, momentum=0.9))
    with pytest.raises(UnknownHyperparameterError, match="momentum"):
        untuned.Auto([{"params": network(), "momentum": 0.9}])


def test_a_rules_own_options_are_its_own():
    """Adam has betas: in a group they count, and beside the rule they are refused."""
    net, plain = network(), network()
    ours = untuned.Optimizer([{"params": net, "betas": (0.5, 0.9), "eps": 1e-6}], Adam(0.01))
    theirs = torch.optim.Adam(plain.parameters(), 0.01, betas=(0.5, 0.9), eps=1e-6)
    for one, other in zip(trained(ours, net), trained(theirs, plain), strict=True):
        torch.testing.assert_close(one, other)
    with pytest.raises(UnknownHyperparameterError, match=r"Adam\(betas=\(0.5, 0.9\)\)"):
        untuned.Optimizer(network(), Adam(0.01), betas=(0.5, 0.9))
    with pytest.warns(IgnoredWarning, match="weight_decay"):
        untuned.Optimizer(network(), Adam(0.01), weight_decay=0.1)


def test_schedule_frees_modes_do_nothing_and_say_so_once():
    net = network()
    opt = untuned.Auto(net)
    with pytest.warns(IgnoredWarning, match=r"train\(\).*model.train\(\)") as seen:
        opt.train()
    assert seen[0].filename == __file__
    opt.eval()
    opt.train()
    assert [tuple(map(torch.equal, trained(opt, net), net.parameters()))] == [(True,) * 4]


def test_a_trainer_that_calls_the_modes_by_itself_is_no_users_habit():
    from accelerate.optimizer import AcceleratedOptimizer

    opt = untuned.Auto(network())
    AcceleratedOptimizer.train(type("Prepared", (), {"optimizer": opt})())


@pytest.mark.parametrize(
    "schedule",
    [
        lambda opt: torch.optim.lr_scheduler.OneCycleLR(opt, 1.0, 10),
        lambda opt: torch.optim.lr_scheduler.CyclicLR(opt, 0.1, 1.0, 4),
    ],
)
def test_a_schedule_that_cycles_a_momentum_is_taken_with_a_warning(schedule):
    """The same steps as without the cycles; a state with a momentum loads."""
    net, plain = network(), network()
    opt, other = untuned.Auto(net), untuned.Auto(plain)
    assert "momentum" not in opt.param_groups[0]
    scheduler = schedule(opt)
    with pytest.warns(IgnoredWarning, match="cycle_momentum=False") as seen:
        for _ in range(4):
            for group, its in zip(opt.param_groups, other.param_groups, strict=True):
                its["lr"] = group["lr"]
            pairs = zip(trained(opt, net, 1), trained(other, plain, 1), strict=True)
            assert all(torch.equal(one, same) for one, same in pairs)
            scheduler.step()
    assert len(seen) == 1
    fresh = untuned.Auto(network())
    fresh.load_state_dict(opt.state_dict())
    fresh.load_state_dict(other.state_dict())
    assert "momentum" not in fresh.param_groups[0]


def test_groups_of_auto_have_no_momentum_that_nobody_set():
    opt = untuned.Auto(network())
    opt.add_param_group({"params": network()})
    opt.load_state_dict(opt.state_dict())
    assert not any("momentum" in group for group in opt.param_groups)
