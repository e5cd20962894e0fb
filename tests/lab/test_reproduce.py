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
from untuned.lab.reproduce.experiment import TEST_ACCURACY, Experiment, Line, Published, Scale
from untuned.lab.reproduce.plots import draw_results
from untuned.lab.reproduce.results import Results, verdict
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
            assert all((scale.data, scale.device, scale.time))
            assert f"{size}: {scale.needs}" in out


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
        assert line.schedule == "constant" or line.schedule in schedules.DECAYS


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
            trials[key] = train_trial(key)
            assert trials[key].status == "done", trials[key].error
    results = Results(experiment, "small", trials, steps=2)
    found = results.rows()
    assert all(math.isfinite(row.mean) for row in found)
    told = results.fragment("untuned reproduce")
    assert told.count("\n| ") == len(found) + 2
    draw_results(results, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 5000


def trial(value, seed=0, x=None, status="done", optimizer="agd"):
    """One that ended with this accuracy."""
    key = TrialKey("w", "full", optimizer, "constant", seed, 10)
    return Trial(key, status, curve={"step": [0, 10], "metric": [0.1, value]})


@pytest.mark.parametrize(
    ("published", "ours", "baseline", "said"),
    [
        ((89.3, 91.0, 83.7), 85.0, math.nan, "inside"),
        ((89.3, 91.0, 83.7), 83.7, math.nan, "inside"),  # its ends belong to a spread
        ((89.3, 91.0, 83.7), 83.2, math.nan, "below by 0.5"),
        ((89.3, 91.0, 83.7), 92.0, math.nan, "above by 1"),
        ((52.7,), 54.2, math.nan, "+1.5 from published"),  # one number has no spread
        ((52.7,), 50.7, 40.0, "\u22122 from published"),
        (None, 50.0, 48.5, "+1.5 from baseline"),
        (None, 50.0, math.nan, "\u2013"),
        ((52.7,), math.nan, 40.0, "\u2013"),  # not run
        ((52.7,), math.inf, 40.0, "\u2013"),  # diverged
    ],
)
def test_the_verdict(published, ours, baseline, said):
    number = Published(published, "") if published else None
    assert verdict(number, ours, baseline) == said


def experiment_of(*lines, published=None, seeds=2, **more):
    scale = Scale("no data", "no device", "no time", 10, seeds, lines)
    return Experiment(
        "e", "p", "f", "a", TEST_ACCURACY, scale, scale, published or {}, "Adam", **more
    )


def test_a_grid_is_judged_by_its_best_mean_and_shows_its_ends():
    lines = [Line("Adam", f"adam(lr={x})", "w", x=x) for x in (0.1, 0.2, 0.3)]
    experiment = experiment_of(
        *lines, Line("AGD", "agd", "w"), published={"Adam": Published((60.0, 70.0), "p")}
    )
    scores = {0.1: (0.5, 0.7), 0.2: (0.66, 0.64), 0.3: (0.1, 0.9)}
    trials = [trial(scores[x][s], s, optimizer=f"adam(lr={x})") for x in scores for s in (0, 1)]
    trials += [trial(0.7, 0), trial(math.nan, 1, status="diverged")]
    results = Results(experiment, "full", {c.key: c for c in trials})
    adam, agd = results.rows()
    assert (adam.line.x, adam.mean) == (0.2, pytest.approx(65))
    assert adam.others == (pytest.approx(50), pytest.approx(65))
    assert agd.values == [pytest.approx(70), 10]  # one that diverged has the score of a guess
    table = results.table()
    texts = [[experiment.text for experiment in row] for row in table.rows]
    assert texts[0] == ["Adam", "60, 70", "65 (64 to 66)", "inside", "0.2", "50 to 65"]
    assert texts[1][:4] == ["AGD", "not published here", "40 (10 to 70); 1 diverged",
                            "\u221225 from baseline"]  # fmt: skip


def test_what_was_not_run_says_so():
    (row,) = Results(experiment_of(Line("AGD", "agd", "w")), "full", {}).rows()
    assert row.ours == "not run"
    failed = dataclasses.replace(trial(0.5), status="failed")
    (row,) = Results(experiment_of(Line("AGD", "agd", "w")), "full", {failed.key: failed}).rows()
    assert row.ours == "not run"
    half = trial(0.5)
    (row,) = Results(experiment_of(Line("AGD", "agd", "w")), "full", {half.key: half}).rows()
    assert row.ours == "50; 1 of 2 seeds"


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
    assert len(Trials(folder / "cells.jsonl")) == 4
    assert (folder / "cells.jsonl").read_text().count("\n") == 4  # not trained again
    assert "| AGD | not published here |" in (folder / "table.md").read_text()
    assert (folder / "picture.png").exists()
    out = capsys.readouterr().out
    assert out.count("done: gpt-shakespeare") == 4
    assert "can neither confirm nor refute" in out


@pytest.mark.integration
@pytest.mark.usefixtures("data")
def test_torchruns_processes_train_every_cell_together(tmp_path, ranks):
    ranks("script:reproduce", 2, *ASKED[1:], "--folder", str(tmp_path))
    trials = Trials(tmp_path / "agd-gpt2-small" / "cells.jsonl")
    assert [trial.status for trial in trials.values()] == ["done"] * 4
