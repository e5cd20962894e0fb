"""The examples run as they stand, and learn; the page shows each of them."""

import math
import re
import runpy
import sys
from collections import Counter

import pytest
import torch

from support.pages import ROOT, text_of

EXAMPLES = ROOT / "examples"


@pytest.fixture
def run(monkeypatch):
    """An example as a user starts it; what it has at its end."""

    def started(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        with torch.random.fork_rng(devices=[]):
            return runpy.run_path(str(EXAMPLES / name), run_name="__main__")

    return started


def test_images_are_classified(run):
    assert run("image.py", "--epochs", "1")["accuracy"] > 0.6


def test_a_table_tells_more_than_its_mean(run):
    scope = run("table.py", "--epochs", "3")
    wanted = scope["progress"][scope["test"]]
    by_the_mean = (wanted - scope["mean"]).square().mean().sqrt().item()
    assert scope["error"] < 0.9 * by_the_mean


def test_text_is_predicted_better_than_letter_by_letter(run):
    scope = run("text.py", "--steps", "50")
    counts = Counter(scope["text"]).values()
    entropy = -sum(n / len(scope["text"]) * math.log2(n / len(scope["text"])) for n in counts)
    assert scope["bits"] < entropy


def test_adapters_learn_and_the_rest_stays(run):
    scope = run("lora.py", "--steps", "100")
    assert scope["before"] < 0.2
    assert scope["after"] > 0.7
    learned = {name for name, param in scope["model"].named_parameters() if param.requires_grad}
    assert len(learned) == 6
    assert all("lora" in name for name in learned)


def test_a_pole_is_balanced_for_longer_than_by_chance(run):
    """Moves at random last 22 steps in the mean."""
    assert run("rl.py", "--moves", "3072")["reward"] > 60


def test_every_example_is_short_and_on_the_page():
    page = text_of("how-to/examples")
    names = {path.name for path in EXAMPLES.iterdir() if path.suffix == ".py"}
    assert set(re.findall(r'^--8<-- "examples/(.*)"$', page, re.MULTILINE)) == names
    assert set(re.findall(r"^python examples/(\S+)", page, re.MULTILINE)) == names
    for name in names:
        assert len((EXAMPLES / name).read_text(encoding="utf-8").splitlines()) < 60
