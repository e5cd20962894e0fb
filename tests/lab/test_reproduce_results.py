"""The rows of a reproduction: verdicts, lengths, grids, evidence and the picture."""

import dataclasses
import math
from contextlib import contextmanager

import pytest

from untuned.lab.comparison.trials import Trial, TrialKey
from untuned.lab.reproduce import plots
from untuned.lab.reproduce.claims import outperforms
from untuned.lab.reproduce.evidence import Evidence, evidence_of
from untuned.lab.reproduce.experiment import (
    STATE,
    TEST_ACCURACY,
    TIME,
    Experiment,
    Line,
    Published,
    Scale,
)
from untuned.lab.reproduce.plots import draw_results
from untuned.lab.reproduce.results import Results
from untuned.lab.reproduce.rows import verdict


def trial(value, seed=0, status="done", optimizer="agd", steps=10, **fields):
    """One that ended with this accuracy."""
    key = TrialKey("w", "full", optimizer, "constant", seed, steps)
    curve = {"step": [0, steps], "metric": [0.1, value]}
    return Trial(key, status, curve=curve, **fields)


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


def experiment_of(*lines, published=None, seeds=2, epochs=0, **more):
    scale = Scale("no data", "no device", 10, seeds, lines, epochs)
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
    texts = [[cell.text for cell in row] for row in results.table().rows]
    assert texts[0][:4] == ["Adam", "60, 70", "65 (64 to 66)", "inside"]
    assert texts[0][5:] == ["0.2", "50 to 65"]
    assert texts[1][:4] == ["AGD", "not published here", "40 (10 to 70); 1 diverged",
                            "\u221225 from baseline"]  # fmt: skip
    assert (texts[0][4], texts[1][4]) == ("\u2013", "p = 0.56")
    some = [each for each in trials if "0.3" not in each.key.optimizer]
    assert found_of(experiment, *some).rows()[0].range == "60 to 65; 1 not run"


def found_of(experiment, *trials, **options):
    return Results(experiment, "full", {each.key: each for each in trials}, **options)


def cells(results, row=0):
    """A row of the table by its headings."""
    table = results.table()
    texts = [cell.text for cell in table.rows[row]]
    return dict(zip([title for title, _ in table.headings], texts, strict=True))


def test_the_longest_trial_counts_and_a_shorter_run_is_told_as_one():
    agd = Published((60.0,), "p")
    experiment = experiment_of(Line("AGD", "agd", "w"), published={"AGD": agd}, epochs=200)
    short, shorter, longer = trial(0.5, steps=5), trial(0.9, steps=3), trial(0.8, steps=20)
    early = found_of(experiment, short, shorter, longer)
    (row,) = early.rows()
    assert row.values == [pytest.approx(50)]  # neither less of the length, nor more than all of it
    assert row.after == "after 100 of 200 epochs"
    assert cells(early)["ours, mean and range"] == "50; 1 of 2 seeds, after 100 of 200 epochs"
    assert cells(early)["verdict"] == "\u221210 from published, after 100 of 200 epochs"
    assert any("neither confirm nor refute" in note for note in early.notes())
    whole = found_of(experiment, short, trial(0.6), trial(0.62, 1))
    assert cells(whole)["ours, mean and range"] == "61 (60 to 62)"
    assert cells(whole)["verdict"] == "+1 from published"
    assert whole.rows()[0].trained == "200 of 200 epochs"
    assert not any("neither confirm" in note for note in whole.notes())


def test_a_row_is_of_one_length():
    """The longest that most of its grid has; whole seeds are not averaged with shorter ones."""
    lines = [Line("Adam", f"adam(lr={x})", "w", x=x) for x in (0.1, 0.2)]
    experiment = experiment_of(*lines, Line("AGD", "agd", "w"), epochs=200)
    short = [trial(0.4 + x, optimizer=f"adam(lr={x})", steps=5) for x in (0.1, 0.2)]
    seeds = [trial(0.6), trial(0.3, 1, steps=5)]
    one = found_of(experiment, *short, trial(0.9, optimizer="adam(lr=0.1)"), *seeds)
    assert cells(one)["means over the grid"] == "50 to 60"
    assert cells(one)["ours, mean and range"] == "60; 1 of 2 seeds, after 100 of 200 epochs"
    assert cells(one, 1)["ours, mean and range"] == "60; 1 of 2 seeds"
    whole = (trial(x, optimizer=f"adam(lr={x})") for x in (0.1, 0.2))
    assert cells(found_of(experiment, *short, *whole))["means over the grid"] == "10 to 20"
    other = found_of(experiment, short[0], trial(0.9, optimizer="adam(lr=0.2)"))
    assert cells(other)["means over the grid"] == "50 to 90"  # nothing is left out


@pytest.fixture
def seen(monkeypatch):
    """The axes that are drawn."""
    found = []

    @contextmanager
    def kept(*arguments, drawn=plots.figure):
        with drawn(*arguments) as axes:
            yield axes
            found.extend(axes)

    monkeypatch.setattr(plots, "figure", kept)
    return found


def test_the_picture_shows_how_far_a_short_run_is_from_the_published_end(tmp_path, seen):
    agd = {"AGD": Published((60.0, 70.0), "p")}
    experiment = experiment_of(Line("AGD", "agd", "w"), published=agd, epochs=200)
    draw_results(found_of(experiment, trial(0.5, steps=5)), tmp_path / "picture.png")
    (axes,) = seen
    assert axes.get_xlim() == (0, 200)
    assert max(line.get_xdata()[-1] for line in axes.lines if line.get_linestyle() == "-") == 100
    published = [line.get_ydata()[0] for line in axes.lines if line.get_linestyle() == ":"]
    assert published == [60, 70]
    assert [text.get_text() for text in axes.texts] == ["published 60", "published 70"]


