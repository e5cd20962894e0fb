"""Training that stops, and goes on in another process, ends where it would have, bit for bit."""

import subprocess
import sys

import pytest
import torch

from support import resumed
from support.networks import equal
from support.resumed import CASES


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each task came to, for each case."""
    folder = tmp_path_factory.mktemp("resumed")
    for tasks in (["straight", "half"], ["rest"]):
        command = [sys.executable, resumed.__file__, str(folder), *tasks]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-4000:]
    return {file.stem: torch.load(file, weights_only=True) for file in folder.iterdir()}


@pytest.mark.parametrize("case", CASES, ids=", ".join)
def test_two_halves_are_a_whole(case, found):
    straight = found["straight"][case]
    assert not equal(found["half"][case]["model"], straight["model"])
    assert equal(found["rest"][case], straight)


def test_the_scaler_has_seen_overflows_before_and_after(found):
    for case in CASES:
        scales = [found[task][case]["scaler"].get("scale") for task in ("half", "straight")]
        assert scales == ([2.0**9, 2.0**8] if case[1] == "scaled" else [None, None])
