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


@pytest.fixture
def _small_mnist(monkeypatch, data):
    """A part of MNIST, for the towers of the lab."""
    from untuned.lab import towers

    whole = towers.grey_images("mnist")
    part = {name: (images[:2560], labels[:2560]) for name, (images, labels) in whole.items()}
    monkeypatch.setattr(towers, "grey_images", lambda name: part)


@pytest.mark.usefixtures("_small_mnist")
def test_a_tower_learns_from_a_hopeless_first_step_size():
    from untuned.lab import towers

    jobs = [job for job in towers.heights("small") if job.x == 1e-3 and job.seed == 0]
    assert [job.line for job in jobs] == [f"height {k}" for k in (1, 2, 3, 4, 5)] * 2
    plain, tower = jobs[5]._replace(epochs=4), jobs[7]._replace(epochs=4)
    assert plain.rule.floors[0].rule.lr == tower.rule.floors[0].rule.lr == 1e-3
    assert towers.error(tower) < 30 < 50 < towers.error(plain)


@pytest.mark.usefixtures("_small_mnist")
def test_the_lab_draws_every_floor_and_every_error(tmp_path, monkeypatch):
    import matplotlib.image
    from rich.console import Console

    from untuned.lab import towers

    console = Console(file=(tmp_path / "log").open("w"))
    towers.show_floors("small", console, tmp_path)
    found = {job: 5.0 + job.seed + job.x for job in towers.against_plain("small")}
    monkeypatch.setattr(towers, "errors", lambda jobs, console: found)
    towers.run("errors", list(found), console, tmp_path)
    console.file.close()
    assert "Adam, plain: 6.00% to 7.00%, mean 6.19%" in (tmp_path / "log").read_text()
    for name in ("towers-floors.png", "errors.png"):
        picture = matplotlib.image.imread(tmp_path / name)
        assert picture.shape[1] > 1000
        assert picture.std() > 0.01  # not blank


@pytest.mark.usefixtures("data")
def test_jobs_run_in_processes_of_their_own(tmp_path):
    from rich.console import Console

    from untuned.lab import towers

    job = towers.heights("small")[0]._replace(epochs=0)
    with (tmp_path / "log").open("w") as log:
        found = towers.errors([job, job._replace(seed=1)], Console(file=log))
    assert len(found) == 2
    assert all(70 < error < 100 for error in found.values())  # nothing learnt yet
