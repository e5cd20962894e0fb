"""What torch checks of its own optimizers, asked of ours: states, hooks and copies."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from support.infos import PLAIN, Squares
from support.networks import equal

pytestmark = pytest.mark.integration
every_rule = pytest.mark.parametrize("case", PLAIN, ids=str)


def trained(case, steps=4):
    """A problem, and an optimizer that has worked on it."""
    problem = Squares()
    opt = case(problem.params, lr=0.1)
    problem.train(opt, steps)
    return problem, opt


def twin(case, problem):
    """The same weights, and an optimizer that has seen nothing."""
    other = Squares()
    opt = case(other.params)  # Nero balances, so it goes first
    for mine, its in zip(other.params, problem.params, strict=True):
        mine.data.copy_(its.data)
    return other, opt


def go_on_alike(problem, opt, other, its):
    """Whether both train on alike, to the bit."""
    losses = problem.train(opt, 4)
    assert losses[-1] < losses[0]
    return losses == other.train(its, 4) and equal(opt.state_dict(), its.state_dict())


@every_rule
def test_the_same_training_gives_the_same_state(case):
    (_, one), (_, other) = trained(case), trained(case)
    assert equal(one.state_dict(), other.state_dict())
    assert not equal(one.state_dict(), trained(case, 3)[1].state_dict())


@every_rule
def test_a_saved_state_loads_with_weights_only_and_goes_on_alike(case):
    problem, opt = trained(case)
    file = io.BytesIO()
    torch.save(opt.state_dict(), file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    assert equal(loaded, opt.state_dict())
    other, its = twin(case, problem)
    its.load_state_dict(loaded)
    assert go_on_alike(problem, opt, other, its)


@every_rule
def test_what_it_does_not_know_in_a_state_is_carried_along(case):
    problem, opt = trained(case)
    state = copy.deepcopy(opt.state_dict())
    state["note"] = "of someone else"
    state["param_groups"][0]["tag"] = "of someone else"
    state["state"].setdefault(0, {})["of.someone.else"] = torch.ones(2)
    other, its = twin(case, problem)
    its.load_state_dict(state)
    again = its.state_dict()
    assert again["param_groups"][0]["tag"] == "of someone else"
    assert again["state"][0]["of.someone.else"].tolist() == [1, 1]
    assert problem.train(opt, 4) == other.train(its, 4)


@pytest.mark.parametrize("missing", [{"maximize"}, {"effective_lr", "layer", "rule"}])
@every_rule
def test_a_state_of_an_older_version_has_fewer_keys(case, missing):
    problem, opt = trained(case)
    state = copy.deepcopy(opt.state_dict())
    for group in state["param_groups"]:
        for key in missing:
            del group[key]
    other, its = twin(case, problem)
    its.load_state_dict(state)
    assert go_on_alike(problem, opt, other, its)


@pytest.mark.parametrize("named", [(True, False), (False, True)], ids=["to plain", "to named"])
@every_rule
def test_states_load_between_named_and_plain_parameters(case, named):
    problem, loaded = Squares(), Squares()
    pairs = [list(zip("wb", each.params, strict=True)) for each in (problem, loaded)]
    opt = case(pairs[0] if named[0] else problem.params, lr=0.1)
    problem.train(opt, 4)
    its = case(pairs[1] if named[1] else loaded.params)
    for mine, other in zip(loaded.params, problem.params, strict=True):
        mine.data.copy_(other.data)
    its.load_state_dict(opt.state_dict())
    assert problem.train(opt, 4) == loaded.train(its, 4)


@every_rule
def test_hooks_of_steps_fire_in_torchs_order(case):
    problem = Squares()
    opt, seen = case(problem.params), []

    def told(name):
        return lambda *given: seen.append((name, given[0] is opt))

    handles = [
        opt.register_step_pre_hook(told("own, before")),
        opt.register_step_post_hook(told("own, after")),
        register_optimizer_step_pre_hook(told("global, before")),
        register_optimizer_step_post_hook(told("global, after")),
    ]
    problem.train(opt, 1)
    order = ["global, before", "own, before", "own, after", "global, after"]
    assert seen == [(name, True) for name in order]
    for handle in handles:
        handle.remove()
    problem.train(opt, 1)
    assert len(seen) == 4


@every_rule
def test_a_hook_before_a_step_may_change_its_arguments(case):
    problem = Squares()
    opt = case(problem.params)
    opt.register_step_pre_hook(lambda opt, args, kwargs: ((opt, lambda: 7.0), kwargs))
    assert opt.step() == 7.0


@every_rule
def test_hooks_of_saving_and_loading_fire_in_torchs_order_and_stay(case):
    _, opt = trained(case)
    seen = []

    def told(name):
        return lambda *_: seen.append(name)

    opt.register_state_dict_pre_hook(told("saving, 2nd"))
    opt.register_state_dict_pre_hook(told("saving, 1st"), prepend=True)
    opt.register_state_dict_post_hook(told("saved, 2nd"))
    opt.register_state_dict_post_hook(told("saved, 1st"), prepend=True)
    opt.register_load_state_dict_pre_hook(told("loading, 2nd"))
    opt.register_load_state_dict_pre_hook(told("loading, 1st"), prepend=True)
    opt.register_load_state_dict_post_hook(told("loaded, 2nd"))
    opt.register_load_state_dict_post_hook(told("loaded, 1st"), prepend=True)
    each = ["saving, 1st", "saving, 2nd", "saved, 1st", "saved, 2nd"]
    each += ["loading, 1st", "loading, 2nd", "loaded, 1st", "loaded, 2nd"]
    for _ in range(2):
        seen.clear()
        opt.load_state_dict(opt.state_dict())
        assert seen == each


@every_rule
def test_hooks_may_replace_what_is_saved_and_loaded(case):
    _, opt = trained(case)

    def with_lr(rate):
        def hook(_, state):
            groups = [{**group, "lr": rate} for group in state["param_groups"]]
            return {**state, "param_groups": groups}

        return hook

    opt.register_state_dict_post_hook(with_lr(0.25))
    assert opt.state_dict()["param_groups"][0]["lr"] == 0.25
    opt.register_load_state_dict_pre_hook(with_lr(0.5))
    opt.load_state_dict(opt.state_dict())
    assert opt.param_groups[0]["lr"] == 0.5


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
@every_rule
def test_copies_have_every_public_attribute_and_go_on_alike(case, duplicate):
    problem, opt = trained(case)
    other, its = duplicate((problem, opt))
    public = {name for name in vars(opt) if not name.startswith("_")}
    assert public == {name for name in vars(its) if not name.startswith("_")}
    assert its.param_groups[0]["params"][0] is other.params[0] is not problem.params[0]
    assert go_on_alike(problem, opt, other, its)


@every_rule
def test_a_group_added_after_some_steps_moves_from_then_on(case):
    problem, opt = trained(case)
    other, its = trained(case)
    late = nn.Parameter(torch.randn(2, 2))
    opt.add_param_group({"params": [late], "lr": 0.05})
    before = late.detach().clone()
    assert problem.train(opt, 2) == other.train(its, 2)  # it has no gradient yet
    assert torch.equal(late, before)
    late.grad = torch.randn(2, 2)
    opt.step()
    assert not torch.equal(late, before)
    assert [group["lr"] for group in opt.param_groups] == [0.1, 0.05]


@every_rule
def test_defaults_are_for_groups_to_come(case):
    problem = Squares()
    opt = case(problem.params[:1], lr=0.1)
    before = dict(opt.defaults)
    problem.train(opt, 3)
    assert opt.defaults == before
    opt.defaults["lr"] = 0.25
    opt.add_param_group({"params": problem.params[1:]})
    assert [group["lr"] for group in opt.param_groups] == [0.1, 0.25]
