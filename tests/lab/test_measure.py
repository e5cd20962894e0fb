"""Step reduction and its summaries: small examples by hand, and what must hold of any curves."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from untuned.lab.comparison.measure import (
    FAILURE,
    Curve,
    geometric_mean,
    mean_curve,
    performance_profile,
    step_reduction,
    steps_to,
    summary,
)

losses = st.lists(st.floats(0.01, 10), min_size=2, max_size=12)


def curve(values, every=10.0):
    return Curve([every * i for i in range(len(values))], values)


def reduction(reference, contestant):
    target = mean_curve(reference).losses[-1]
    needed = [steps_to(target, mean_curve(curves)) for curves in (reference, contestant)]
    return step_reduction(*needed)


@pytest.mark.parametrize(
    ("values", "target", "steps"),
    [
        ([4, 2, 1], 2, 10),
        ([4, 2, 1], 3, 5),  # half-way between the evaluations at 0 and 10
        ([4, 2, 1], 1.25, 17.5),
        ([4, 2, 1], 0.5, math.inf),
        ([4, 5, 3], 3.5, 15),  # the best so far stays at 4 until step 10
        ([4, 1, 3], 2, 20 / 3),  # a loss that rises again had been there
        ([4, math.inf, 2], 3, 15),
        ([math.nan, 2, 1], 1.5, 15),
        ([math.inf, 2], 3, 10),  # no line from infinity: the evaluation itself
        ([1, 1], 2, 1),  # there from the start
        ([4, 2], math.inf, math.inf),  # a reference that diverged sets no target
        ([4, 2], math.nan, math.inf),
    ],
)
def test_steps_to_a_target(values, target, steps):
    assert steps_to(target, curve(values)) == pytest.approx(steps)


def test_a_mean_over_seeds_is_infinite_once_one_of_them_has_stopped():
    mean = mean_curve([curve([4, 2, 1]), curve([2, 4]), curve([3, 3, math.nan])])
    assert mean.steps == [0, 10, 20]
    assert mean.losses == [3, 3, math.inf]


def test_half_of_the_seeds_may_miss_their_mean_and_the_reference_still_has_one():
    seeds = [curve([4, 2, 1]), curve([4, 2, 1.5])]
    assert reduction(seeds, seeds) == 1


@given(losses)
def test_the_reference_against_itself_has_one(values):
    assert reduction([curve(values)], [curve(values)]) == 1


@given(st.lists(st.floats(0.01, 10), min_size=2, max_size=12, unique=True), st.floats(0.1, 10))
def test_a_curve_that_is_k_times_as_fast_has_k(values, k):
    falling = sorted(values, reverse=True)
    faster = curve(falling, every=1000 / k)
    assert reduction([curve(falling, every=1000)], [faster]) == pytest.approx(k)


@given(losses, losses, st.floats(0, 1))
def test_a_lower_loss_anywhere_never_takes_more_steps(values, target, share):
    lower = [share * value for value in values]
    assert steps_to(target[0], curve(lower)) <= steps_to(target[0], curve(values))


@given(losses, st.floats(0, 10))
def test_a_target_is_reached_between_the_evaluations_around_it(values, target):
    steps = steps_to(target, curve(values))
    if math.isinf(steps):
        assert min(values) > target
    else:
        first = next(i for i, value in enumerate(values) if value <= target)
        assert max(1, 10 * (first - 1)) <= steps <= max(1, 10 * first)


def test_a_summary_shows_failures_and_counts_them():
    of = summary([4, 1, 0, math.nan])
    assert of.successes == pytest.approx(2)
    assert of.overall == pytest.approx((4 * 1 * FAILURE) ** (1 / 3))
    assert (of.failures, of.workloads) == (1, 3)
    assert math.isnan(summary([]).overall)
    assert math.isnan(summary([0, 0]).successes)


@given(st.lists(st.floats(0.01, 100), min_size=1))
def test_a_geometric_mean_lies_between_its_numbers_and_turns_over_with_them(values):
    mean = geometric_mean(values)
    assert min(values) * (1 - 1e-9) <= mean <= max(values) * (1 + 1e-9)
    assert geometric_mean([1 / value for value in values]) == pytest.approx(1 / mean)


def test_a_performance_profile_by_hand():
    inf = math.inf
    profile = performance_profile({"a": [10, 20, inf, inf], "b": [20, 20, 50, inf]})
    assert profile["a"] == Curve([1, 2], [0.5, 0.5])
    assert profile["b"] == Curve([1, 2], [0.5, 0.75])  # on the fourth nobody arrived


needed = st.one_of(st.floats(1, 100), st.just(math.inf))


@given(st.lists(st.lists(needed, min_size=3, max_size=3), min_size=1, max_size=4))
def test_a_profile_rises_to_the_share_that_arrived(table):
    profile = performance_profile({str(i): row for i, row in enumerate(table)})
    for i, row in enumerate(table):
        shares = profile[str(i)].losses
        assert shares == sorted(shares)
        assert shares[-1] == sum(map(math.isfinite, row)) / 3
    if any(math.isfinite(min(column)) for column in zip(*table, strict=True)):
        assert max(profile[name].losses[0] for name in profile) > 0  # somebody was fastest
