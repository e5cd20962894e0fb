"""The trials' file: what is written is what is read, and what was cut short is let go."""

import errno
import json
import math
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from untuned.lab.comparison.lines import InUseError
from untuned.lab.comparison.trials import Trial, TrialKey, Trials

KEY = TrialKey("fcn8-digits", "small", "adam / sgd(lr=1e-05)", "constant", 1, 300)


def result(points=4, **changes):
    """As a training hands it over."""
    curve = [
        {
            "step": 10 * i,
            "train_loss": 2.0 / (i + 1) + 1e-9,
            "valid_loss": math.pi / (i + 1),
            "metric": 0.25 * i,
            "lr": 0.001,
            "hyper": {"0.lr": 1e-3 * 1.1**i, "1.lr": 1e-5},
        }
        for i in range(points)
    ]
    return {
        **KEY._asdict(), "status": "done", "stopped_at": 300, "metric_name": "accuracy",
        "seconds": 1.2345678, "ms_per_step": 4.1, "state_bytes": 1024, "peak_mb": 210.5,
        "versions": {"torch": "2.13.0"}, "command": "untuned train ...", "curve": curve,
    } | changes  # fmt: skip


def test_a_cell_comes_back_with_five_digits(tmp_path):
    trials = Trials(tmp_path / "cells.jsonl")
    trials.append(Trial.of(result()))
    (back,) = Trials(trials.path).values()
    assert back.key == KEY
    assert back.versions == {"torch": "2.13.0"}
    assert back.seconds == 1.2346
    assert back.curve["step"] == [0, 10, 20, 30]
    assert back.curve["hyper 1.lr"] == [1e-5] * 4
    assert back.curve["hyper 0.lr"] == [0.001, 0.0011, 0.00121, 0.001331]
    assert back.loss.losses == [3.1416, 1.5708, 1.0472, 0.7854]
    assert back.last("valid_loss") == 0.7854


def test_a_diverged_cell_keeps_its_curve_and_ends_infinitely_bad(tmp_path):
    diverged = result(status="diverged", stopped_at=30)
    diverged["curve"][-1]["valid_loss"] = math.nan
    diverged["curve"][-2]["valid_loss"] = math.inf
    trials = Trials(tmp_path / "cells.jsonl")
    trials.append(Trial.of(diverged))
    (back,) = Trials(trials.path).values()
    assert back.loss.losses[:2] == [3.1416, 1.5708]
    assert all(map(math.isnan, back.loss.losses[2:]))
    assert math.isinf(back.last("valid_loss"))
    assert math.isnan(back.last("metric"))


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=5))
def test_any_numbers_come_back_within_five_digits(losses):
    points = [{"step": i, "valid_loss": loss} for i, loss in enumerate(losses)]
    line = Trial.of(result(curve=points)).line()
    back = Trial.of(json.loads(line)).loss.losses
    finite = [loss if math.isfinite(loss) else math.nan for loss in losses]
    assert back == pytest.approx(finite, rel=5.1e-5, nan_ok=True)


@pytest.mark.parametrize("cut", [1, 40, 400])
def test_a_line_cut_short_is_dropped_and_written_over(tmp_path, cut):
    trials = Trials(tmp_path / "cells.jsonl")
    trials.append(Trial.of(result()))
    with trials.path.open("a") as file:
        file.write(Trial.of(result(seed=2)).line()[:cut])
    again = Trials(trials.path)
    assert list(again) == [KEY]
    again.append(Trial.of(result(seed=3)))
    assert [key.seed for key in Trials(trials.path)] == [1, 3]


def test_a_full_disk_loses_the_cell_under_way_alone(tmp_path):
    """A limit on the size of files stands for the disk: the write fails half-way, as there."""
    script = f"""
import resource, signal, sys
from pathlib import Path
from untuned.lab.comparison.trials import Trial, Trials
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
trials = Trials(Path({str(tmp_path / "cells.jsonl")!r}))
results = {[result(seed=s) for s in (1, 2)]!r}
trials.append(Trial.of(results[0]))
limit = trials.path.stat().st_size + 50
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    trials.append(Trial.of(results[1]))
except OSError as error:
    sys.exit(error.errno)
"""
    writer = subprocess.run([sys.executable, "-c", script], env=os.environ, check=False)
    assert writer.returncode == errno.EFBIG
    assert (tmp_path / "cells.jsonl").read_bytes()[-1:] != b"\n"
    assert [key.seed for key in Trials(tmp_path / "cells.jsonl")] == [1]


def test_a_line_that_is_no_cell_is_named(tmp_path):
    path = tmp_path / "cells.jsonl"
    path.write_text(Trial.of(result()).line() + '\n{"workload": "fcn8-digits"}\n')
    with pytest.raises(ValueError, match=r"cells\.jsonl, line 2 is no trial"):
        Trials(path)


def test_the_later_of_two_cells_of_one_key_counts(tmp_path):
    trials = Trials(tmp_path / "cells.jsonl")
    trials.append(Trial(KEY, "failed", error="out of memory"))
    assert Trials(trials.path)[KEY].error == "out of memory"
    trials.append(Trial.of(result()))
    assert Trials(trials.path)[KEY].status == "done"


def test_two_comparisons_cannot_write_to_one_file(tmp_path):
    trials = Trials(tmp_path / "cells.jsonl")
    second = Trials(trials.path).locked()
    with trials.locked(), pytest.raises(InUseError, match="another comparison"), second:
        pass
    with Trials(trials.path).locked():
        pass


def test_a_cell_of_forty_points_stays_under_five_kilobytes():
    assert len(Trial.of(result(points=41)).line()) < 5000 * 41 / 40
