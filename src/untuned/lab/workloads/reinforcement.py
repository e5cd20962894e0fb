"""Reinforcement: a pole to be balanced on a cart, and Atari's Pong, by stable-baselines3's PPO.

Settings but the learning rate's as of rl-baselines3-zoo for CartPole-v1, and for Pong as of the
Nero paper's code (arXiv:2102.07227, figure 9). Steps are the optimizer's; the validation loss is
minus the mean return. What an iteration draws depends on the seed and the step alone. A resumed run
of Pong begins a new game: its emulator is not kept.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_atari_env, make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from untuned.lab.config import Config, Size
from untuned.lab.errors import ConfigError, MissingDataError
from untuned.lab.supervised import entropy
from untuned.lab.task import Workload

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


Worlds = Callable[[int, int], VecEnv]  # so many environments, from a seed


def poles(count: int, seed: int) -> VecEnv:
    """CartPole."""
    return make_vec_env("CartPole-v1", n_envs=count, seed=seed)


def pong(count: int, seed: int) -> VecEnv:
    """Pong as PPO's users see it: grey, 84x84, four frames at a time. Raises `MissingDataError`."""
    try:
        import ale_py
        import cv2  # noqa: F401  # by which stable-baselines3 shrinks frames
        import gymnasium
    except ModuleNotFoundError as error:
        raise MissingDataError(f"{error.name} is missing: pip install 'untuned[atari]'") from error
    gymnasium.register_envs(ale_py)
    return VecFrameStack(make_atari_env("PongNoFrameskip-v4", n_envs=count, seed=seed), 4)


@dataclass(frozen=True)
class Reinforcement:
    """A task of stable-baselines3's PPO."""

    worlds: Worlds
    policy: str
    steps: int
    count: int  # environments,
    moves: int  # and moves in each, an iteration
    passes: int  # over them,
    batches: int = 1  # each in so many batches
    judged: int = JUDGED
    settings: dict[str, Any] = field(default_factory=dict)
    metric_name: str = "mean return"

    def learner(self, fabric: Fabric, config: Config) -> ReinforcementLearner:
        """The policy with new weights, by the configuration's seed."""
        if fabric.world_size > 1 or config.compile or config.precision != "32-true":
            raise ConfigError(f"{config.workload} runs in one process, in 32 bits, not compiled")
        return ReinforcementLearner(self, fabric, config)


class ReinforcementLearner:
    """A policy in training; an iteration of PPO is one advance."""

    seed: int
    task: Reinforcement
    moves: int
    stride: int
    ppo: Scheduled

    def __init__(self, task: Reinforcement, fabric: Fabric, config: Config) -> None:
        self.seed, self.task = config.seed, task
        self.moves = task.count * task.moves
        self.stride = task.passes * task.batches
        self.ppo = Scheduled(
            task.policy, task.worlds(task.count, config.seed), n_steps=task.moves,
            batch_size=self.moves // task.batches, n_epochs=task.passes, seed=config.seed,
            device=fabric.device, **task.settings,
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
        self.ppo.learn(self.moves, log_interval=NEVER, reset_num_timesteps=False)
        return torch.tensor(loss_of(self.ppo.logger.name_to_value, self.ppo))

    def evaluate(self) -> tuple[float, float]:
        """Minus the mean return, and the mean return, in episodes that start alike every time.

        Moves are drawn, as in training: the likeliest moves of a policy that knows nothing yet
        may balance the pole by luck.
        """
        torch.manual_seed(self.seed)
        count = self.task.judged
        judged = self.task.worlds(count, 10**6 + self.seed)
        found = evaluate_policy(self.ppo, judged, n_eval_episodes=count, deterministic=False)
        judged.close()
        mean: Any = found[0]
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
    passes = 20
    steps = (40 if size == "small" else 390) * passes
    settings = {"gae_lambda": 0.8, "gamma": 0.98}
    return Reinforcement(poles, "MlpPolicy", steps, 8, 32, passes, settings=settings)


def _pong(size: Size) -> Reinforcement:
    small = size == "small"
    settings = {"clip_range": 0.1, "ent_coef": 0.01, "vf_coef": 0.5}
    moves, passes, batches = (32, 4, 2) if small else (128, 4, 4)
    iterations = 4 if small else 5_000_000 // (8 * moves)
    return Reinforcement(
        pong, "CnnPolicy", iterations * passes * batches, 2 if small else 8, moves, passes, batches,
        1 if small else JUDGED, settings,
    )  # fmt: skip


WORKLOADS = {"ppo-cartpole": Workload("stable-baselines3's PPO, CartPole", _cartpole)}
PAPERS = {"ppo-pong": Workload("stable-baselines3's PPO, Atari's Pong", _pong)}
