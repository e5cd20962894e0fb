"""Which trials a comparison wants, in which order, and what it makes of them."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from untuned.lab.baselines import methods
from untuned.lab.comparison.contestants import (
    CONTESTANTS,
    REFERENCE,
    Contestant,
    contestant_of,
    half_decade,
)
from untuned.lab.comparison.plan import EXTENSIONS, Comparison, Problem, tuning
from untuned.lab.comparison.standings import standings
from untuned.lab.comparison.trials import Trial
from untuned.lab.errors import UnknownNameError

PROBLEM = Problem("fcn2-digits", "small", 20)
TUNED = contestant_of(REFERENCE)


def ended(key, loss, seconds=1.0):
    """A trial that ended with this loss."""
    status = "done" if math.isfinite(loss) else "diverged"
    curve = {"step": [0, key.steps], "valid_loss": [2.0, loss]}
    return Trial(key, status, seconds=seconds, curve=curve)


def play(contestants, loss_of, seeds=3):
    """Train all that is ever wanted, by a loss for each key; in which order."""
    trials = {}
    while keys := Comparison(contestants, [PROBLEM], seeds).wanted(trials):
        trials[keys[0]] = ended(keys[0], loss_of(keys[0]))
    return trials


def exponent(key):
    """Of the square root of 10, of the learning rate that a key's optimizer is written with."""
    return round(2 * math.log10(float(key.optimizer.split("lr=")[1].strip("()"))))


@given(st.integers(-20, 14))
def test_the_grid_is_extended_until_its_best_has_neighbours_on_both_sides(optimum):
    trials = play([TUNED], lambda key: 1 + abs(exponent(key) - optimum))
    tried = {exponent(key) for key in trials if key.seed == 0}
    nearest = min(max(optimum, TUNED.low - EXTENSIONS), TUNED.high + EXTENSIONS)
    assert tuning(TUNED, PROBLEM, trials).chosen.optimizer == f"adamw(lr={half_decade(nearest)})"
    assert tried >= set(range(TUNED.low, TUNED.high + 1))
    assert len(tried) <= TUNED.high - TUNED.low + 1 + EXTENSIONS
    if TUNED.low - EXTENSIONS < optimum < TUNED.high + EXTENSIONS:
        assert {optimum - 1, optimum + 1} <= tried


def test_a_tuned_contestant_spans_three_decades_with_a_decay_and_without():
    for contestant in filter(lambda contestant: contestant.tuned, CONTESTANTS):
        grid = contestant.candidates(contestant.low, contestant.high)
        assert contestant.high - contestant.low >= 6
        assert {candidate.schedule for candidate in grid} in (
            {"constant", "cosine"},
            {"constant", "linear"},
        )


def test_candidates_that_diverge_are_never_chosen():
    trials = play([TUNED], lambda key: 5.0 if key.optimizer == "adamw(lr=0.01)" else math.inf)
    assert tuning(TUNED, PROBLEM, trials).chosen.optimizer == "adamw(lr=0.01)"


def test_the_winner_is_compared_on_fresh_seeds_alone():
    trials = play([TUNED], lambda key: 1.0 if key.seed == 0 else 3.0)
    compared = tuning(TUNED, PROBLEM, trials).fresh(3)
    assert [key.seed for key in compared] == [1, 2, 3]
    (standing,) = standings(Comparison([TUNED], [PROBLEM], 3), trials, {})
    assert standing.loss == 3.0
    assert standing.trainings == sum(key.seed == 0 for key in trials) + 1


def test_a_reference_with_a_grid_of_its_own_is_what_others_stand_beside():
    """As where the rates of a shorter training are known (benchmarks/long.py)."""
    narrow = dataclasses.replace(TUNED, low=-5, high=-3, schedules=("cosine",))
    auto = contestant_of("auto")
    trials = play([auto, narrow], lambda key: 1.0 if key.optimizer == "auto" else 1.5)
    ours, theirs = standings(Comparison([auto, narrow], [PROBLEM], 3), trials, {})
    assert ours.gap == -0.5
    assert ours.reduction == pytest.approx(2.0)  # straight from 2.0 to 1.0, past 1.5 half-way
    assert theirs.reduction == 1.0


def test_trainings_that_two_contestants_share_are_done_once():
    both = play([contestant_of("adamw"), TUNED], lambda key: abs(exponent(key) + 6))
    alone = play([TUNED], lambda key: abs(exponent(key) + 6))
    assert tuning(TUNED, PROBLEM, alone).chosen.optimizer == contestant_of("adamw").text
    assert both.keys() == alone.keys()


def test_the_longest_cells_come_first_and_unknown_ones_before_them():
    problems = [Problem(name, "small", steps) for name, steps in (("a", 10), ("b", 20), ("c", 1))]
    only = contestant_of("agd")
    seen = {}
    for problem, seconds in zip(problems[:2], (6.0, 10.0), strict=True):
        key = tuning(only, problem, {}).fresh(1)[0]
        seen[key] = ended(key, 1.0, seconds)
    order = [key.workload for key in Comparison([only], problems, 2).wanted(seen)]
    assert order == ["c", "c", "b", "a"]  # 10 s and 6 s for the two that are known


def test_what_remains_is_counted_down_to_nothing():
    trials = {}
    contestants = [TUNED, contestant_of("agd")]
    assert Comparison(contestants, [PROBLEM], 3).remaining(trials) == 7 * 2 + 3 + 3
    trials = play(
        contestants, lambda key: 1 + abs(exponent(key) + 5) if "lr" in key.optimizer else 1
    )
    assert Comparison(contestants, [PROBLEM], 3).remaining(trials) == 0


@pytest.mark.parametrize("contestant", CONTESTANTS, ids=lambda contestant: contestant.name)
def test_every_contestant_can_be_built(contestant):
    for candidate in contestant.candidates(contestant.low, contestant.low):
        methods.method_of(candidate.optimizer)


def test_an_optimizer_as_written_is_a_contestant_of_its_own():
    assert contestant_of("adamw(lr=3e-4)") == Contestant("adamw(lr=3e-4)", "adamw(lr=3e-4)")
    with pytest.raises(
        UnknownNameError, match=r"'adamw-tund' is unknown; the nearest: adamw-tuned"
    ):
        contestant_of("adamw-tund")
    with pytest.raises(UnknownNameError, match="argument 'momentum'"):
        contestant_of("adamw(momentum=0.9)")
