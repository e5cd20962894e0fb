"""What the papers say in words: tests of it, held to figures worked out by hand."""

import math

import pytest

from untuned.lab.reproduce.claims import (
    best_at,
    cost_of_a_floor,
    less_sensitive,
    outperforms,
    probability,
    welch,
)
from untuned.lab.reproduce.experiment import Line

ERROR, ACCURACY = False, True  # whether more is better


def line(label, x=None, panel=""):
    return Line(label, f"{label} {x}", "w", x=x, panel=panel)


def test_welchs_p_is_that_of_students_distribution():
    """Equal variances of 1, three seeds each: t = 3 / sqrt(2/3), and 4 degrees of freedom."""
    t = 3 / math.sqrt(2 / 3)
    s = t / math.sqrt(4 + t * t)  # the closed form of the distribution for 4 degrees
    assert welch([1, 2, 3], [4, 5, 6]) == pytest.approx(1 - s * (1 + (1 - s * s) / 2))


def test_welchs_degrees_of_freedom_are_those_of_the_side_that_varies():
    """Three seeds without spread against three with a variance of 1: 2 degrees, not 4."""
    t = 3 / math.sqrt(1 / 3)
    assert welch([5, 5, 5], [1, 2, 3]) == pytest.approx(1 - t / math.sqrt(2 + t * t))


@pytest.mark.parametrize("pair", [([1], [2, 3]), ([1, 1], [2, 2]), ([1, math.inf], [2, 3])])
def test_too_few_seeds_no_spread_or_divergence_have_no_p(pair):
    assert math.isnan(welch(*pair))
    assert probability(welch(*pair)) == ""


def test_better_depends_on_what_is_measured_and_grids_count_at_their_best():
    measured = {
        line("tower", 0.1, "sgd"): [4.0, 4.2, 4.4],
        line("tower", 1.0, "sgd"): [90.0, 90.0, 90.0],
        line("plain", 0.1, "sgd"): [9.0, 9.2, 9.4],
        line("plain", 1.0, "sgd"): [50.0, 10.0, 60.0],
        line("tower", panel="adam"): [3.0],
        line("plain", panel="adam"): [2.0],
        line("tower", panel="nero"): [],
    }
    claim = outperforms("", "tower", "plain")
    told = claim.test(measured, ERROR)
    assert told.startswith("sgd, tower better (\u22125, p < 0.0001); ")
    assert told.endswith("adam, tower not better (+1)")  # one seed has no p, none no word
    assert "adam, tower better (+1)" in claim.test(measured, ACCURACY)


def test_the_best_place_of_a_grid():
    measured = {line("Adam", 0.1): [50.0], line("Adam", 0.2): [60.0, 62.0], line("SGD", 1.0): [3.0]}
    measured |= {line("SGD", 0.1): [2.0], line("SGD", 0.2): [], line("Nero", 1.0): [9.0]}
    claim = best_at("", {"Adam": 0.2, "SGD": 0.1, "Nero": 1.0})
    # of Nero's grid one place alone has been tried
    assert claim.test(measured, ACCURACY) == "Adam 0.2 (as published); SGD 1 (published: 0.1)"
    assert best_at("", {"Adam": 0.2}, "a panel").test(measured, ACCURACY) == ""


def test_sensitivity_is_a_rank_correlation_over_heights():
    """Means fall with the height, all but the last two: rho = 1 - 6 * 2 / (5 * 24)."""
    means = {1: 50, 2: 40, 3: 30, 4: 10, 5: 20}
    measured = {
        line(f"height {height}", x, "p"): [mean + sign * 10 / height]
        for height, mean in means.items()
        for x, sign in ((0.1, 1), (1.0, -1))
    }
    measured |= {line("Auto", panel="p"): [1.0], line("height 6", 0.1, "p"): []}
    measured |= {line("height 1", 10.0, "p"): [7000.0]}  # a place that no other height has
    claim = less_sensitive("", lambda w: int(w.label[7:]) if w.label.startswith("height") else 0)
    told = claim.test(measured, ERROR)
    assert told.startswith("p: mean 50 at height 1, 20 at 5: Spearman's rho \u22120.9, p = 0.037; ")
    assert "spread 10 at height 1, 2 at 5: Spearman's rho \u22121," in told


def test_the_cost_of_a_floor_is_a_slope_relative_to_the_first():
    measured = {line("SGD", height): [4 + 0.5 * height, 80.0] for height in (1, 2, 3, 4)}
    claim = cost_of_a_floor("", "SGD")
    told = claim.test(measured | {line("Auto", 2): [700.0]}, ERROR)
    assert "a floor takes 0.5 ms, 11% of a step at height 1" in told
    assert "R\u00b2 = 1.000" in told
    assert claim.test({line("SGD", 1): [4.0]}, ERROR) == ""
