"""Data sets: a subset is never taken for the whole."""

import pytest
import shards
import torch

from untuned.lab.errors import MissingDataError
from untuned.lab.workloads import data
from untuned.lab.workloads.vision import parts

SUBSET, WHOLE = {"train": 6, "test": 3}, {"train": 15, "test": 5}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where a whole CIFAR-10 has 15 and 5 images."""
    monkeypatch.setenv("UNTUNED_DATA", str(tmp_path))
    monkeypatch.setitem(data.WHOLE, "cifar10", WHOLE)
    data.images.cache_clear()
    yield tmp_path
    data.images.cache_clear()


def shade(found):
    return round(found.images[0, 0, 0, 0].item() * 255)


def test_size_full_reads_the_whole_and_size_small_the_subset(folder):
    shards.cifar10(folder, "cifar10", SUBSET)
    shards.cifar10(folder, "cifar10_complete", WHOLE)
    assert [len(found.labels) for found in parts("cifar10", None, None)] == [15, 5]
    assert [shade(found) for found in parts("cifar10", None, None)] == [15, 5]
    few = parts("cifar10", 2, 1)
    assert [len(found.labels) for found in few] == [2, 1]
    assert [shade(found) for found in few] == [6, 3]


def test_a_subset_alone_is_an_error_that_says_where_the_whole_belongs(folder):
    shards.cifar10(folder, "cifar10", SUBSET)
    with pytest.raises(MissingDataError, match=r"subset.*6 of 15.*cifar10_complete/train\.parquet"):
        parts("cifar10", None, None)
    assert len(parts("cifar10", 2, 1)[0].labels) == 2


def test_a_whole_one_under_the_hubs_name_is_taken(folder):
    shards.cifar10(folder, "cifar10", WHOLE)
    assert [len(found.labels) for found in parts("cifar10", None, None)] == [15, 5]


@pytest.mark.usefixtures("data")
def test_the_whole_cifar10_is_the_one_that_others_train_on():
    found = data.images("cifar10", "test")
    assert torch.bincount(found.labels).tolist() == [1000] * 10
    means = found.images.mean((0, 2, 3)).tolist()
    assert means == pytest.approx([0.4942, 0.4851, 0.4504], abs=1e-4)  # of the official test part
