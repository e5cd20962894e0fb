"""The golden trajectories: what reference implementations did."""

import json
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

GOLDEN = Path(__file__).parents[1] / "golden"


class Golden(NamedTuple):
    """A recorded trajectory of a reference implementation (tests/golden/README.md)."""

    meta: dict
    initial: dict[str, Tensor]
    final: dict[str, Tensor]
    losses: Tensor
    trace: dict[str, Tensor]


def load_golden(name: str) -> Golden:
    """Read one of the recorded trajectories, in float64."""
    with np.load(GOLDEN / f"{name}.npz") as file:
        meta = json.loads(str(file["meta"]))
        arrays = {key: torch.tensor(file[key]) for key in file.files if key != "meta"}

    def under(prefix: str) -> dict[str, Tensor]:
        return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}

    return Golden(meta, under("init/"), under("final/"), arrays["losses"], under("trace/"))


def loss_of(kind: str, output: Tensor, labels: Tensor) -> Tensor:
    """The recordings' losses: cross-entropy, or the squared error of the papers."""
    if kind == "ce":
        return F.cross_entropy(output, labels)
    return (output - math.sqrt(10) * F.one_hot(labels, 10).double()).square().mean()


def close(ours, golden: Tensor) -> None:
    """Raise unless ours is the recording, to 1e-9."""
    torch.testing.assert_close(
        torch.as_tensor(ours, dtype=torch.float64), golden, rtol=1e-9, atol=0
    )
