"""The lab's programs, run as a user runs them."""

import os
import subprocess
import sys

import pytest
import torch


def run(*arguments, cwd, **environment):
    return subprocess.run(
        [sys.executable, "-m", "untuned.lab", *arguments],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_the_demo_prints_its_result_and_draws_its_picture(tmp_path):
    import matplotlib.image

    out = run("demo", "--depth", "3", cwd=tmp_path, COLUMNS="100")
    for name in ("AGD", "AdamW, same start", "AdamW, PyTorch's start"):
        assert name in out
    assert "runs/demo.png" in out
    picture = matplotlib.image.imread(tmp_path / "runs" / "demo.png")
    assert picture.shape[1] > 1000
    assert picture.std() > 0.01  # not blank


def test_the_lab_knows_what_it_can_reproduce(tmp_path):
    out = run("reproduce", "--list", cwd=tmp_path)
    assert "nero-mlp100" in out
    assert "arXiv:2102.07227" in out
    assert "towers-heights (small)" in out


def test_an_unknown_program_is_told_what_there_is():
    asked = [sys.executable, "-m", "untuned.lab", "tune"]
    answer = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    assert "reproduce" in answer.stderr


@pytest.mark.usefixtures("data")
def test_mnist_is_whole_and_standardised():
    from untuned.lab.data import grey_images

    images, labels = grey_images("mnist")["train"]
    assert images.shape == (60_000, 28, 28)
    assert torch.bincount(labels)[:3].tolist() == [5923, 6742, 5958]  # as the data set's page says
    assert images.mean().item() == pytest.approx(0, abs=1e-4)
    assert images.std().item() == pytest.approx(1, abs=1e-4)


@pytest.mark.usefixtures("data")
def test_a_reproduction_runs_and_sets_ours_beside_the_published(monkeypatch):
    from rich.console import Console

    from untuned.lab import nero

    tiny = nero.Size(width=8, epochs=1, seeds=1, lr=0.01, needs="")
    whole = nero.grey_images("mnist")
    part = {name: (images[:500], labels[:500]) for name, (images, labels) in whole.items()}
    monkeypatch.setattr(nero, "grey_images", lambda name: part)
    with open(os.devnull, "w") as nowhere:
        table = nero.reproduce(tiny, Console(file=nowhere))
    assert table.row_count == 3
    published, here = (list(column.cells) for column in table.columns[1:])
    assert published[0] == "89.3%, 91%, 83.7%"
    assert all(0 <= float(cell.rstrip("%")) <= 100 for cell in here)
