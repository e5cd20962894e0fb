"""`untuned reproduce`: every experiment runs, cites its numbers, and judges honestly."""

import dataclasses
import math
import re

import pytest
import shards

from untuned.lab.baselines import methods, schedules
from untuned.lab.comparison.executors import InProcess
from untuned.lab.comparison.trials import Trial, TrialKey, Trials, train_trial
from untuned.lab.programs import reproduce
from untuned.lab.programs.reproduce import EXPERIMENTS, main
from untuned.lab.reproduce.evidence import committed
from untuned.lab.reproduce.plots import draw_results
from untuned.lab.reproduce.results import Results
from untuned.lab.workloads.registry import find

SIZES = ("small", "full")
LINES = [(e.name, size, line) for e in EXPERIMENTS.values() for size in SIZES
         for line in e.at(size).lines]  # fmt: skip


def test_the_list_has_all_with_their_needs(capsys):
    main(["--list"])
    out = re.sub(r"\s+", " ", capsys.readouterr().out)
    for experiment in EXPERIMENTS.values():
        assert experiment.name in out
        for size in SIZES:
            scale = experiment.at(size)
            assert all((scale.data, scale.device))
            assert scale.needs in out
        assert experiment.small.time
        assert f"full size: {committed()[experiment.name].told} needs" in out


def test_what_the_papers_show_is_there():
    papers = {"agd": "arXiv:2304.05187", "nero": "arXiv:2102.07227", "towers": "arXiv:1909.13371"}
    for experiment in EXPERIMENTS.values():
        assert papers[experiment.name.split("-")[0]] == experiment.paper
    published = {
        f"{experiment.name}: {row}": number.values
        for experiment in EXPERIMENTS.values()
        for row, number in experiment.published.items()
    }
    # as the project's issues quote them
    assert published["agd-imagenet: AGD"] == (65.5,)
    assert published["agd-breadth: FCN, AGD"] == (52.7,)
    assert published["agd-breadth: FCN, Adam"] == (53.5,)
    assert published["agd-breadth: ResNet-18, AGD"] == (91.2,)
    assert published["agd-breadth: ResNet-18, Adam"] == (92.9,)
    assert published["agd-breadth: VGG-16, AGD"] == (67.4,)
    assert published["agd-breadth: VGG-16, Adam"] == (69.7,)
    assert published["nero-mlp100: Nero"] == (89.3, 91.0, 83.7)
    assert published["nero-mlp100: LAMB"] == (67.2, 71.7, 71.6)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_published_number_has_a_source_and_a_row(name):
    experiment = EXPERIMENTS[name]
    found = {row.name for row in Results(experiment, "full", {}).rows()}
    for row, published in experiment.published.items():
        assert row in found
        assert published.source.startswith(experiment.paper)
        assert len(published.source) > len(experiment.paper) + 2  # where in the paper
        assert all(map(math.isfinite, published.values))
    if not experiment.published:
        told = Results(experiment, "small", {}).fragment("")
        assert "not published here" in told


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_panel_has_its_baseline(name):
    experiment = EXPERIMENTS[name]
    for size in SIZES:
        lines = experiment.at(size).lines
        for panel in {line.panel for line in lines}:
            labels = {line.label for line in lines if line.panel == panel}
            assert not experiment.baseline or experiment.baseline in labels


@pytest.mark.parametrize("text", sorted({line.optimizer for _, _, line in LINES}))
def test_every_optimizer_can_be_read(text):
    methods.method_of(text)


def test_every_workload_and_schedule_exists():
    for _, _, line in LINES:
        find(line.workload)
        assert 0 < schedules.factor(line.schedule, 0, 100) <= 1


def shortened(experiment):
    """One line for each workload, one seed: different labels, where there are several."""
    lines = {}
    for i, line in enumerate(dict.fromkeys((w.workload, w.label) for w in experiment.small.lines)):
        lines.setdefault(line[0], (i, line))
    chosen = tuple(
        next(w for w in experiment.small.lines if (w.workload, w.label) == line)
        for _, line in lines.values()
    )
    return dataclasses.replace(experiment, small=experiment.small._replace(lines=chosen, seeds=1))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    shards.translations(folder, "wmt16", nested=True)
    shards.translations(folder, "multi30k", nested=False)
    return folder


