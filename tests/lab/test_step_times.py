"""The time of a training step: of work that is known, and what a comparison makes of it by hand."""

import math
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch
from rich.console import Console

from untuned.lab.baselines.table import BASELINES, Baseline
from untuned.lab.comparison import step_times
from untuned.lab.comparison.contestants import REFERENCE, contestant_of
from untuned.lab.comparison.plan import Comparison, Problem, tuning
from untuned.lab.comparison.progress import time_untimed
from untuned.lab.comparison.standings import standings, untimed
from untuned.lab.comparison.step_times import StepTime, StepTimes, TimeKey, Turns, time_steps
from untuned.lab.comparison.trials import Trial
from untuned.lab.report.cells import seconds_saved
from untuned.lab.report.tables import details, matrix, overview

ONE = "busy(seconds=0.004)"
NAMES = ["agd", "nero", "prodigy", REFERENCE]
PROBLEM = Problem("fcn2-digits", "small", 20)
VERSIONS = {"torch": "2.13.0"}


@pytest.fixture(scope="module")
def times():
    """Of optimizers whose work is known, in milliseconds and in ratios to the first."""
    texts = (
        ONE, "busy(seconds=0.012)", "busy(seconds=0.016, every=4)", "busy(seconds=0.012, every=3)",
        "busy(seconds=0.02, until=40)", "busy(seconds=0.004, asleep=0.02)", "busy()",
    )  # fmt: skip
    before = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BASELINES, "busy", Baseline("a loop", "labour.Busy"))
        torch.set_num_threads(1)
        found = time_steps(Turns("fcn2-digits", "small", texts))
        torch.set_num_threads(before)
    assert [time.key for time in found] == [TimeKey("fcn2-digits", "small", t) for t in texts]
    return dict(zip(texts, found, strict=True))


def beyond_nothing(times, text):
    """The milliseconds that the optimizer itself takes."""
    return times[text].ms - times["busy()"].ms


def test_a_step_takes_as_long_as_its_work(times):
    assert beyond_nothing(times, ONE) == pytest.approx(4, abs=1.2)
    assert beyond_nothing(times, "busy(seconds=0.012)") == pytest.approx(12, abs=1.8)


def test_a_ratio_is_of_whole_training_steps(times):
    passes = times["busy()"].ms
    assert times[ONE].ratio == 1
    expected = (12 + passes) / (4 + passes)
    assert times["busy(seconds=0.012)"].ratio == pytest.approx(expected, rel=0.2)


@pytest.mark.parametrize("text", ["busy(seconds=0.016, every=4)", "busy(seconds=0.012, every=3)"])
def test_work_that_comes_in_turns_counts_by_its_mean(times, text):
    assert beyond_nothing(times, text) == pytest.approx(4, abs=1.2)


def test_what_the_first_forty_steps_take_does_not_count(times):
    assert beyond_nothing(times, "busy(seconds=0.02, until=40)") == pytest.approx(0, abs=1.2)


def test_waiting_is_no_work(times):
    assert beyond_nothing(times, "busy(seconds=0.004, asleep=0.02)") < 4 + 20 / 4


def test_torchs_optimizers_take_their_fused_step(monkeypatch):
    calls = []
    fused = torch._fused_adamw_
    monkeypatch.setattr(torch, "_fused_adamw_", lambda *a, **k: calls.append(1) or fused(*a, **k))
    monkeypatch.setattr(step_times, "SECONDS", 0.0)
    (only,) = time_steps(Turns("fcn2-digits", "small", ("adamw(lr=0.001)",)))
    steps = step_times.ROUND * only.rounds
    assert len(calls) >= steps + 40


def time_of(optimizer, ms, ratio, problem=PROBLEM):
    return StepTime(TimeKey(problem.workload, problem.size, optimizer), ms, ratio, 9, VERSIONS)


def test_times_come_back_with_five_digits_and_the_later_counts(tmp_path):
    times = StepTimes(tmp_path / "times.jsonl")
    times.append(time_of("agd", 1.0, 2.0))
    times.append(time_of("agd", 1.2345678, 3.4567891))
    (back,) = StepTimes(times.path).values()
    assert back == time_of("agd", 1.2346, 3.4568)
    times.path.write_text('{"workload": "fcn2-digits"}\n')
    with pytest.raises(ValueError, match=r"times\.jsonl, line 1 is no time"):
        StepTimes(times.path)


class Thread(ThreadPoolExecutor):
    """An executor within this process."""

    slots = 1
    close = ThreadPoolExecutor.shutdown


def test_what_cannot_be_timed_is_told_of_and_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr(step_times, "SECONDS", 0.0)
    times, console = StepTimes(tmp_path / "times.jsonl"), Console(width=200)
    missing = [Turns("fcn2-digit", "small", ("agd",)), Turns("fcn2-digits", "small", ("agd",))]
    with console.capture() as told:
        time_untimed(times, missing, partial(Thread, 1), console)
    assert "not timed: fcn2-digit: UnknownNameError: workload 'fcn2-digit'" in told.get()
    assert list(StepTimes(times.path)) == [TimeKey("fcn2-digits", "small", "agd")]


def ended(key, losses):
    """A trial with these losses at equal distances."""
    status = "done" if math.isfinite(losses[-1]) else "diverged"
    steps = [key.steps * i / (len(losses) - 1) for i in range(len(losses))]
    stopped = key.steps if status == "done" else key.steps // 2
    return Trial(key, status, stopped, curve={"step": steps, "valid_loss": losses})


def losses_of(key):
    """AdamW is best at 0.001, AGD twice as fast, Nero too slow; Prodigy diverges."""
    if key.optimizer == "agd":
        return [3.0, 1.0, 1.0]
    if key.optimizer == "prodigy":
        return [3.0, math.inf]
    return [3.0, 2.0, 1.0] if key.optimizer == "adamw(lr=0.001)" else [3.0, 3.0, 2.0]


