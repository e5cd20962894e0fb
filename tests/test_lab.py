"""The lab's programs, run as a user runs them."""

import subprocess
import sys

import pytest
import torch


def test_an_unknown_program_is_told_what_there_is():
    asked = [sys.executable, "-m", "untuned.lab", "tune"]
    answer = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    assert "reproduce" in answer.stderr


@pytest.mark.usefixtures("data")
def test_mnist_is_whole_and_standardised():
    from untuned.lab.workloads.data import grey_images

    images, labels = grey_images("mnist")["train"]
    assert images.shape == (60_000, 28, 28)
    assert torch.bincount(labels)[:3].tolist() == [5923, 6742, 5958]  # as the data set's page says
    assert images.mean().item() == pytest.approx(0, abs=1e-4)
    assert images.std().item() == pytest.approx(1, abs=1e-4)
