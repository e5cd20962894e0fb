"""The cells of a comparison's tables: factors, bytes, durations, what was saved."""

import math

from untuned.lab.comparison.contestants import REFERENCE
from untuned.lab.comparison.standings import Standing
from untuned.lab.report.table import NEVER, NOTHING, TableCell, signed


def factor_text(value: float) -> str:
    """A factor: 0.97, 1.80, 12.3."""
    return NOTHING if math.isnan(value) else f"{value:.2f}" if value < 10 else f"{value:.3g}"


def factor_cell(value: float) -> TableCell:
    """A factor with the sign of multiplication."""
    return TableCell(factor_text(value) + ("" if math.isnan(value) else "\u00d7"), value)


def bytes_cell(count: float) -> TableCell:
    """Bytes, in a unit that fits."""
    if math.isnan(count):
        return TableCell(NOTHING, count)
    power = min(int(math.log10(max(count, 1)) // 3), 3)
    return TableCell(f"{count / 1000**power:.3g} {('B', 'kB', 'MB', 'GB')[power]}", count)


def duration_cell(seconds: float) -> TableCell:
    """Seconds, in a unit that fits."""
    if math.isnan(seconds):
        return TableCell(NOTHING, seconds)
    size, unit = next((each for each in _UNITS if seconds >= each[0]), _UNITS[-1])
    return TableCell(f"{seconds / size:.3g} {unit}", seconds)


_UNITS = ((3600, "h"), (60, "min"), (1, "s"))


def steps_saved(standing: Standing) -> TableCell:
    """The step reduction; beneath, the final loss minus the reference's."""
    gap, value = standing.gap, standing.reduction
    note = signed(gap) if math.isfinite(gap) and gap else "" if value else "diverged"
    return _reduction(standing, value, note)


def seconds_saved(standing: Standing) -> TableCell:
    """The time reduction; beneath, the time of a step beside the reference's."""
    name, ratio = standing.contestant.name, standing.ratio
    note = "" if name == REFERENCE or math.isnan(ratio) else f"{factor_text(ratio)}\u00d7"
    return _reduction(standing, standing.time_reduction, note)


def _reduction(standing: Standing, value: float, note: str) -> TableCell:
    if math.isnan(value):
        return TableCell(NOTHING, value, note)
    if value == 0:
        return TableCell(NEVER, 0.0, note, "bad")
    good = value >= 1 and standing.contestant.name != REFERENCE
    return TableCell(factor_text(value), value, note, "good" if good else "")
