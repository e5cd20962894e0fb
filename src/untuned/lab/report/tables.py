"""The tables of a comparison, for the page and for Markdown alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from untuned.lab.comparison import Standing
from untuned.lab.contestants import REFERENCE, Candidate, Contestant
from untuned.lab.measure import FAILURE, geometric_mean, summary

NEVER = "never"
NOTHING = "\u2013"


@dataclass(frozen=True)
class Entry:
    """A cell of a table: what it says, and the number to sort it by."""

    text: str
    value: float | str
    note: str = ""  # small, beneath
    tone: str = ""  # "good", "bad" or none


@dataclass(frozen=True)
class Table:
    """Headings, each with what it means, and rows that begin with a name."""

    headings: list[tuple[str, str]]
    rows: list[list[Entry]] = field(default_factory=list)

    def words(self, column: int) -> bool:
        """Whether a column holds words, not numbers."""
        return any(isinstance(row[column].value, str) for row in self.rows)


def number(value: float, digits: int = 3, unit: str = "") -> Entry:
    """A number as people write it; NaN as a dash."""
    if math.isnan(value):
        return Entry(NOTHING, value)
    if math.isinf(value):
        return Entry("\u221e", value)
    short = f"{value:.{digits}g}"
    if "e" in short and 1e-4 <= abs(value) < 1e7:
        short = f"{value:.0f}"
    return Entry(short + unit, value)


def times(value: float) -> str:
    """A factor: 0.97, 1.80, 12.3."""
    return NOTHING if math.isnan(value) else f"{value:.2f}" if value < 10 else f"{value:.3g}"


def size(count: float) -> Entry:
    """Bytes, in the unit that suits."""
    if math.isnan(count):
        return Entry(NOTHING, count)
    power = min(int(math.log10(max(count, 1)) // 3), 3)
    return Entry(f"{count / 1000**power:.3g} {('B', 'kB', 'MB', 'GB')[power]}", count)


def as_used(candidate: Candidate) -> str:
    """Its text, and its schedule if it has one."""
    decays = candidate.schedule != "constant"
    return f"{candidate.optimizer}, {candidate.schedule}" if decays else candidate.optimizer


def signed(gap: float) -> str:
    """A difference with its sign; nothing where there is none."""
    if not math.isfinite(gap) or gap == 0:
        return ""
    return f"{gap:+.2g}".replace("-", "\u2212")


def reduction(standing: Standing) -> Entry:
    """Its factor, and the final loss beside the reference's."""
    gap = signed(standing.gap)
    value = standing.reduction
    if math.isnan(value):
        return Entry(NOTHING, value, gap)
    if value == 0:
        return Entry(NEVER, 0.0, gap or "diverged", "bad")
    if standing.contestant.name == REFERENCE:
        return Entry(times(value), value, gap)
    return Entry(times(value), value, gap, "good" if value >= 1 else "")


def overview(standings: Sequence[Standing]) -> Table:
    """A row for each contestant, best first: the table that the page opens with."""
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
    ])  # fmt: skip
    reference = {s.task: s for s in standings if s.contestant.name == REFERENCE}
    for contestant, own in _by_contestant(standings).items():
        total = summary([s.reduction for s in own])

        def beside(name: str, own: list[Standing] = own) -> list[float]:
            ratios = [_ratio(s.mean(name), reference.get(s.task), name) for s in own]
            return [ratio for ratio in ratios if math.isfinite(ratio)]

        memory = beside("state_bytes")
        cells = sum(len(s.cells) for s in own)
        gone = sum(s.count("diverged") + s.count("failed") for s in own)
        trainings = sum(s.trainings for s in own) / len(own)
        table.rows.append([
            Entry(contestant.name, contestant.name, "tuned" if contestant.tuned else ""),
            Entry(times(total.successes), total.successes),
            Entry(times(total.overall), total.overall),
            Entry(f"{total.workloads - total.failures} of {total.workloads}",
                  (total.workloads - total.failures) / max(total.workloads, 1)),
            number(trainings),
            _factor(geometric_mean([ratio for ratio in beside("ms_per_step") if ratio > 0])),
            _factor(math.fsum(memory) / len(memory) if memory else math.nan),
            Entry(f"{gone} of {cells}", gone / max(cells, 1), tone="bad" if gone else ""),
        ])  # fmt: skip
    table.rows.sort(key=lambda row: _rank(row[2].value), reverse=True)
    return table


def matrix(standings: Sequence[Standing], names: Sequence[str]) -> Table:
    """Step reductions by workload and contestant, in the order given; gaps beneath."""
    table = Table(
        [("workload", ""), *((name, "steps saved; beneath, final loss") for name in names)]
    )
    rows: dict[str, dict[str, Standing]] = {}
    for standing in standings:
        rows.setdefault(standing.task.workload, {})[standing.contestant.name] = standing
    for workload, row in rows.items():
        entries = [reduction(row[n]) if n in row else Entry(NOTHING, math.nan) for n in names]
        table.rows.append([Entry(workload, workload), *entries])
    return table


def details(standings: Sequence[Standing]) -> Table:
    """One workload: a row for each contestant, least final loss first."""
    metric = next((c.metric_name for s in standings for c in s.cells if c.metric_name), "metric")
    table = Table([
        ("optimizer", ""), ("as used", "the winner of its grid, where it is tuned"),
        ("validation loss", "at the end, mean over seeds"), (metric, "at the end, mean over seeds"),
        ("steps saved", "beside tuned AdamW"), ("steps", "to tuned AdamW's final loss"),
        ("ms a step", ""), ("state", "of the optimizer, beside the weights"),
        ("seeds", "done, of those begun"),
    ])  # fmt: skip
    for s in sorted(standings, key=lambda s: math.inf if math.isnan(s.loss) else s.loss):
        used = as_used(s.chosen) if s.chosen else "still being tuned"
        ended = s.count("done")
        steps = Entry(NEVER, math.inf, tone="bad") if math.isinf(s.steps) else number(s.steps, 4)
        table.rows.append([
            Entry(s.contestant.name, s.contestant.name), Entry(used, used),
            number(s.loss, 4), number(s.metric, 4), Entry(*_plain(reduction(s))), steps,
            number(s.mean("ms_per_step")), size(s.mean("state_bytes")),
            Entry(f"{ended} of {len(s.cells)}", ended, tone="" if ended == len(s.cells) else "bad"),
        ])  # fmt: skip
    return table


def _plain(entry: Entry) -> tuple[str, float | str, str, str]:
    return entry.text, entry.value, "", entry.tone


def _by_contestant(standings: Sequence[Standing]) -> dict[Contestant, list[Standing]]:
    """Those that have been compared at all."""
    found: dict[Contestant, list[Standing]] = {}
    for standing in standings:
        if standing.cells:
            found.setdefault(standing.contestant, []).append(standing)
    return found


def _ratio(value: float, reference: Standing | None, name: str) -> float:
    base = reference.mean(name) if reference else math.nan
    return value / base if base > 0 else math.nan


def _factor(value: float) -> Entry:
    return Entry(times(value) + ("" if math.isnan(value) else "\u00d7"), value)


def _rank(value: float | str) -> float:
    return -math.inf if isinstance(value, str) or math.isnan(value) else value


def markdown(table: Table, say: Callable[[Entry], str] = lambda entry: entry.text) -> str:
    """As Markdown writes tables; names to the left, numbers to the right."""
    heads = [heading for heading, _ in table.headings]
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)]]
    lines += [[say(entry).replace("|", "\\|") for entry in row] for row in table.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
