"""Regression: median house values of California's districts in 1990 (Pace and Barry, 1997)."""

import math
from functools import cache, partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from untuned.lab.config import Size
from untuned.lab.workloads.data import rows
from untuned.lab.workloads.supervised import Supervised
from untuned.lab.workloads.task import Metric, Pairs, Workload

TARGET, PLACE = "median_house_value", "ocean_proximity"


@cache
def housing() -> tuple[Pairs, Pairs]:
    """18,576 districts for training and 2,064 for validation, in a fixed order.

    Features (n, 13) have mean zero and variance one over the former; values are in 100,000 $.
    """
    table = rows("california_housing", "housing").to_pandas()
    table = table.sample(frac=1.0, random_state=0, ignore_index=True)
    places = np.stack([table[PLACE] == place for place in sorted(table[PLACE].unique())], axis=1)
    numbers = table.drop(columns=[TARGET, PLACE])
    cut = round(0.9 * len(table))
    numbers = numbers.fillna(numbers[:cut].median())
    features = torch.tensor(np.concatenate([numbers.to_numpy(), places], axis=1, dtype=float))
    mean, deviation = features[:cut].mean(0), features[:cut].std(0)
    x = ((features - mean) / deviation).float()
    y = torch.tensor(table[TARGET].to_numpy(dtype=float) / 1e5).float()[:, None]
    return Pairs(x[:cut], y[:cut]), Pairs(x[cut:], y[cut:])


def _mlp(inputs: int, width: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
        nn.Linear(width, 1),
    )  # fmt: skip


def _housing(size: Size) -> Supervised:
    train, valid = housing()
    width, batch, steps = (64, 64, 600) if size == "small" else (256, 256, 15_000)
    error = Metric("root mean square error, 100,000 $", F.mse_loss, math.sqrt)
    model = partial(_mlp, train.inputs.shape[1], width)
    if size == "small":
        valid = Pairs(valid.inputs[:1000], valid.targets[:1000])
    return Supervised(model, train, valid, batch, steps, error, loss=F.mse_loss)


WORKLOADS = {"mlp-housing": Workload("a network of three layers, California housing", _housing)}
