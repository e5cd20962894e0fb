"""Steps on CUDA, without a card: what waits, what is copied, how many operations are launched.

Shapes and devices alone are followed (`support/fake_cuda.py`), so that this shows neither results
nor times, nor whether a kernel exists.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

PROGRAM = Path(__file__).parents[1] / "support" / "fake_cuda.py"
ELEMENTWISE = ("sgd", "sgd(lr=0.1, momentum=0.9)", "adam", "rmsprop", "adagrad")
TOWERS = ("sgd / sgd", "adam / adam(lr=0.05) / sgd", "nero / sgd")
RULES = (*ELEMENTWISE, "agd", "nero", "auto", *TOWERS)
FEW, MANY = 3, 8  # hidden layers, of a weight and a bias each
# launches for each tensor more; of SGD's tower the hypergradient, a dot product
MOST = {"agd": 4, "nero": 4, "auto": 16, "sgd / sgd": 1, "nero / sgd": 12}

pytestmark = [
    pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card"),
    pytest.mark.skipif(shutil.which("c++") is None, reason="needs a C++ compiler"),
]


@pytest.fixture(scope="module")
def steps(tmp_path_factory) -> dict:
    """By rule and number of layers; in a process of its own, which takes the device for real."""
    cases = [(rule, layers) for rule in RULES for layers in (FEW, MANY)]
    asked = [str(each) for case in cases for each in case]
    folder = str(tmp_path_factory.mktemp("guard"))
    command = [sys.executable, str(PROGRAM), folder, *asked]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(zip(cases, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("rule", RULES)
def test_the_host_reads_nothing_and_nothing_is_copied_between_devices(rule, steps):
    """But the guard's report, which goes to pinned memory while the host goes on."""
    for layers in (FEW, MANY):
        assert steps[rule, layers]["reads"] == []
        assert steps[rule, layers]["copies"] == []


@pytest.mark.parametrize("rule", RULES)
def test_more_layers_are_few_launches_more(rule, steps):
    """None for elementwise rules; a few for each tensor where only the device knows of a skip."""
    few, many = (sum(steps[rule, layers]["launched"].values()) for layers in (FEW, MANY))
    assert few > 10
    assert many - few <= MOST.get(rule, 0) * 2 * (MANY - FEW)
