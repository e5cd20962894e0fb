"""Trainers write where they are run, keep state between runs, and take a GPU if there is one."""

import contextlib

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset


def stay(folder, patch):
    """Work in a folder, on the CPU, where runs can be compared bit for bit."""
    patch.chdir(folder)
    patch.setattr(torch.cuda, "is_available", lambda: False)
    patch.setattr(torch.cuda, "device_count", lambda: 0)


@pytest.fixture(autouse=True)
def _alone(tmp_path, monkeypatch):
    """A folder of its own for each test."""
    stay(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """A context for what a module trains once: a folder, and a seed."""

    @contextlib.contextmanager
    def entered():
        folder = tmp_path_factory.mktemp("once")
        with pytest.MonkeyPatch.context() as patch:
            stay(folder, patch)
            torch.manual_seed(0)
            yield folder

    return entered


@pytest.fixture(scope="session")
def loader(digits):
    """56 batches of digits, in the same order every time."""
    return DataLoader(TensorDataset(*digits), batch_size=32, drop_last=True)
