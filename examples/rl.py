"""Balance a pole: reinforcement learning by PPO, with stable-baselines3."""

import argparse

from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

import untuned

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--moves", type=int, default=10_240)
moves = parser.parse_args().moves

model = PPO(
    "MlpPolicy",
    make_vec_env("CartPole-v1", n_envs=8, seed=0),
    learning_rate=1.0,  # times Auto's own step; PPO would otherwise write 3e-4 into it
    policy_kwargs={"optimizer_class": untuned.Auto},
    n_steps=32,
    batch_size=256,
    n_epochs=20,
    gae_lambda=0.8,
    gamma=0.98,
    seed=0,
    device="cpu",
)
model.learn(moves)
poles = make_vec_env("CartPole-v1", n_envs=8, seed=1)
# Actions are sampled, as in training: the likeliest ones of a new policy may balance by luck
reward, deviation = evaluate_policy(model, poles, n_eval_episodes=16, deterministic=False)
print(f"mean return {reward:.0f} of at most 500, standard deviation {deviation:.0f}")
