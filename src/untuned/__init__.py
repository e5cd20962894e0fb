"""Untuned: train PyTorch networks without hyperparameter tuning."""

from untuned import errors, geometry, rules
from untuned.optimizer import Optimizer
from untuned.optimizer.auto import Auto
from untuned.optimizer.initialise import initialise_
from untuned.optimizer.metrics import metrics
from untuned.optimizer.named import AGD, Nero
from untuned.optimizer.report import report

__all__ = [
    "AGD", "Auto", "Nero", "Optimizer", "errors", "geometry", "initialise_", "metrics", "report",
    "rules",
]  # fmt: skip
__version__ = "0.1.0"
