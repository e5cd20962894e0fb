"""Trainers write where they are run, keep state between runs, and take a GPU if there is one."""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset


@pytest.fixture(autouse=True)
def _alone(tmp_path, monkeypatch):
    """A folder of its own, on the CPU, where runs can be compared bit for bit."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


@pytest.fixture
def loader(digits):
    """56 batches of digits, in the same order every time."""
    return DataLoader(TensorDataset(*digits), batch_size=32, drop_last=True)
