"""The page of reproductions says what the committed trials say, and so does what is installed."""

import dataclasses
import importlib.util
import re
import statistics
from pathlib import Path

import pytest

from support.pages import text_of
from untuned.lab.programs.reproduce import EXPERIMENTS
from untuned.lab.reproduce import evidence
from untuned.lab.reproduce.towers import MNIST, RULES, TUNED

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def program():
    path = ROOT / "website/reproductions.py"
    spec = importlib.util.spec_from_file_location("reproductions", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def trials(program):
    return program.committed()


def test_the_page_is_what_the_program_writes(program, trials):
    text = text_of("reproductions")
    assert program.page(text, trials) == text
    for name in EXPERIMENTS:
        assert f"<!-- begin {name} full -->" in text
        assert f"<!-- begin {name} small -->" in text


def test_every_picture_is_there():
    drawn = re.findall(r"\]\(((?:results/)?[\w/-]+\.png)\)", text_of("reproductions"))
    assert drawn
    for name in drawn:
        assert (ROOT / "docs" / name).exists()


def test_the_list_is_told_what_the_trials_tell(program, trials):
    assert evidence.committed() == program.evidences(trials)


def test_the_table_leads_with_every_published_number(program):
    """Counted in the text that readers see, not by the program's own tables."""
    first = text_of("reproductions").split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in first.splitlines() if line.startswith("| [")]
    numbers = {(row[0].split("]")[0][1:], row[1]): row for row in rows if len(row) >= 6}
    for name, e in EXPERIMENTS.items():
        for row, number in e.published.items():
            assert numbers[name, row][2] == ", ".join(f"{v:g}" for v in number.values)


def test_committed_trials_have_ended_and_belong_to_their_experiment(program, trials):
    for name, own in trials.items():
        for key, trial in own.items():
            assert trial.status in ("done", "diverged")
            assert name in program.homes(key), key
            assert trial.curve["step"][-1] == trial.stopped_at <= key.steps
            assert trial.status == "diverged" or trial.stopped_at == key.steps


def test_the_memory_of_the_mlp_is_counted_by_hand(program):
    """100 layers of 784: Adam has two numbers for each weight, Nero two for each neuron."""
    neurons = 99 * 784 + 10
    weights = 785 * neurons  # with the biases
    table = {row[0].text: row for row in program.memory().rows}
    _, own, nero, lamb, adam, sgd, momentum, _ = (cell.text for cell in table["`mlp100-mnist`"])
    assert float(own) == float(momentum) == pytest.approx(4e-6 * weights, rel=5e-3)
    assert float(lamb) == float(adam) == pytest.approx(8e-6 * weights, rel=5e-3)
    assert float(nero) == pytest.approx(8e-6 * neurons, rel=5e-3)
    assert float(sgd) == 0


@pytest.mark.parametrize("name", RULES)
def test_learned_values_are_the_means_that_the_towers_end_with(name, trials):
    tower = next(line for line in EXPERIMENTS["towers-rules"].full.lines
                 if (line.panel, line.label) == (name, TUNED))  # fmt: skip
    wanted = (MNIST, "full", tower.optimizer)
    ends = [trial.curve for key, trial in trials["towers-rules"].items() if key[:3] == wanted]
    assert len(ends) == 3
    rate = statistics.fmean(curve["hyper floor0.lr"][-1] for curve in ends)
    (learned,) = re.findall(r"[(]lr=([\d.]+)", RULES[name].learned)
    assert float(learned) == float(f"{rate:.2g}")


def test_a_trial_goes_to_all_experiments_that_have_it(program, trials):
    """Shorter ones, too, but none of another schedule, and none that is longer than published.

    One that is of an experiment's own length is no shorter one of another's.
    """
    key = next(key for key in trials["towers-rules"] if key.optimizer == "sgd(lr=0.01)")
    both = ["towers-rules", "towers-heights"]
    assert program.homes(key) == both
    assert program.homes(key._replace(steps=2340)) == both
    assert program.homes(key._replace(steps=1170)) == ["towers-time"]
    assert not program.homes(key._replace(schedule="cosine"))
    assert not program.homes(key._replace(steps=key.steps + 1))
    assert not program.homes(key._replace(seed=3))


def test_where_auto_is_behind_is_said(program):
    rows = program.auto_table(program.smalls(text_of("reproductions"))).rows
    behind = {row[0].text for row in rows if row[-1].text == "behind"}
    assert len(rows) > 20
    names = ("agd-showcase-fcn", "nero-gan", "nero-cifar", "nero-pong")
    assert behind == {f"[{name}](#{name})" for name in names}
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "in all but four comparisons" in " ".join(readme.split())
    assert sum(row[-1].text == "behind" for row in rows) == 4


def test_auto_is_compared_with_the_best_of_its_panel(program):
    """Errors: less is better; another panel, and Auto of other initial weights, do not count."""
    rules = EXPERIMENTS["towers-rules"]
    cells = {
        "sgd, plain": "4 (3 to 5)",
        "sgd, Auto": "4.5",
        "adam, plain": "5 (5 to 5)",
        "adam, Auto": "4.9",
    }
    told = {name: {"ours, mean and range": text} for name, text in cells.items()}
    found = program.auto_table([(rules, told)])
    assert [[cell.text for cell in row[1:]] for row in found.rows] == [
        ["sgd: test error, %", "4.5", "4", "plain", "behind"],
        ["adam: test error, %", "4.9", "5", "plain", "ahead"],
    ]


def test_small_rows_without_a_trial_stay_as_they_are(program):
    """A fresh row comes among them, and is compared with the baseline that stands there."""
    from untuned.lab.comparison.trials import Trial, TrialKey

    old = "|  | published | ours, mean and range | verdict |\n| --- | ---: | ---: | ---: |\n"
    old += "| AGD | not published here | 2.5 | +0.4 from baseline |\n"
    old += "| AdamW | not published here | 2.1 (2 to 2.2) | \u2013 |\n"
    experiment = EXPERIMENTS["agd-gpt2"]
    line = next(line for line in experiment.small.lines if line.label == "Auto")
    key = TrialKey(line.workload, "small", line.optimizer, line.schedule, 0, 1200)
    trial = Trial(key, "done", curve={"step": [1200], "valid_loss": [2.0]})
    told = program.small(program.Results(experiment, "small", {key: trial}), old)
    rows = program.rows_of(told)
    assert rows["AGD"]["verdict"] == "+0.4 from baseline"
    assert rows["AdamW"]["ours, mean and range"] == "2.1 (2 to 2.2)"
    assert rows["Auto"]["ours, mean and range"] == "2; 1 of 2 seeds"
    assert rows["Auto"]["verdict"] == "\u22120.1 from baseline"
    again = program.small(program.Results(experiment, "small", {}), told)
    assert program.rows_of(again) == rows
    own = dataclasses.replace(trial, key=key._replace(optimizer="adamw(lr=0.001)"))
    fresh = program.small(program.Results(experiment, "small", {own.key: own}), told)
    assert program.rows_of(fresh)["AdamW"]["verdict"] == "\u2013"  # itself the baseline


def test_the_page_follows_the_trials(program, trials):
    """A number changed in a trial changes the page."""
    key, trial = next((k, t) for k, t in trials["towers-rules"].items() if t.status == "done")
    curve = trial.curve | {"metric": [*trial.curve["metric"][:-1], 0.5]}
    other = {**trials, "towers-rules": {**trials["towers-rules"]}}
    other["towers-rules"][key] = dataclasses.replace(trial, curve=curve)
    text = text_of("reproductions")
    assert program.page(text, other) != text
