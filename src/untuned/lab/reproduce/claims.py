"""What the papers say in words, tested: Welch's t-test, rank correlation, a straight line."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from scipy import stats

from untuned.lab.report.table import signed
from untuned.lab.reproduce.experiment import Claim, Line, Measured

LEAST = 3  # heights, for a trend


def welch(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The p-value of Welch's t-test, two-sided; NaN where one has too few seeds to tell.

    Args:
        ours: one number a seed.
        theirs: the same.
    """
    finite = all(map(math.isfinite, [*ours, *theirs]))
    if not finite or min(len(ours), len(theirs)) < 2:
        return math.nan
    summaries = [(statistics.fmean(each), statistics.stdev(each), len(each))
                 for each in (ours, theirs)]  # fmt: skip
    if not any(deviation for _, deviation, _ in summaries):
        return math.nan  # no spread to compare with
    return float(stats.ttest_ind_from_stats(*summaries[0], *summaries[1], equal_var=False).pvalue)


def probability(p: float) -> str:
    """A p-value as text; empty for NaN.

    Args:
        p: the value.
    """
    if math.isnan(p):
        return ""
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"


def outperforms(said: str, ours: str, theirs: str) -> Claim:
    """One label against another in each panel, both at the best mean of their grids.

    Args:
        said: the paper's words.
        ours: label of the lines that should be better.
        theirs: label of those they are compared with.
    """
    return Claim(said, partial(_differences, ours, theirs))


def best_at(said: str, xs: Mapping[str, float], panel: str = "") -> Claim:
    """Where the best mean of a grid is, of which more than one place has been tried.

    Args:
        said: the paper's words.
        xs: published places by label.
        panel: of the grids.
    """
    return Claim(said, partial(_places, xs, panel))


def less_sensitive(said: str, height_of: Callable[[Line], int]) -> Claim:
    """Whether means over a grid, and their spread, fall with a tower's height, in each panel.

    Args:
        said: the paper's words.
        height_of: a line's; 0 for lines that are no tower.
    """
    return Claim(said, partial(_sensitivities, height_of))


def cost_of_a_floor(said: str, label: str) -> Claim:
    """A straight line through times over `x`, the height.

    Args:
        said: the paper's words.
        label: of the towers.
    """
    return Claim(said, partial(_straight_line, label))


def _panels(measured: Measured) -> list[str]:
    return list(dict.fromkeys(line.panel for line in measured))


def _ranked(
    measured: Measured, panel: str, label: str, more: bool
) -> list[tuple[Line, list[float]]]:
    """The lines of a label that have ended and their numbers, the best mean first."""
    own = [(line, list(values)) for line, values in measured.items()
           if (line.panel, line.label) == (panel, label) and values]  # fmt: skip
    return sorted(own, key=lambda each: statistics.fmean(each[1]), reverse=more)


def _best(measured: Measured, panel: str, label: str, more: bool) -> list[float]:
    """The numbers of the line with the best mean; none where nothing has ended."""
    return next((values for _, values in _ranked(measured, panel, label, more)), [])


def _differences(ours: str, theirs: str, measured: Measured, more: bool) -> str:
    found = []
    for panel in _panels(measured):
        own, other = (_best(measured, panel, label, more) for label in (ours, theirs))
        if not own or not other:
            continue
        gap = statistics.fmean(own) - statistics.fmean(other)
        name = f"{panel}, {ours}" if panel else ours
        better = "better" if gap != 0 and (gap > 0) == more else "not better"
        texts = f"{name} {better} ({signed(gap, 3)}", probability(welch(own, other))
        found.append(", ".join(filter(None, texts)) + ")")
    return "; ".join(found)


def _places(xs: Mapping[str, float], panel: str, measured: Measured, more: bool) -> str:
    found = []
    for label, x in xs.items():
        ranked = _ranked(measured, panel, label, more)
        if len(ranked) > 1:
            best = ranked[0][0].x
            same = "as published" if best == x else f"published: {x:g}"
            found.append(f"{label} {best:g} ({same})")
    return "; ".join(found)


def _sensitivities(height_of: Callable[[Line], int], measured: Measured, more: bool) -> str:
    found = []
    for panel in _panels(measured):
        means = _means_by_height(height_of, measured, panel)
        if len(means) < LEAST:
            continue
        centres = {height: statistics.fmean(each) for height, each in means.items()}
        spreads = {height: statistics.pstdev(each) for height, each in means.items()}
        texts = [_trend(name, of) for name, of in (("mean", centres), ("spread", spreads))]
        found.append(f"{panel}: {'; '.join(texts)}")
    return ". ".join(found)


def _means_by_height(
    height_of: Callable[[Line], int], measured: Measured, panel: str
) -> dict[int, list[float]]:
    """Means over the seeds at those first steps that all heights have."""
    grids: dict[int, dict[float, float]] = {}
    for line, values in measured.items():
        if line.panel == panel and height_of(line) and line.x is not None and values:
            grids.setdefault(height_of(line), {})[line.x] = statistics.fmean(values)
    common = set.intersection(*(set(grid) for grid in grids.values())) if grids else set()
    return {height: [grid[x] for x in sorted(common)] for height, grid in grids.items() if common}


def _trend(name: str, by_height: Mapping[int, float]) -> str:
    heights, values = zip(*sorted(by_height.items()), strict=True)
    ends = f"{name} {values[0]:.3g} at height {heights[0]}, {values[-1]:.3g} at {heights[-1]}"
    if len(set(values)) == 1:
        return f"{ends}: constant"
    found = stats.spearmanr(heights, values)
    return f"{ends}: Spearman's rho {signed(found.statistic)}, {probability(float(found.pvalue))}"


def _straight_line(label: str, measured: Measured, more: bool) -> str:
    """Of the least time at each height: other programs only add to it."""
    least = {line.x: min(values) for line, values in measured.items()
             if line.label == label and line.x and values}  # fmt: skip
    if len(least) < LEAST:
        return ""
    line, first = stats.linregress([*least], [*least.values()]), min(least)
    return (
        f"a floor takes {line.slope:.3g} ms, {100 * line.slope / least[first]:.2g}% of a step at "
        f"height {first:g}; a straight line with R² = {line.rvalue**2:.3f}"
    )
