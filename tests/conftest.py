"""Real data and seeds."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

# Tests run side by side, one to a core, with what they start.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from support.ranks.launch import Ranks
from untuned.optimizer import nonfinite as guard

torch.set_num_threads(1)


class Digits(NamedTuple):
    """Scikit-learn's digits: images (n, 8, 8) in [0, 1] and labels (n,)."""

    images: Tensor
    labels: Tensor


@pytest.fixture(scope="session")
def digits() -> Digits:
    """All 1797 digits, float32, in scikit-learn's order."""
    data = load_digits()
    return Digits(torch.tensor(data.images / 16, dtype=torch.float32), torch.tensor(data.target))


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of the real data sets."""
    folder = os.environ.get("UNTUNED_DATA")
    if not folder:
        pytest.skip("UNTUNED_DATA, the folder of the real data sets, is not set")
    return Path(folder)


@pytest.fixture(scope="session")
def shakespeare(data) -> Tensor:
    """Tiny Shakespeare as characters' indices, (characters,)."""
    text = (data / "text" / "tiny_shakespeare.txt").read_text(encoding="utf-8")
    letters = {letter: i for i, letter in enumerate(sorted(set(text)))}
    return torch.tensor([letters[letter] for letter in text])


@pytest.fixture(scope="session")
def ranks(tmp_path_factory) -> Iterator[Ranks]:
    """A function that runs a job on so many ranks."""
    started = Ranks(tmp_path_factory.mktemp("ranks"))
    yield started
    started.close()


@pytest.fixture(params=["host reads", "device only"])
def _eyes(request, monkeypatch):
    """Run both as on a CPU and as where the host must not look (a GPU, a compiled step)."""
    if request.param == "device only":
        monkeypatch.setattr(guard, "readable", lambda flag: False)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


# A file stays with one worker, which makes its fixtures once.
# The longest come first, so that no worker ends alone with one of them.
FIRST = (
    "distributed/",
    "lab/test_reproduce.py",
    "lab/test_compare.py",
    "lab/test_workloads.py",
    "lab/test_train.py",
    "lab/test_auto_figures.py",
    "test_training.py",
    "test_site.py",
    "lab/test_bench.py",
    "lab/test_streamed.py",
    "lab/test_report.py",
    "execution/test_compiled_steps.py",
    "integration/",
    "lab/",
    "test_",
    "optimizer/",
)


def file_of(item: pytest.Item) -> str:
    """The path of a test's file in this folder."""
    return item.path.relative_to(Path(__file__).parent).as_posix()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order tests for workers; tests of a GPU wait for one."""

    def place(item: pytest.Item) -> int:
        starts = (i for i, start in enumerate(FIRST) if file_of(item).startswith(start))
        return next(starts, len(FIRST))

    items.sort(key=place)
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
