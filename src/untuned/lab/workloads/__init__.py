"""Workloads: networks with data, a loss, a budget and a metric; here what your own are made of."""

from untuned.lab.workloads.loop import TrainingLoop
from untuned.lab.workloads.supervised import Supervised
from untuned.lab.workloads.task import ACCURACY, Batch, Examples, Metric, Pairs, Workload

__all__ = [
    "ACCURACY", "Batch", "Examples", "Metric", "Pairs", "Supervised", "TrainingLoop", "Workload",
]  # fmt: skip
