"""Atari's Pong by PPO, as of the Nero paper's code (arXiv:2102.07227, figure 9).

A resumed run begins a new game: the state of the emulator is not saved.
"""

from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack

from untuned.lab.config import Size
from untuned.lab.errors import MissingDataError
from untuned.lab.workloads.reinforcement import EPISODES, Reinforcement
from untuned.lab.workloads.task import Workload


def _games(count: int, seed: int) -> VecEnv:
    """Grey frames of 84x84, four at a time."""
    try:
        import ale_py
        import cv2  # noqa: F401  # by which stable-baselines3 shrinks frames
        import gymnasium
    except ModuleNotFoundError as error:
        raise MissingDataError(f"{error.name} is missing: pip install 'untuned[atari]'") from error
    gymnasium.register_envs(ale_py)
    return VecFrameStack(make_atari_env("PongNoFrameskip-v4", n_envs=count, seed=seed), 4)


def _pong(size: Size) -> Reinforcement:
    small = size == "small"
    settings = {"clip_range": 0.1, "ent_coef": 0.01, "vf_coef": 0.5}
    moves, passes, batches = (32, 4, 2) if small else (128, 4, 4)
    iterations = 4 if small else 5_000_000 // (8 * moves)
    return Reinforcement(
        _games, "CnnPolicy", iterations * passes * batches, 2 if small else 8, moves, passes,
        batches, 1 if small else EPISODES, settings, saved=False,
    )  # fmt: skip


WORKLOADS = {"ppo-pong": Workload("stable-baselines3's PPO, Atari's Pong", _pong)}