@pytest.fixture
def comparison():
    return Comparison(list(map(contestant_of, NAMES)), [PROBLEM], 2)


@pytest.fixture
def trials(comparison):
    trials = {}
    while keys := comparison.wanted(trials):
        trials |= {key: ended(key, losses_of(key)) for key in keys}
    return trials


def by_name(found):
    return {standing.contestant.name: standing for standing in found}


def test_who_has_trained_is_timed_beside_the_reference(comparison, trials):
    assert untimed(comparison, {}, {}) == []
    (turns,) = untimed(comparison, trials, {})
    assert turns == Turns("fcn2-digits", "small", ("adamw(lr=0.001)", "agd", "nero"))
    known = [time_of("adamw(lr=0.001)", 1.0, 1.0), time_of("nero", 1.0, 1.0)]
    (turns,) = untimed(comparison, trials, {time.key: time for time in known})
    assert turns.optimizers == ("adamw(lr=0.001)", "agd")
    known.append(time_of("agd", 1.0, 1.0))
    assert untimed(comparison, trials, {time.key: time for time in known}) == []


def test_seconds_saved_are_steps_saved_at_the_time_of_a_step(comparison, trials):
    known = [time_of("adamw(lr=0.001)", 2.0, 1.0), time_of("agd", 3.2, 1.6)]
    times = {time.key: time for time in known}
    found = by_name(standings(comparison, trials, times))
    assert found["agd"].reduction == 2  # 10 steps of 3.2 ms instead of 20 of 2 ms
    assert found["agd"].time_reduction == pytest.approx(40 / 32)
    assert found[REFERENCE].time_reduction == 1
    assert found["prodigy"].time_reduction == 0  # never, however fast its step is
    assert found["nero"].time_reduction == 0


def test_a_search_takes_the_steps_of_its_whole_grid(comparison, trials):
    times = {time.key: time for time in [time_of("adamw(lr=0.001)", 2.0, 1.0)]}
    found = by_name(standings(comparison, trials, times))
    assert len(tuning(contestant_of(REFERENCE), PROBLEM, trials).tried) == 14
    assert found[REFERENCE].search_seconds == pytest.approx(14 * 20 * 0.002)
    assert found["agd"].search_seconds == 0


def test_nothing_is_said_of_seconds_that_are_not_measured(comparison, trials):
    for known in ([], [time_of("agd", 1.0, 1.0)]):
        found = standings(comparison, trials, {time.key: time for time in known})
        assert all(math.isnan(standing.time_reduction) for standing in found)
    table = overview(found)
    assert {(row[3].text, row[4].text) for row in table.rows} == {("\u2013", "\u2013")}


def test_the_tables_say_what_is_saved_by_hand(comparison, trials):
    known = [time_of("adamw(lr=0.001)", 2.0, 1.0), time_of("agd", 3.2, 1.6),
             time_of("nero", 1.0, 0.5)]  # fmt: skip
    found = standings(comparison, trials, {time.key: time for time in known})
    rows = {row[0].text: [cell.text for cell in row[1:8]] for row in overview(found).rows}
    assert rows["agd"] == ["2.00", "2.00", "1.25", "1.25", "1 of 1", "1.60\u00d7", "0 s"]
    assert rows["nero"] == ["\u2013", "0.05", "\u2013", "0.05", "0 of 1", "0.50\u00d7", "0 s"]
    assert rows["prodigy"][3:6] == ["0.05", "0 of 1", "\u2013"]
    assert rows[REFERENCE] == ["1.00"] * 4 + ["1 of 1", "1.00\u00d7", "0.56 s"]
    (row,) = matrix(found, NAMES, seconds_saved).rows
    told = [(cell.text, cell.note) for cell in row[1:]]
    assert told == [
        ("1.25", "1.60\u00d7"), ("never", "0.50\u00d7"), ("never", ""), ("1.00", ""),
    ]  # fmt: skip
    own = {row[0].text: row for row in details(found).rows}
    assert [cell.text for cell in own["agd"][4:8]] == ["2.00", "1.25", "10", "3.2"]


def test_who_reaches_the_loss_but_is_not_timed_has_no_mean_of_seconds(comparison, trials):
    known = [time_of("adamw(lr=0.001)", 2.0, 1.0)]
    found = standings(comparison, trials, {time.key: time for time in known})
    rows = {row[0].text: [cell.text for cell in row[1:5]] for row in overview(found).rows}
    assert rows["agd"] == ["2.00", "2.00", "\u2013", "\u2013"]


def test_means_over_workloads_count_failures(comparison):
    problems = [PROBLEM, Problem("fcn8-digits", "small", 20)]
    both = Comparison(comparison.contestants, problems, 1)
    trials = {}
    while keys := both.wanted(trials):
        for key in keys:
            fails = key.workload == "fcn8-digits" and key.optimizer == "agd"
            trials[key] = ended(key, [3.0, 3.0, 3.0] if fails else losses_of(key))
    known = [time_of("adamw(lr=0.001)", 2.0, 1.0, p) for p in problems]
    known += [time_of("agd", 3.2, 1.6, PROBLEM), time_of("agd", 2.0, 0.1, problems[1])]
    table = overview(standings(both, trials, {time.key: time for time in known}))
    row = next(row for row in table.rows if row[0].text == "agd")
    assert [cell.value for cell in row[1:5]] == pytest.approx(
        [2, math.sqrt(2 * 0.05), 1.25, math.sqrt(1.25 * 0.05)]
    )
    assert row[6].value == pytest.approx(math.sqrt(1.6 * 0.1))