def test_a_picture_of_runs_too_short_to_see_ends_with_the_longest(tmp_path, seen):
    experiment = experiment_of(Line("AGD", "agd", "w"), epochs=200)
    draw_results(found_of(experiment, trial(0.5, steps=1)), tmp_path / "picture.png")
    assert seen[0].get_xlim() == (0, 20)


def test_a_published_number_without_a_run_says_whose_it_is(tmp_path, seen):
    lines = [Line("depth 4", f"agd(lr={x})", "w", x=x) for x in (64, 2048)]
    published = {f"depth 4 at {x}": Published((y,), "p") for x, y in ((64, 42.0), (2048, 63.0))}
    experiment = experiment_of(*lines, published=published, epochs=200, each=True)
    draw_results(found_of(experiment, trial(0.4, optimizer="agd(lr=64)")), tmp_path / "picture.png")
    (axes,) = seen
    colors = {text.get_text(): text.get_color() for text in axes.texts}
    assert colors.keys() == {"published 42", "published 63: depth 4 at 2048"}
    assert colors["published 42"] in {line.get_color() for line in axes.lines if line.get_label()}
    assert len(set(colors.values())) == 2


def test_claims_compare_trials_of_one_length_where_all_lines_have_one():
    claim = outperforms("AGD is better", "AGD", "Adam")
    lines = Line("AGD", "agd", "w"), Line("Adam", "adam", "w")
    experiment = experiment_of(*lines, claims=(claim,), epochs=100)
    short = [trial(0.7, steps=5), trial(0.5, optimizer="adam", steps=5)]
    some = found_of(experiment, *short, trial(0.9), trial(0.8, optimizer="adam", steps=6))
    assert some.findings() == {"AGD is better": "AGD better (+20); after 50 of 100 epochs"}
    mixed = found_of(experiment, trial(0.9), short[1])  # no length in common
    assert mixed.findings() == {"AGD is better": "AGD better (+40); after 50 of 100 epochs"}
    assert found_of(experiment, trial(0.9)).findings() == {}


def test_without_epochs_lengths_are_steps():
    line = Line("AGD", "agd", "w", steps=4000)
    (row,) = found_of(experiment_of(line), trial(0.5, steps=1000), trial(0.6, 1, steps=1000)).rows()
    assert row.after == "after 1,000 of 4,000 steps"


def test_a_cut_run_trains_its_own_length_and_shows_what_is_longer():
    experiment = experiment_of(Line("AGD", "agd", "w"), seeds=1)
    results = found_of(experiment, trial(0.7), steps=2)
    assert [key.steps for keys in results.keys().values() for key in keys] == [2]
    assert results.rows()[0].values == [pytest.approx(70)]


def test_a_line_may_have_more_seeds_than_its_scale():
    experiment = experiment_of(Line("AGD", "agd", "w", seeds=3), Line("Adam", "adam", "w"))
    counts = [len(keys) for keys in Results(experiment, "full", {}).keys().values()]
    assert counts == [3, 2]


def test_state_and_time_are_known_of_what_diverged():
    gone = trial(math.nan, status="diverged", state_bytes=3e6, ms_per_step=7.0)
    experiment = experiment_of(Line("AGD", "agd", "w"), seeds=1, also=(STATE,))
    assert TIME.of(gone) == 7
    assert cells(found_of(experiment, gone))["state, MB"] == "3"
    assert cells(found_of(experiment))["state, MB"] == "\u2013"


def test_evidence_names_what_is_missing_and_counts_hours():
    lines = [Line(name, name.lower(), "w") for name in ("AGD", "Adam", "SGD", "Nero")]
    experiment = experiment_of(*lines)
    assert evidence_of(Results(experiment, "full", {}), {}) == Evidence("not run", None, False)
    hour = {"seconds": 3600.0, "ms_per_step": 360e3}
    found = [
        *(trial(0.5, seed, optimizer="agd", **hour) for seed in (0, 1)),
        trial(0.5, optimizer="adam", **hour),
        *(trial(0.5, seed, optimizer="sgd", steps=5, **hour) for seed in (0, 1)),
    ]
    some = evidence_of(found_of(experiment, *found), {"w": {"agd": 720e3}})
    assert some.done == (
        "part done (done: AGD. shorter: SGD (after 5 of 10 steps). in part: Adam. missing: Nero)"
    )
    assert not some.measured
    # 8 trials of an hour, but Nero's two, whose steps are known to take twice as long, of two
    assert some.hours == pytest.approx((6 + 2 * 2) / 2)
    every = [
        trial(0.5, seed, optimizer=line.optimizer, **hour) for line in lines for seed in (0, 1)
    ]
    assert evidence_of(found_of(experiment, *every), {}) == Evidence("done", 4, True)


def test_what_was_not_run_says_so():
    (row,) = Results(experiment_of(Line("AGD", "agd", "w")), "full", {}).rows()
    assert row.ours == "not run"
    failed = dataclasses.replace(trial(0.5), status="failed")
    (row,) = Results(experiment_of(Line("AGD", "agd", "w")), "full", {failed.key: failed}).rows()
    assert row.ours == "not run"
    half = trial(0.5)
    (row,) = Results(experiment_of(Line("AGD", "agd", "w")), "full", {half.key: half}).rows()
    assert row.ours == "50; 1 of 2 seeds"
