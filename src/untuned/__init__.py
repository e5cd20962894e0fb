"""Untuned: train PyTorch networks without hyperparameter tuning."""

from untuned import errors, geometry, rules
from untuned.auto import Auto
from untuned.initialise import initialise_
from untuned.named import AGD, Nero
from untuned.optimizer import Optimizer

__all__ = ["AGD", "Auto", "Nero", "Optimizer", "errors", "geometry", "initialise_", "rules"]
__version__ = "0.1.0"
