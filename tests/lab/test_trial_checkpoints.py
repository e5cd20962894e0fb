"""A trial that was killed goes on from its last checkpoint."""

import os
import subprocess
import sys
import time

import pytest
import torch

from untuned.lab.comparison.trials import TrialKey, train_trial
from untuned.lab.training import run_folder
from untuned.lab.workloads.supervised import SupervisedLearner

KEY = TrialKey("fcn2-digits", "small", "adam / sgd(lr=1e-4)", "exponential", 1, 600)
PROGRAM = """
import sys
from pathlib import Path
from untuned.lab.comparison.trials import TrialKey, train_trial
train_trial(TrialKey({key}), Path(sys.argv[1]))
"""


def points(folder):
    """How many points of the curve are on disk."""
    return sum(path.read_bytes().count(b"\n") for path in folder.glob("*/metrics.jsonl"))


@pytest.mark.integration
def test_a_killed_trial_ends_bit_for_bit_as_one_that_went_through(tmp_path, monkeypatch):
    program = PROGRAM.format(key=", ".join(map(repr, KEY)))
    process = subprocess.Popen([sys.executable, "-c", program, tmp_path], env=os.environ)
    until = time.monotonic() + 120
    while points(tmp_path) < 4 and time.monotonic() < until and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -9
    (checkpoint,) = tmp_path.glob("*/checkpoint.pt")
    reached = torch.load(checkpoint, weights_only=True)["step"]
    assert 0 < reached < KEY.steps

    taken, advance = [], SupervisedLearner.advance
    with monkeypatch.context() as patch:
        patch.setattr(
            SupervisedLearner, "advance", lambda self, i: (taken.append(i), advance(self, i))[1]
        )
        resumed = train_trial(KEY, tmp_path)
    assert taken == list(range(reached, KEY.steps))
    assert not list(tmp_path.iterdir())  # its checkpoint is not needed any more
    assert resumed.curve == train_trial(KEY).curve
    assert len(resumed.curve["step"]) == 41


def test_a_trial_that_fails_keeps_its_checkpoint_and_goes_on(tmp_path, monkeypatch):
    key = KEY._replace(steps=80)

    def breaks(self, step, whole=SupervisedLearner.advance):
        if step == 50:
            raise OSError("no space left")
        return whole(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(SupervisedLearner, "advance", breaks)
        failed = train_trial(key, tmp_path)
    assert (failed.status, failed.error) == ("failed", "OSError: no space left")
    (checkpoint,) = tmp_path.glob("*/checkpoint.pt")
    assert torch.load(checkpoint, weights_only=True)["step"] == 48  # of 0, 8 ... 80
    assert train_trial(key, tmp_path).curve == train_trial(key).curve


def test_a_trial_killed_while_its_folder_is_made_starts_anew(tmp_path, monkeypatch):
    key, written = KEY._replace(steps=8), []

    def dies_at_the_second(path, text, whole=run_folder._replace):
        written.append(path)
        if len(written) == 2:
            raise KeyboardInterrupt
        whole(path, text)

    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "_replace", dies_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            train_trial(key, tmp_path)
    assert train_trial(key, tmp_path).curve == train_trial(key).curve


def test_trials_have_folders_of_their_own(tmp_path, monkeypatch):
    """Also where their names differ in signs alone."""
    from untuned.lab.training import run

    seen = []
    monkeypatch.setattr(run, "run", lambda config: seen.append(config.folder))
    optimizers = "adam(lr=0.1)", "adam(lr=-.1)", "adam (lr=0.1)"
    keys = [KEY._replace(optimizer=text) for text in optimizers] + [KEY, KEY._replace(seed=2)]
    for key in keys:
        train_trial(key, tmp_path)
    assert len(set(seen)) == len(keys)
    assert {folder.parent for folder in seen} == {tmp_path}
