"""Tables over all experiments: published numbers, and claims in words; and rows of former tables.

`python website/reproductions.py` puts them on the page of reproductions.
"""

import math
import re
from collections.abc import Iterable, Mapping

from untuned.lab.report.table import NOTHING, Table
from untuned.lab.reproduce.evidence import Milliseconds, hours_of, in_words
from untuned.lab.reproduce.experiment import Experiment
from untuned.lab.reproduce.results import Results
from untuned.lab.reproduce.rows import verdict

OURS = "ours, mean and range"
ALWAYS = ("", "published", OURS, "verdict")  # columns of every table

Rows = Mapping[str, Mapping[str, str]]  # by their name, each by the headings


def published_table(every: Iterable[Results], times: Milliseconds) -> Table:
    """All published numbers beside ours.

    Args:
        every: experiment at full size.
        times: of steps, for rows that have not been run.
    """
    texts = []
    for results in every:
        e = results.experiment
        for row in results.rows():
            if row.name in e.published:
                said = ", ".join(f"{v:g}" for v in e.published[row.name].values)
                judged = verdict(e.published[row.name], row.mean)
                shown = judged if row.trials else _needs(results, row.name, times)
                texts.append([_link(e.name), row.name, said, row.spread, row.trained, shown])
    return Table.of(["experiment", "row", "published", OURS, "trained", "verdict"], texts)


def claims_table(every: Iterable[Results]) -> Table:
    """What the papers say in words, and the findings.

    Args:
        every: experiment at full size.
    """
    texts = []
    for results in every:
        found, name = results.findings(), _link(results.experiment.name)
        texts += [[name, c.said, found.get(c.said, "not run")] for c in results.experiment.claims]
    return Table.of(["experiment", "the paper says", "ours, at full size"], texts)


def merged_table(results: Results, before: Rows) -> Table:
    """The table of an experiment; rows that no trial tells stay as they are.

    Args:
        results: of the experiment.
        before: rows of the former table; a fresh row may have its baseline among them.
    """
    e, fresh = results.experiment, results.table()
    headings = list(dict.fromkeys(
        [*next(iter(before.values()), {}), *(title for title, _ in fresh.headings)]
    ))  # fmt: skip
    texts = []
    for row, cells in zip(results.rows(), fresh.rows, strict=True):
        new = {title: cell.text for (title, _), cell in zip(fresh.headings, cells, strict=True)}
        shown = dict.fromkeys(headings, NOTHING) | new
        compared = f"{row.line.panel}, {e.baseline}".removeprefix(", ")
        baseline = before.get(compared, {})
        if not row.trials:
            shown = {title: before.get(row.name, shown).get(title, NOTHING) for title in headings}
        elif shown["verdict"] == NOTHING and OURS in baseline and row.name != compared:
            base = _leading(baseline[OURS])
            shown["verdict"] = verdict(None, row.mean, base) if math.isfinite(base) else NOTHING
        if shown[OURS] != "not run":
            texts.append([shown[title] for title in headings])
    columns = {title: [row[i] for row in texts] for i, title in enumerate(headings)}
    told = {
        title: each for title, each in columns.items() if title in ALWAYS or {*each} - {NOTHING}
    }
    return Table.of(told, zip(*told.values(), strict=True))


def auto_table(tables: Iterable[tuple[Experiment, Rows]]) -> Table:
    """Auto beside the best of the others, which were tuned where there is a grid.

    Args:
        tables: of experiments at size small; those that compare sizes of networks are left out.
    """
    texts = []
    for e, told in tables:
        rows = [row for row in Results(e, "small", {}).rows() if row.name in told and not e.each]
        values = {row.name: _leading(told[row.name][OURS]) for row in rows}
        for auto in rows:
            others = {
                row.name: values[row.name] for row in rows
                if row.line.panel == auto.line.panel and not row.line.label.startswith("Auto")
                and math.isfinite(values[row.name])
            }  # fmt: skip
            if auto.line.label != "Auto" or not others:
                continue
            best = (max if e.measure.more else min)(others, key=others.__getitem__)
            gap = values[auto.name] - others[best]
            ahead = gap > 0 if e.measure.more else gap < 0
            name = f"{auto.line.panel}: {e.measure.name}".removeprefix(": ")
            label = best.removeprefix(f"{auto.line.panel}, ")
            shown = f"{values[auto.name]:g}", f"{others[best]:g}", label
            texts.append([_link(e.name), name, *shown, "ahead" if ahead else "behind"])
    heads = ["experiment", "measure", "Auto", "best of the others", "which is", "Auto is"]
    return Table.of(heads, texts)


def _leading(text: str) -> float:
    """The number that a cell begins with."""
    found = re.match(r"-?[\d.]+", text)
    return float(found[0]) if found else math.nan


def rows_of(text: str) -> Rows:
    """The rows of a Markdown table."""
    lines = [[cell.strip() for cell in line.strip("|").split(" |")]
             for line in text.splitlines() if line.startswith("|")]  # fmt: skip
    return {row[0]: dict(zip(lines[0], row, strict=True)) for row in lines[2:]}


def _needs(results: Results, row: str, times: Milliseconds) -> str:
    """What a row of the table takes that has not been run."""
    e = results.experiment
    keys = [key for line, own in results.keys().items() if e.row_of(line) == row for key in own]
    hours = hours_of(keys, results.trials, times)
    return f"needs {e.full.needs}" + (f"; {in_words(hours)}" if math.isfinite(hours) else "")


def _link(name: str) -> str:
    return f"[{name}](#{name})"
