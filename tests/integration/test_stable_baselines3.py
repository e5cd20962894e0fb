"""Stable-Baselines3: the page's PPO learns CartPole, saves and loads."""

import pytest

import untuned
from support.networks import numbers, same, snapshot
from support.pages import run_page

pytestmark = pytest.mark.integration


def mean_length(model):
    """Of the last twenty episodes; CartPole pays 1 for each step that the pole stands."""
    return sum(episode["l"] for episode in list(model.ep_info_buffer)[-20:]) / 20


def ppo(optimizer_class, rate=None, **options):
    """A small PPO; without a rate, at what Stable-Baselines3 takes for all optimizers."""
    from stable_baselines3 import PPO

    policy = {"optimizer_class": optimizer_class, "optimizer_kwargs": options}
    given = {} if rate is None else {"learning_rate": rate}
    return PPO("MlpPolicy", "CartPole-v1", n_steps=128, seed=0, policy_kwargs=policy, **given)


def test_the_page_learns_to_balance_the_pole():
    model = run_page("how-to/stable-baselines3")["model"]
    opt = model.policy.optimizer
    assert isinstance(opt, untuned.Auto)
    assert {group["lr"] for group in opt.param_groups} == {1.0}
    with opt.averaged():
        average = snapshot(model.policy)
    assert same(model.policy, average)  # which it saves, and plays with
    untrained = ppo(untuned.Auto, rate=0.0)
    untrained.learn(2048)
    assert mean_length(model) > 2 * mean_length(untrained)
    saved = type(model).load("cartpole")
    assert same(saved.policy, snapshot(model.policy))


def test_without_a_learning_rate_it_overwrites_ours():
    model = ppo(untuned.AGD)
    model.policy.optimizer.param_groups[0]["lr"] = 1.0
    with pytest.warns(untuned.errors.LearningRateWarning, match="leave lr at 1.0"):
        model.learn(128)
    assert model.policy.optimizer.param_groups[0]["lr"] == 3e-4


@pytest.mark.parametrize(
    ("optimizer_class", "rate", "options"),
    [
        (untuned.Auto, 1.0, {}),
        (untuned.AGD, 1.0, {}),
        (untuned.Nero, 0.01, {}),
        (untuned.Optimizer, 1.0, {"rule": "adam / sgd"}),
    ],
)
def test_what_is_loaded_goes_on_as_what_was_saved(optimizer_class, rate, options):
    model = ppo(optimizer_class, rate, **options)
    model.learn(256)
    model.save("saved")
    loaded = type(model).load("saved", env=model.get_env())
    before = snapshot(model.policy)
    for each in (model, loaded):
        each.set_random_seed(1)
        each.set_env(each.get_env(), force_reset=True)
        each.learn(256, reset_num_timesteps=False)
    assert not same(model.policy, before)
    assert same(loaded.policy, snapshot(model.policy))
    assert numbers(loaded.policy.optimizer) == numbers(model.policy.optimizer)
