"""On several ranks, modules hold the averages that one process finds."""

from itertools import chain

import pytest
import torch

from support.ranks import averaged

pytestmark = pytest.mark.integration


def test_two_processes_evaluate_and_save_the_averages_of_one(ranks):
    """DDP and FSDP2, between steps and amid them, whether gathered weights are kept or not."""
    alone = averaged.alone()
    assert not any(torch.equal(x, W) for x, W in zip(*alone[1:], strict=True))
    for found in ranks("averaged:main", 2):
        assert found.keys() == averaged.WAYS.keys()
        for way, parts in found.items():
            for ours, theirs in zip(chain(*parts), chain(*alone), strict=True):
                torch.testing.assert_close(
                    ours, theirs, rtol=1e-7, atol=1e-9, msg=lambda m, at=way: f"{at}: {m}"
                )


def test_ranks_agree_on_batch_norms_in_evaluation(ranks):
    one, other = ranks("averaged:statistics", 2)
    assert all(torch.equal(*pair) for pair in zip(one, other, strict=True))