@pytest.mark.usefixtures("data", "_at_once")
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_entry_trains_and_is_told_and_drawn(name, tmp_path, pairs, monkeypatch):
    if name in ("nero-wmt16", "nero-multi30k"):
        monkeypatch.setenv("UNTUNED_DATA", str(pairs))
    if name == "nero-pong":
        pytest.importorskip("ale_py")
        pytest.importorskip("cv2")
    experiment = shortened(EXPERIMENTS[name])
    trials = {}
    for keys in Results(experiment, "small", {}, steps=2).keys().values():
        for key in keys:
            trials[key] = train_trial(key, tmp_path / "checkpoints")
            assert trials[key].status == "done", trials[key].error
    results = Results(experiment, "small", trials, steps=2)
    found = results.rows()
    assert all(math.isfinite(row.mean) for row in found)
    told = results.fragment("untuned reproduce")
    assert told.count("\n| ") == len(found) + 2
    draw_results(results, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 5000


def test_an_unknown_entry_lists_the_nearest(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["agd-fcn", "--small"])
    assert "agd-fcn8" in capsys.readouterr().err


ASKED = ("reproduce", "agd-gpt2", "--small", "--steps", "2")


@pytest.mark.integration
@pytest.mark.usefixtures("data")
def test_it_goes_on_where_it_was(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reproduce, "LocalExecutor", lambda *_: InProcess())
    asked = [*ASKED[1:], "--folder", str(tmp_path), "--jobs", "1"]
    for _ in range(2):
        with pytest.raises(SystemExit, match="0"):
            main(asked)
    folder = tmp_path / "agd-gpt2-small"
    assert len(Trials(folder / "cells.jsonl")) == 6
    assert (folder / "cells.jsonl").read_text().count("\n") == 6  # not trained again
    assert not list((folder / "checkpoints").iterdir())
    assert "| AGD | not published here |" in (folder / "table.md").read_text()
    assert (folder / "picture.png").exists()
    out = capsys.readouterr().out
    assert out.count("done: gpt-shakespeare") == 6
    assert "can neither confirm nor refute" in out


def test_known_trials_are_not_trained_again_and_rows_can_be_chosen(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reproduce, "LocalExecutor", lambda *_: InProcess())
    trained = []
    monkeypatch.setattr(
        reproduce,
        "train_trial",
        lambda key, checkpoints: (trained.append(key), Trial(key, "done"))[1],
    )
    monkeypatch.setattr(reproduce, "draw_results", lambda *_: None)
    known = Trials(tmp_path / "agd-fcn8.jsonl")
    key = TrialKey("fcn8x128-cifar10", "small", "agd", "constant", 0, 7)
    known.append(Trial(key, "done", curve={"step": [7], "metric": [0.5]}))
    asked = ["agd-fcn8", "--small", "--steps", "7", "--rows", "A[Gu]*", "--folder", str(tmp_path)]
    monkeypatch.setattr(reproduce, "find", lambda name: find("fcn2-digits"))
    with pytest.raises(SystemExit, match="0"):
        main([*asked, "--known", str(tmp_path)])
    assert [(key.optimizer, key.seed) for key in trained] == [("agd", 1), ("auto", 0), ("auto", 1)]
    assert key in Trials(tmp_path / "agd-fcn8-small" / "cells.jsonl")
    with pytest.raises(SystemExit, match="2"):
        main(["agd-fcn8", "--small", "--rows", "Nero", "--folder", str(tmp_path)])
    with pytest.raises(SystemExit, match="2"):
        main([*asked, "--known", str(tmp_path / "nothing")])
    told = capsys.readouterr().err
    assert "there are: AGD, Adam, SGD, Auto" in told
    assert "agd-fcn8.jsonl is not there" in told


@pytest.mark.integration
@pytest.mark.usefixtures("data")
def test_torchruns_processes_train_every_cell_together(tmp_path, ranks):
    ranks("script:reproduce", 2, *ASKED[1:], "--folder", str(tmp_path))
    trials = Trials(tmp_path / "agd-gpt2-small" / "cells.jsonl")
    assert [trial.status for trial in trials.values()] == ["done"] * 6
