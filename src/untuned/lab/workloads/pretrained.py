"""Weights that come trained: made once, then kept beside torch's own pretrained weights.

TORCH_HOME moves the folder. The name of a file is a digest of all that made it: initial weights,
data, optimizer, device and version of torch. The first process trains, and others wait for the
file.
"""

import hashlib
import os
from pathlib import Path

import torch
from filelock import FileLock
from lightning.fabric import Fabric
from torch import Tensor

from untuned.lab.baselines.methods import method_of
from untuned.lab.config import Config
from untuned.lab.workloads.supervised import Supervised, SupervisedLearner, chosen

OPTIMIZER = "adamw(lr=0.003)"
SEED = 0


def weights_after(task: Supervised, accelerator: str = "cpu") -> dict[str, Tensor]:
    """The weights and buffers that AdamW with warm-up and cosine decay makes of a task's network.

    torch's global random state is afterwards as before.

    Args:
        task: to train for all its steps.
        accelerator: to train it on, as in Lightning Fabric.

    Returns:
        The state of the network, on the CPU.
    """
    fabric = Fabric(accelerator=accelerator, devices=1)
    with torch.random.fork_rng():
        config = Config("", OPTIMIZER, schedule="cosine", seed=SEED)
        learner = SupervisedLearner(task, fabric, config)
        path = Path(torch.hub.get_dir()) / "untuned" / f"{_digest(learner, config)}.pt"
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if not path.exists():
                _train(learner, config)
                part = path.with_suffix(".part")
                torch.save(learner.model.state_dict(), part)
                os.replace(part, path)  # a file is there as a whole or not at all
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def _digest(learner: SupervisedLearner, config: Config) -> str:
    """Of what decides the weights; of the data their number and the first batch."""
    task, model = learner.task, learner.model
    inputs, targets = task.train.take(chosen(len(task.train), task.batch, config.seed, 0))
    tensors = {**model.state_dict(), "inputs": inputs, "targets": targets}
    recipe = (
        config.optimizer, config.schedule, config.seed, task.steps, len(task.train),
        learner.fabric.device.type, torch.__version__, str(model), list(tensors),
    )  # fmt: skip
    found = hashlib.sha256(repr(recipe).encode())
    for tensor in tensors.values():
        found.update(tensor.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:32]


def _train(learner: SupervisedLearner, config: Config) -> None:
    steps = learner.task.steps
    method = method_of(config.optimizer)
    learner.attach(*method.build(learner.model, steps, config.schedule))
    for step in range(steps):
        learner.advance(step)
