"""Runs for the lab's tests."""

import multiprocessing
import random
import time

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


@pytest.fixture
def _at_once(monkeypatch):
    """Streams end without a wait for their threads, which keeps them from outliving Python."""
    import datasets

    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0, raising=False)


@pytest.fixture(scope="session")
def forks():
    """A context whose processes are forked from one that has imported what trains."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["untuned.lab.training.run"])
    return context


@pytest.fixture
def pause():
    """Sleep for a random time, which pytest shows if the test fails."""

    def slept(longest):
        seconds = random.SystemRandom().uniform(0, longest)
        print(f"slept for {seconds:.4f} s of {longest} s at most")  # noqa: T201
        time.sleep(seconds)

    return slept
