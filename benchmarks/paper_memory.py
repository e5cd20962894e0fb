"""The optimizer's memory on the Nero paper's networks at full size: bytes of state after a step.

python benchmarks/paper_memory.py [WORKLOAD ...]

Written to docs/results/reproductions/memory.json, by workload: bytes of the weights, and of the
state of each optimizer.
"""

import json
import sys
from pathlib import Path

from untuned.lab.config import Config
from untuned.lab.training.footprint import state_bytes, tensor_bytes
from untuned.lab.training.run import TrainingRun

FILE = Path(__file__).parents[1] / "docs/results/reproductions/memory.json"
WORKLOADS = ("mlp100-mnist", "vgg11-cifar10", "resnet18-cifar10-original",
             "transformer-wikitext2")  # fmt: skip
OPTIMIZERS = {
    "Nero": "nero", "LAMB": "lamb", "Adam": "adam", "SGD": "sgd", "SGD, momentum": "sgdm",
    "Auto": "auto",
}  # fmt: skip


def memory_of(workload: str) -> dict[str, int]:
    """Bytes of the weights, and of each optimizer's state."""
    found = {}
    for label, optimizer in OPTIMIZERS.items():
        config = Config(workload, optimizer, size="full", accelerator="cpu")
        run = TrainingRun(config, lambda *_: None)
        run.mode("train")
        run.learner.advance(0)
        found["weights"] = tensor_bytes([param.data for param in run.learner.model.parameters()])
        found[label] = state_bytes(run.optimizer)
    return found


def main(chosen: list[str]) -> None:
    """Measure some workloads or all."""
    known = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    for workload in chosen or WORKLOADS:
        known[workload] = memory_of(workload)
        FILE.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
