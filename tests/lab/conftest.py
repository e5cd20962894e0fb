"""Runs for the lab's tests."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _same_dice():
    """Runs seed torch; what comes after sees nothing of it."""
    with torch.random.fork_rng(devices=[]):
        yield


@pytest.fixture
def go():
    """A short run of a workload with an optimizer."""
    from untuned.lab.config import Config
    from untuned.lab.training.run import run

    def started(workload="fcn2-digits", optimizer="adamw", watch=None, **options):
        return run(Config(workload, optimizer, **{"accelerator": "cpu"} | options), watch)

    return started
