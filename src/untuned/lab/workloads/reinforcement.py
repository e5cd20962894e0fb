"""Reinforcement learning by stable-baselines3's PPO: CartPole.

Settings except the learning rate are rl-baselines3-zoo's for CartPole-v1. Steps are the
optimizer's; the validation loss is minus the mean return. The random draws of an iteration depend
on the seed and the step alone.
"""

import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from untuned.lab.config import Config, Size
from untuned.lab.workloads.supervised import entropy
from untuned.lab.workloads.task import Learner, Workload, require_plain

EPISODES = 8  # of an evaluation
NO_LOG = 10**9  # iterations between two logs


class _ScheduledPPO(PPO):
    """PPO that leaves learning rates to the optimizer and its scheduler."""

    def _update_learning_rate(self, optimizers: Any) -> None:
        pass


@dataclass(frozen=True)
class Reinforcement:
    """A task of stable-baselines3's PPO."""

    environments: Callable[[int, int], VecEnv]  # from their number and a seed to the environments
    policy: str  # stable-baselines3's name for the network
    steps: int  # budget
    count: int  # number of environments
    moves: int  # in each environment and iteration
    passes: int  # over the moves of an iteration
    batches: int = 1  # of a pass
    episodes: int = EPISODES  # of an evaluation
    settings: dict[str, Any] = field(default_factory=dict)  # of PPO
    metric_name: str = "mean return"
    saved: bool = True  # whether environments can be; where not, a resumed run begins new games

    def learner(self, fabric: Fabric, config: Config) -> Learner:
        require_plain(fabric, config)
        return _ReinforcementLearner(self, fabric, config)


class _ReinforcementLearner(Learner):
    """A policy in training, one iteration of PPO at a time."""

    def __init__(self, task: Reinforcement, fabric: Fabric, config: Config) -> None:
        self.task, self.seed = task, config.seed
        self._moves = task.count * task.moves
        self.stride = task.passes * task.batches
        self._ppo = _ScheduledPPO(
            task.policy, task.environments(task.count, config.seed), n_steps=task.moves,
            batch_size=self._moves // task.batches, n_epochs=task.passes, seed=config.seed,
            device=fabric.device, **task.settings,
        )  # fmt: skip
        self._ppo.set_logger(Logger(None, []))
        self.model = self._ppo.policy

    def attach(self, optimizer: Optimizer, scheduler: LRScheduler | None) -> None:
        self._ppo.policy.optimizer = optimizer
        if scheduler:
            optimizer.register_step_post_hook(lambda *_: scheduler.step())

    def advance(self, step: int) -> Tensor:
        torch.manual_seed(entropy(self.seed, step))
        np.random.seed(entropy(self.seed, step))  # noqa: NPY002  # stable-baselines3 shuffles by it
        self._ppo.learn(self._moves, log_interval=NO_LOG, reset_num_timesteps=False)
        logged, ppo = self._ppo.logger.name_to_value, self._ppo
        return torch.tensor(  # the loss whose gradient PPO has followed
            logged["train/policy_gradient_loss"]
            + ppo.ent_coef * logged["train/entropy_loss"]
            + ppo.vf_coef * logged["train/value_loss"]
        )

    def evaluate(self) -> tuple[float, float]:
        """Minus the mean return, and the mean return, of episodes that start alike every time.

        Actions are sampled, as in training: the most likely actions of an untrained policy may
        balance the pole by luck.
        """
        torch.manual_seed(self.seed)
        count = self.task.episodes
        environments = self.task.environments(count, 10**6 + self.seed)
        found = evaluate_policy(self._ppo, environments, n_eval_episodes=count, deterministic=False)
        environments.close()
        mean: Any = found[0]
        return -float(mean), float(mean)

    def state(self) -> dict[str, Any]:
        ppo = self._ppo
        state = super().state() | {"moves": ppo.num_timesteps}
        if self.task.saved:
            worlds = pickle.dumps((ppo.env, ppo._last_obs, ppo._last_episode_starts))
            state["worlds"] = torch.frombuffer(bytearray(worlds), dtype=torch.uint8)
        return state

    def load(self, state: dict[str, Any]) -> None:
        super().load(state)
        if self.task.saved:
            worlds = pickle.loads(state["worlds"].numpy().tobytes())
            self._ppo.env, self._ppo._last_obs, self._ppo._last_episode_starts = worlds
        self._ppo.num_timesteps = state["moves"]


def _cartpole(size: Size) -> Reinforcement:
    passes = 20
    steps = (40 if size == "small" else 390) * passes
    settings = {"gae_lambda": 0.8, "gamma": 0.98}
    poles = lambda count, seed: make_vec_env("CartPole-v1", n_envs=count, seed=seed)  # noqa: E731
    return Reinforcement(poles, "MlpPolicy", steps, 8, 32, passes, settings=settings)


WORKLOADS = {"ppo-cartpole": Workload("stable-baselines3's PPO, CartPole", _cartpole)}
