"""How far the offsets of a kernel go the same way in a step, while Auto trains.

python benchmarks/offsets.py [WORKLOAD ...]

For each convolution ||sum_o U_o V_o^T|| / sqrt(sum_o ||U_o V_o^T||^2), with U_o S_o V_o^T = the
momentum at offset o: 1 where offsets are unrelated, sqrt(k) where all k are equal. Auto's radius
assumes k^(1/4).
"""

import sys

import torch
from rich.console import Console
from torch import Tensor, nn

from untuned.lab.config import Config
from untuned.lab.report.table import Table
from untuned.lab.training.run import TrainingRun

WORKLOADS = ("resnet20-cifar10", "superres-fashion", "denoiser-fashion")
STEPS = (10, 30, 100, 200)
SEED = 4


def alike(momentum: Tensor) -> float:
    """Of a kernel (outputs, inputs, kx, ky)."""
    U, _, Vh = torch.linalg.svd(momentum.flatten(2).movedim(2, 0), full_matrices=False)
    duals = U @ Vh
    return float(duals.sum(0).norm() / duals.norm())


def ratios(workload: str) -> list[list[float]]:
    """Of each kernel of more than one offset, after each of `STEPS`."""
    run = TrainingRun(Config(workload, "auto", seed=SEED), lambda *_: None)
    run.mode("train")
    found = []
    for step in range(STEPS[-1]):
        run.learner.advance(step)
        if step + 1 in STEPS:
            found.append([
                alike(run.optimizer.state[module.weight]["momentum"])
                for module in run.learner.model.modules()
                if isinstance(module, nn.Conv2d) and module.weight[0, 0].numel() > 1
            ])  # fmt: skip
    return found


def main(chosen: list[str]) -> None:
    """A table: least, mean and largest over the kernels."""
    texts = []
    for workload in chosen or WORKLOADS:
        for step, each in zip(STEPS, ratios(workload), strict=True):
            numbers = (min(each), sum(each) / len(each), max(each))
            texts.append([workload, str(step), *(f"{number:.2f}" for number in numbers)])
    table = Table.of(["workload", "step", "least", "mean", "largest"], texts, "Offsets alike")
    Console().print(table.rich())


if __name__ == "__main__":
    main(sys.argv[1:])
