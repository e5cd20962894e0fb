"""Reinforcement: a pole to be balanced on a cart, by stable-baselines3's PPO.

Settings but the learning rate's as of rl-baselines3-zoo for CartPole-v1. Steps are the optimizer's;
the validation loss is minus the mean return. What an iteration draws depends on the seed and the
step alone.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import Logger
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from untuned.lab.config import Config, Size
from untuned.lab.errors import ConfigError
from untuned.lab.supervised import entropy
from untuned.lab.task import Workload

POLES, MOVES, PASSES = 8, 32, 20  # environments, moves in each and passes over them an iteration
JUDGED = 8  # episodes
NEVER = 10**9  # iterations


class Scheduled(PPO):
    """PPO that leaves learning rates to the optimizer and its scheduler."""

    def _update_learning_rate(self, optimizers: Any) -> None:
        pass


def loss_of(logged: dict[str, float], ppo: PPO) -> float:
    """The loss whose gradient PPO has followed, mean over an iteration."""
    parts = (
        (1.0, "policy_gradient_loss"),
        (ppo.ent_coef, "entropy_loss"),
        (ppo.vf_coef, "value_loss"),
    )
    return float(sum(weight * logged[f"train/{name}"] for weight, name in parts))


@dataclass(frozen=True)
class Reinforcement:
    """A task of stable-baselines3's PPO."""

    environment: str
    steps: int
    metric_name: str = "mean return"

    def learner(self, fabric: Fabric, config: Config) -> ReinforcementLearner:
        """The policy with new weights, by the configuration's seed."""
        if fabric.world_size > 1 or config.compile or config.precision != "32-true":
            raise ConfigError(f"{config.workload} runs in one process, in 32 bits, not compiled")
        return ReinforcementLearner(self, fabric, config)


class ReinforcementLearner:
    """A policy in training; an iteration of PPO is one advance."""

    seed: int
    environment: str
    ppo: Scheduled

    stride = PASSES

    def __init__(self, task: Reinforcement, fabric: Fabric, config: Config) -> None:
        self.seed, self.environment = config.seed, task.environment
        worlds = make_vec_env(task.environment, n_envs=POLES, seed=config.seed)
        self.ppo = Scheduled(
            "MlpPolicy", worlds, n_steps=MOVES, batch_size=POLES * MOVES, n_epochs=PASSES,
            gae_lambda=0.8, gamma=0.98, seed=config.seed, device=fabric.device,
        )  # fmt: skip
        self.ppo.set_logger(Logger(None, []))
        self.model: nn.Module = self.ppo.policy

    def attach(self, optimizer: Optimizer, scheduler: LRScheduler | None) -> None:
        """Have this optimizer train the policy from now on."""
        self.ppo.policy.optimizer = optimizer
        if scheduler:
            optimizer.register_step_post_hook(lambda *_: scheduler.step())

    def _draw(self, step: int) -> None:
        """Seed all that PPO draws from, but for the environments, which have dice of their own."""
        torch.manual_seed(entropy(self.seed, step))
        np.random.seed(entropy(self.seed, step))  # noqa: NPY002  # stable-baselines3 shuffles by it

    def advance(self, step: int) -> Tensor:
        """An iteration: some moves in every environment, then as many steps as passes over them."""
        self._draw(step)
        self.ppo.learn(POLES * MOVES, log_interval=NEVER, reset_num_timesteps=False)
        return torch.tensor(loss_of(self.ppo.logger.name_to_value, self.ppo))

    def evaluate(self) -> tuple[float, float]:
        """Minus the mean return, and the mean return, in episodes that start alike every time.

        Moves are drawn, as in training: the likeliest moves of a policy that knows nothing yet
        may balance the pole by luck.
        """
        torch.manual_seed(self.seed)
        judged = make_vec_env(self.environment, n_envs=JUDGED, seed=10**6 + self.seed)
        mean: Any = evaluate_policy(self.ppo, judged, n_eval_episodes=JUDGED, deterministic=False)[
            0
        ]
        judged.close()
        return -float(mean), float(mean)

    def state(self) -> dict[str, Any]:
        """The weights, and where the environments are."""
        worlds = (self.ppo.env, self.ppo._last_obs, self.ppo._last_episode_starts)
        frozen = torch.frombuffer(bytearray(pickle.dumps(worlds)), dtype=torch.uint8)
        return {"model": self.model.state_dict(), "worlds": frozen, "moves": self.ppo.num_timesteps}

    def load(self, state: dict[str, Any]) -> None:
        """Take them."""
        self.model.load_state_dict(state["model"])
        worlds = pickle.loads(state["worlds"].numpy().tobytes())
        self.ppo.env, self.ppo._last_obs, self.ppo._last_episode_starts = worlds
        self.ppo.num_timesteps = state["moves"]


def _cartpole(size: Size) -> Reinforcement:
    return Reinforcement("CartPole-v1", 40 * PASSES if size == "small" else 390 * PASSES)


WORKLOADS = {"ppo-cartpole": Workload("stable-baselines3's PPO, CartPole", _cartpole)}
