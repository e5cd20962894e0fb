"""The tables of a comparison: overview, matrix of workloads and contestants, one workload."""

import dataclasses
import math
from collections.abc import Sequence

from untuned.lab.comparison.contestants import REFERENCE, Contestant
from untuned.lab.comparison.measure import FAILURE, geometric_mean, summary
from untuned.lab.comparison.standings import Standing, halves
from untuned.lab.report.table import NEVER, NOTHING, Table, TableCell, number_cell, signed


def factor_text(value: float) -> str:
    """A factor: 0.97, 1.80, 12.3."""
    return NOTHING if math.isnan(value) else f"{value:.2f}" if value < 10 else f"{value:.3g}"


def bytes_cell(count: float) -> TableCell:
    """Bytes, in a unit that fits."""
    if math.isnan(count):
        return TableCell(NOTHING, count)
    power = min(int(math.log10(max(count, 1)) // 3), 3)
    return TableCell(f"{count / 1000**power:.3g} {('B', 'kB', 'MB', 'GB')[power]}", count)


def _reduction(standing: Standing) -> TableCell:
    """The step reduction; beneath, the final loss minus the reference's."""
    gap, value = standing.gap, standing.reduction
    note = signed(gap) if math.isfinite(gap) and gap else ""
    if math.isnan(value):
        return TableCell(NOTHING, value, note)
    if value == 0:
        return TableCell(NEVER, 0.0, note or "diverged", "bad")
    good = value >= 1 and standing.contestant.name != REFERENCE
    return TableCell(factor_text(value), value, note, "good" if good else "")


def overview(standings: Sequence[Standing], title: str = "") -> Table:
    """A row for each contestant, best first: the first table of the report.

    Args:
        standings: on the workloads that it sums up.
        title: of the table.
    """
    table = Table([
        ("optimizer", "in the order of the third column until you sort"),
        ("steps saved", "how many times fewer steps than tuned AdamW to AdamW's final loss: "
         "geometric mean over the workloads where it got there"),
        (f"failures as {FAILURE}", "the same over all workloads, never getting there counted so"),
        ("got there", "workloads on which it reached tuned AdamW's final loss in the same budget"),
        ("trainings", "how many it takes to have one good one, by workload: its grid and that one"),
        ("time of a step", "beside tuned AdamW's: geometric mean"),
        ("memory", "state of the optimizer beside AdamW's: mean"),
        ("diverged", "seeds, of those that were compared"),
    ], title=title)  # fmt: skip
    reference = {s.problem: s for s in standings if s.contestant.name == REFERENCE}
    for contestant, own in _by_contestant(standings).items():
        total = summary([s.reduction for s in own])

        def beside(name: str, own: list[Standing] = own) -> list[float]:
            ratios = [_ratio(s.mean(name), reference.get(s.problem), name) for s in own]
            return [ratio for ratio in ratios if math.isfinite(ratio)]

        memory = beside("state_bytes")
        trials = sum(len(s.trials) for s in own)
        gone = sum(s.count("diverged") + s.count("failed") for s in own)
        reached = total.workloads - total.failures
        table.rows.append([
            TableCell(contestant.name, contestant.name, "tuned" if contestant.tuned else ""),
            TableCell(factor_text(total.successes), total.successes),
            TableCell(factor_text(total.overall), total.overall),
            TableCell(f"{reached} of {total.workloads}", reached / max(total.workloads, 1)),
            number_cell(sum(s.trainings for s in own) / len(own)),
            _factor(geometric_mean([ratio for ratio in beside("ms_per_step") if ratio > 0])),
            _factor(math.fsum(memory) / len(memory) if memory else math.nan),
            TableCell(f"{gone} of {trials}", gone / max(trials, 1), tone="bad" if gone else ""),
        ])  # fmt: skip
    table.rows.sort(key=lambda row: _rank(row[2].value), reverse=True)
    return table


def overviews(standings: Sequence[Standing]) -> list[Table]:
    """The overview of all workloads and, where there are both, of each half of them."""
    parts = halves(standings)
    apart = parts if len(parts) > 1 else {}
    return [
        overview(own, title) for title, own in {"All workloads": list(standings), **apart}.items()
    ]


def matrices(standings: Sequence[Standing], names: Sequence[str]) -> list[Table]:
    """The matrix of each half of the workloads; arguments as in `matrix`."""
    return [matrix(own, names, title) for title, own in halves(standings).items()]


def matrix(standings: Sequence[Standing], names: Sequence[str], title: str = "") -> Table:
    """Step reductions by workload and contestant; beneath, gaps of the final loss.

    Args:
        standings: of all.
        names: of the contestants, in the order of the columns.
        title: of the table.
    """
    headings = [(name, "steps saved; beneath, final loss") for name in names]
    table = Table([("workload", ""), *headings], title=title)
    rows: dict[str, dict[str, Standing]] = {}
    for standing in standings:
        rows.setdefault(standing.problem.workload, {})[standing.contestant.name] = standing
    missing = TableCell(NOTHING, math.nan)
    for workload, row in rows.items():
        cells = [_reduction(row[name]) if name in row else missing for name in names]
        table.rows.append([TableCell(workload, workload), *cells])
    return table


def details(standings: Sequence[Standing]) -> Table:
    """One workload: a row for each contestant, least final loss first."""
    metric = next((t.metric_name for s in standings for t in s.trials if t.metric_name), "metric")
    table = Table([
        ("optimizer", ""), ("as used", "the winner of its grid, where it is tuned"),
        ("validation loss", "at the end, mean over seeds"), (metric, "at the end, mean over seeds"),
        ("steps saved", "beside tuned AdamW"), ("steps", "to tuned AdamW's final loss"),
        ("ms a step", ""), ("state", "of the optimizer, beside the weights"),
        ("seeds", "done, of those begun"),
    ])  # fmt: skip
    for s in sorted(standings, key=lambda s: math.inf if math.isnan(s.loss) else s.loss):
        used = s.chosen.text if s.chosen else "still being tuned"
        done, begun = s.count("done"), len(s.trials)
        never = TableCell(NEVER, math.inf, tone="bad")
        table.rows.append([
            TableCell(s.contestant.name, s.contestant.name), TableCell(used, used),
            number_cell(s.loss, 4), number_cell(s.mean("metric"), 4),
            dataclasses.replace(_reduction(s), note=""),
            never if math.isinf(s.steps) else number_cell(s.steps, 4),
            number_cell(s.mean("ms_per_step")), bytes_cell(s.mean("state_bytes")),
            TableCell(f"{done} of {begun}", done, tone="" if done == begun else "bad"),
        ])  # fmt: skip
    return table


def _by_contestant(standings: Sequence[Standing]) -> dict[Contestant, list[Standing]]:
    """Standings of those that are compared, not only tuned."""
    found: dict[Contestant, list[Standing]] = {}
    for standing in standings:
        if standing.trials:
            found.setdefault(standing.contestant, []).append(standing)
    return found


def _ratio(value: float, reference: Standing | None, name: str) -> float:
    base = reference.mean(name) if reference else math.nan
    return value / base if base > 0 else math.nan


def _factor(value: float) -> TableCell:
    return TableCell(factor_text(value) + ("" if math.isnan(value) else "\u00d7"), value)


def _rank(value: float | str) -> float:
    return -math.inf if isinstance(value, str) or math.isnan(value) else value
