"""Run on two processes: `torchrun ranks_zero.py FOLDER`: torch's `ZeroRedundancyOptimizer` on ours.

Leaves, of each rule, the weights after 20 steps, or what was said instead.
"""

import sys
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.optim import ZeroRedundancyOptimizer

import untuned
from networks import perceptron, train

RULES = ("adam", "adagrad", "agd", "nero", "adam / sgd", "sgd / sgd")


def main() -> None:
    """Train the same network on every process with each rule, each with its share of the state."""
    dist.init_process_group("gloo")
    torch.set_num_threads(1)
    found: dict[str, object] = {}
    for rule in RULES:
        torch.manual_seed(0)
        model = perceptron()
        try:
            optimizer = partial(untuned.Optimizer, rule=rule)
            opt = ZeroRedundancyOptimizer(model.parameters(), optimizer, lr=0.01)
        except untuned.errors.ParameterError as error:
            found[rule] = str(error)
            continue
        train(model, opt, 20)
        assert len(opt.optim.state) < len(list(model.parameters()))
        found[rule] = [param.detach() for param in model.parameters()]
    if dist.get_rank() == 0:
        torch.save(found, Path(sys.argv[1]) / "zero.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
