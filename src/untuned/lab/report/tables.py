"""The tables of a comparison: overview, matrix of workloads and contestants, one workload."""

import dataclasses
import math
from collections.abc import Callable, Sequence

from untuned.lab.comparison.contestants import REFERENCE, Contestant
from untuned.lab.comparison.measure import FAILURE, Summary, geometric_mean, summary
from untuned.lab.comparison.standings import Standing, halves
from untuned.lab.report.cells import (
    bytes_cell,
    duration_cell,
    factor_cell,
    factor_text,
    seconds_saved,
    steps_saved,
)
from untuned.lab.report.table import NEVER, NOTHING, Table, TableCell, number_cell


def overview(standings: Sequence[Standing], title: str = "") -> Table:
    """A row for each contestant, best first: the first table of the report.

    Args:
        standings: on the workloads that it sums up.
        title: of the table.
    """
    table = Table(_OVERVIEW, title=title)
    reference = {s.problem: s for s in standings if s.contestant.name == REFERENCE}
    for contestant, own in _by_contestant(standings).items():
        steps = summary([s.reduction for s in own])
        # without a timed step, failures alone would make the mean of its seconds
        timed = steps.failures == steps.workloads or any(math.isfinite(s.ratio) for s in own)
        seconds = summary([s.time_reduction for s in own if timed])
        memory = [_memory(s, reference.get(s.problem)) for s in own]
        trials = sum(len(s.trials) for s in own)
        gone = sum(s.count("diverged") + s.count("failed") for s in own)
        reached = steps.workloads - steps.failures
        table.rows.append([
            TableCell(contestant.name, contestant.name, "tuned" if contestant.tuned else ""),
            *_means(steps), *_means(seconds),
            TableCell(f"{reached} of {steps.workloads}", reached / max(steps.workloads, 1)),
            factor_cell(geometric_mean(_finite([s.ratio for s in own]))),
            duration_cell(math.fsum(s.search_seconds for s in own)),
            number_cell(sum(s.trainings for s in own) / len(own)),
            factor_cell(_mean(_finite(memory))),
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


def at_a_glance(standings: Sequence[Standing]) -> list[Table]:
    """What a terminal shows: the overview, or the losses where there is no reference yet."""
    if any(math.isfinite(standing.reduction) for standing in standings):
        return overviews(standings)
    parts = by_workload(standings).items()
    return [dataclasses.replace(details(own), title=name) for name, own in parts]


def by_workload(standings: Sequence[Standing]) -> dict[str, list[Standing]]:
    """Standings of each workload."""
    found: dict[str, list[Standing]] = {}
    for standing in standings:
        found.setdefault(standing.problem.workload, []).append(standing)
    return found


def matrices(
    standings: Sequence[Standing],
    names: Sequence[str],
    cell: Callable[[Standing], TableCell] = steps_saved,
) -> list[Table]:
    """The matrix of each half of the workloads; arguments as in `matrix`."""
    return [matrix(own, names, cell, title) for title, own in halves(standings).items()]


def matrix(
    standings: Sequence[Standing],
    names: Sequence[str],
    cell: Callable[[Standing], TableCell] = steps_saved,
    title: str = "",
) -> Table:
    """Reductions by workload and contestant.

    Args:
        standings: of all.
        names: of the contestants, in the order of the columns.
        cell: of a standing: `steps_saved` or `seconds_saved`.
        title: of the table.
    """
    headings = [(name, "") for name in names]
    table = Table([("workload", ""), *headings], title=title)
    rows: dict[str, dict[str, Standing]] = {}
    for standing in standings:
        rows.setdefault(standing.problem.workload, {})[standing.contestant.name] = standing
    missing = TableCell(NOTHING, math.nan)
    for workload, row in rows.items():
        cells = [cell(row[name]) if name in row else missing for name in names]
        table.rows.append([TableCell(workload, workload), *cells])
    return table


def details(standings: Sequence[Standing]) -> Table:
    """One workload: a row for each contestant, least final loss first."""
    metric = next((t.metric_name for s in standings for t in s.trials if t.metric_name), "metric")
    table = Table([
        ("optimizer", ""), ("as used", "the winner of its grid, where it is tuned"),
        ("validation loss", "at the end, mean over seeds"), (metric, "at the end, mean over seeds"),
        ("steps saved", "beside tuned AdamW"), ("seconds saved", "beside tuned AdamW"),
        ("steps", "to tuned AdamW's final loss"),
        ("ms a step", "of training, on one core; measured apart"),
        ("state", "of the optimizer, beside the weights"),
        ("seeds", "done, of those begun"),
    ])  # fmt: skip
    for s in sorted(standings, key=lambda s: math.inf if math.isnan(s.loss) else s.loss):
        used = s.chosen.text if s.chosen else "still being tuned"
        done, begun = s.count("done"), len(s.trials)
        never = TableCell(NEVER, math.inf, tone="bad")
        table.rows.append([
            TableCell(s.contestant.name, s.contestant.name), TableCell(used, used),
            number_cell(s.loss, 4), number_cell(s.mean("metric"), 4),
            *(dataclasses.replace(cell(s), note="") for cell in (steps_saved, seconds_saved)),
            never if math.isinf(s.steps) else number_cell(s.steps, 4),
            number_cell(s.ms), bytes_cell(s.mean("state_bytes")),
            TableCell(f"{done} of {begun}", done, tone="" if done == begun else "bad"),
        ])  # fmt: skip
    return table


_OVERVIEW = [
    ("optimizer", "in the order of the third column until you sort"),
    ("steps saved", "how many times fewer steps than tuned AdamW to AdamW's final loss: "
     "geometric mean over the workloads where it got there"),
    (f"failures as {FAILURE}", "the same over all workloads, never getting there counted so"),
    ("seconds saved", "steps saved over the time of a step: geometric mean, as of the steps"),
    (f"failures as {FAILURE}", "the same over all workloads, never getting there counted so"),
    ("got there", "workloads on which it reached tuned AdamW's final loss in the same budget"),
    ("time of a step", "whole training steps, beside tuned AdamW's (fused), measured apart: "
     "geometric mean"),
    ("search", "time of all trials of its grids, on one core: their steps, at the time of a step"),
    ("trainings", "how many it takes to have one good one, by workload: its grid and that one"),
    ("memory", "state of the optimizer beside AdamW's: mean"),
    ("diverged", "seeds, of those that were compared"),
]  # fmt: skip


def _by_contestant(standings: Sequence[Standing]) -> dict[Contestant, list[Standing]]:
    """Standings of those that are compared, not only tuned."""
    found: dict[Contestant, list[Standing]] = {}
    for standing in standings:
        if standing.trials:
            found.setdefault(standing.contestant, []).append(standing)
    return found


def _means(total: Summary) -> list[TableCell]:
    means = (total.successes, total.overall)
    return [TableCell(factor_text(mean), mean) for mean in means]


def _memory(standing: Standing, reference: Standing | None) -> float:
    """Of the optimizer's state, beside the reference's."""
    base = reference.mean("state_bytes") if reference else math.nan
    return standing.mean("state_bytes") / base if base > 0 else math.nan


def _finite(values: Sequence[float]) -> list[float]:
    return list(filter(math.isfinite, values))


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def _rank(value: float | str) -> float:
    return -math.inf if isinstance(value, str) or math.isnan(value) else value
