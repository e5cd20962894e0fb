"""The page of reproductions, from the trials in docs/results/reproductions.

python website/reproductions.py                  # write the page, its pictures and evidence.json
python website/reproductions.py CELLS.jsonl ...  # add the trials of these files, then write

Each experiment has NAME.jsonl there: its trials, at either size. On the page this program writes
what stands between `<!-- begin ... -->` and `<!-- end ... -->`; the words around are by hand. In a
table at size small a row without a trial stays as it is.
"""

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from untuned.lab.comparison.trials import Trial, TrialKey, Trials
from untuned.lab.config import Size
from untuned.lab.programs.reproduce import EXPERIMENTS
from untuned.lab.report.table import Table
from untuned.lab.reproduce import evidence
from untuned.lab.reproduce.evidence import Evidence, evidence_of
from untuned.lab.reproduce.experiment import Experiment
from untuned.lab.reproduce.overview import (
    Rows,
    auto_table,
    claims_table,
    merged_table,
    published_table,
    rows_of,
)
from untuned.lab.reproduce.plots import draw_results
from untuned.lab.reproduce.results import Results

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "reproductions.md"
FOLDER = DOCS / "results" / "reproductions"
TIMES = FOLDER / "steps.json"
REGION = re.compile(r"(<!-- begin (.+?) -->\n)(.*?)(<!-- end \2 -->)", re.DOTALL)
CONSOLE = Console(highlight=False)

Committed = Mapping[str, Mapping[TrialKey, Trial]]  # trials by experiment


def committed() -> dict[str, Trials]:
    return {name: Trials(FOLDER / f"{name}.jsonl") for name in EXPERIMENTS}


@cache
def keys_of(size: Size) -> dict[str, frozenset[TrialKey]]:
    """The trials of each experiment."""
    every = {name: Results(e, size, {}).keys().values() for name, e in EXPERIMENTS.items()}
    return {name: frozenset(itertools.chain(*keys)) for name, keys in every.items()}


def homes(key: TrialKey) -> list[str]:
    """The experiments that have a trial of this length; else those of which it is a shorter one."""
    exact, shorter = [], []
    for name, own in keys_of("small" if key.size == "small" else "full").items():
        if key in own:
            exact.append(name)
        elif any(key == other._replace(steps=min(key.steps, other.steps)) for other in own):
            shorter.append(name)
    return exact or shorter


def add(path: Path, to: Mapping[str, Trials]) -> None:
    """Add the trials of a file to all experiments that have them."""
    for key, trial in Trials(path).items():
        found = [] if trial.status == "failed" else homes(key)
        if not found:
            CONSOLE.print(f"left out: {key}: {trial.error or 'no experiment has it'}")
        for name in found:
            to[name].adopt({key: trial})


def times() -> evidence.Milliseconds:
    """Of steps, by benchmarks/paper_steps.py."""
    read: evidence.Milliseconds = json.loads(TIMES.read_text(encoding="utf-8"))
    return read


def evidences(trials: Committed) -> dict[str, Evidence]:
    return {
        name: evidence_of(Results(e, "full", trials[name]), times())
        for name, e in EXPERIMENTS.items()
    }


def page(text: str, trials: Committed) -> str:
    """The page with all its regions written anew."""
    every = [Results(e, "full", trials[name]) for name, e in EXPERIMENTS.items()]
    found = evidences(trials)

    def written(region: re.Match[str]) -> str:
        name, _, size = region[2].partition(" ")
        if name == "published":
            inside = to_the_left(published_table(every, times()))
        elif name == "claims":
            inside = to_the_left(claims_table(every))
        elif name == "memory":
            inside = memory().markdown()
        elif name == "auto":
            return region[0]  # it follows from the tables at size small, once they are written
        elif size == "full":
            inside = full(Results(EXPERIMENTS[name], "full", trials[name]), found[name])
        else:
            inside = small(Results(EXPERIMENTS[name], "small", trials[name]), region[3])
        return f"{region[1]}{inside.strip()}\n{region[4]}"

    text = REGION.sub(written, text)
    auto = to_the_left(auto_table(smalls(text)))
    return re.sub(
        r"(<!-- begin auto -->\n).*?(<!-- end auto -->)", rf"\1{auto}\2", text, flags=re.S
    )


def smalls(text: str) -> Iterator[tuple[Experiment, Rows]]:
    """The tables of a page at size small."""
    for region in REGION.finditer(text):
        name, _, size = region[2].partition(" ")
        if size == "small":
            yield EXPERIMENTS[name], rows_of(region[3])


def memory() -> Table:
    """Optimizer state on Nero's networks, by benchmarks/paper_memory.py."""
    read = json.loads((FOLDER / "memory.json").read_text(encoding="utf-8"))
    labels = next(iter(read.values()))
    texts = [[f"`{workload}`", *(f"{sizes[each] / 1e6:.3g}" for each in labels)]
             for workload, sizes in read.items()]  # fmt: skip
    return Table.of(["MB", *labels], texts)


def to_the_left(table: Table) -> str:
    """With all columns to the left."""
    return table.markdown().replace("---:", "---")


def full(results: Results, state: Evidence) -> str:
    """What an experiment is, how far it has been run at full size, its table and picture."""
    e = results.experiment
    parts = [
        f"{e.figure[0].upper()}{e.figure[1:]}: {e.about}. {e.note}".strip(),
        f"**Full size:** {e.full.extent}. Needs {e.full.needs}. State: {state.told}.",
    ]
    if any(row.trials for row in results.rows()):
        rows = [row.name for row in results.rows() if row.trials or row.name in e.published]
        table = results.table()
        kept = [row for row in table.rows if row[0].text in rows]
        parts += [e.measure.heading, Table(table.headings, kept).markdown().rstrip()]
        parts += [f"![{e.about}: {e.measure.name}, full size](results/reproductions/{e.name}.png)"]
        parts += results.notes()
    elif e.published:
        parts += results.notes()
    return "\n\n".join(parts)


def small(results: Results, old: str) -> str:
    """What an experiment needs at size small, and its table."""
    e = results.experiment
    head = f"**Small:** {e.small.extent}. Needs {e.small.needs}."
    table = merged_table(results, rows_of(old))
    return f"{head} {e.measure.heading}\n\n{table.markdown()}" if table.rows else f"{head} Not run."


def main(cells: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()) -> None:
    """Add trials, then write everything that follows from them.

    Args:
        cells: files of trials.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    trials = committed()
    for path in cells:
        add(path, trials)
    told = {name: state._asdict() for name, state in evidences(trials).items()}
    evidence.EVIDENCE.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), trials), encoding="utf-8")
    for name, e in EXPERIMENTS.items():
        draw_results(Results(e, "full", trials[name]), FOLDER / f"{name}.png")


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
