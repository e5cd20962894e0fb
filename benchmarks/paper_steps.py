"""The time of a step of the papers' experiments at full size, where no measurement stands for it.

python benchmarks/paper_steps.py [WORKLOAD ...]

Processor time of one core and one thread, the mean of three steps after the first, by workload and
optimizer, in docs/results/reproductions/steps.json. From it `untuned reproduce --list` estimates
hours. One optimizer stands for all others of its workload but Auto.
"""

import json
import sys
import time
from pathlib import Path

import torch

from untuned.lab.config import Config
from untuned.lab.errors import MissingDataError
from untuned.lab.programs.reproduce import EXPERIMENTS
from untuned.lab.training.run import TrainingRun

FILE = Path(__file__).parents[1] / "docs/results/reproductions/steps.json"
STEPS = 3


def step_time(workload: str, optimizer: str) -> float:
    """Milliseconds, without the first step."""
    config = Config(workload, optimizer, size="full", accelerator="cpu")
    run = TrainingRun(config, lambda *_: None)
    run.mode("train")
    stride = run.learner.stride
    run.learner.advance(0)
    began = time.process_time()
    for step in range(1, STEPS + 1):
        run.learner.advance(step * stride)
    return 1e3 * (time.process_time() - began) / (STEPS * stride)


def main(chosen: list[str]) -> None:
    """Measure what is missing, of some workloads or of all."""
    torch.set_num_threads(1)
    times = json.loads(FILE.read_text(encoding="utf-8"))
    for line in dict.fromkeys(line for e in EXPERIMENTS.values() for line in e.full.lines):
        known = times.get(line.workload, {})
        stands = {line.optimizer} if line.optimizer == "auto" else known.keys() - {"auto"}
        if stands & known.keys() or (chosen and line.workload not in chosen):
            continue
        try:
            known[line.optimizer] = round(step_time(line.workload, line.optimizer), 1)
        except MissingDataError as error:
            print(f"not timed: {line.workload}: {error}")
            continue
        times[line.workload] = known
        FILE.write_text(json.dumps(times, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
