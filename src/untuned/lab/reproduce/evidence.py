"""How far experiments have been run at full size: from committed trials, told without them.

`python website/reproductions.py` writes evidence.json beside this file; a test holds it to the
trials in docs/results/reproductions.
"""

import json
import math
import statistics
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from untuned.lab.comparison.trials import Trial, TrialKey
from untuned.lab.reproduce.experiment import MOST_NAMED
from untuned.lab.reproduce.results import Results

EVIDENCE = Path(__file__).with_name("evidence.json")
# Of a step at full size, by workload and optimizer
Milliseconds = Mapping[str, Mapping[str, float]]


class Evidence(NamedTuple):
    """The state of an experiment at full size."""

    done: str  # "done", "not run", or the rows that are done and those that are missing
    hours: float | None  # of two cores, for all of it; None: its steps have not been measured
    measured: bool  # whether all of it has been trained; else hours are estimated

    @property
    def told(self) -> str:
        """For the list of experiments."""
        if self.hours is None:
            return f"{self.done}; hours not measured"
        how = "measured" if self.measured else "estimated from measured steps"
        return f"{self.done}; {in_words(self.hours)}, {how}"


def in_words(hours: float) -> str:
    """Hours of two cores; two digits of few."""
    return f"{f'{hours:,.0f}' if hours >= 10 else f'{hours:.2g}'} hours of two cores"


@cache
def committed() -> dict[str, Evidence]:
    """The evidence that comes with the library, by experiment."""
    read = json.loads(EVIDENCE.read_text(encoding="utf-8"))
    return {name: Evidence(**fields) for name, fields in read.items()}


def evidence_of(results: Results, times: Milliseconds) -> Evidence:
    """From an experiment's trials at full size.

    Args:
        results: of the experiment.
        times: of steps, where there is no trial to tell.
    """
    keys = {key for each in results.keys().values() for key in each}
    trials = {trial.key: trial for each in results.trained().values() for trial in each}
    hours = hours_of(keys, trials, times)
    finite = round(hours, 3) if math.isfinite(hours) else None
    return Evidence(_state(results), finite, keys <= trials.keys())


def hours_of(
    keys: Iterable[TrialKey], trials: Mapping[TrialKey, Trial], times: Milliseconds
) -> float:
    """Of two cores, for some trials; NaN where their steps have not been measured.

    Args:
        keys: of the trials.
        trials: those that have ended, which tell their own time and that of their like.
        times: of steps.
    """
    return math.fsum(_hours(key, trials, times) for key in keys) / 2  # cores


def _hours(key: TrialKey, trials: Mapping[TrialKey, Trial], times: Milliseconds) -> float:
    """Of one core: from the trial, from trials of its like, or from measured steps; else NaN."""
    if key in trials:
        return trials[key].seconds / 3600
    like = [trial.ms_per_step for other, trial in trials.items()
            if (other.workload, other.optimizer) == (key.workload, key.optimizer)]  # fmt: skip
    return key.steps * (statistics.fmean(like) if like else _ms(key, times)) / 3.6e6


def _ms(key: TrialKey, times: Milliseconds) -> float:
    """Of a step; an optimizer that has not been measured counts as the slowest but Auto.

    A variant of a network, such as with other images, takes as long as the network.
    """
    measured = times.get(key.workload) or times.get(key.workload.rpartition("-")[0], {})
    if key.optimizer in measured:
        return measured[key.optimizer]
    others = [ms for name, ms in measured.items() if name != "auto"]
    return max(others) if others and key.optimizer != "auto" else math.nan


def _state(results: Results) -> str:
    """Done, or which rows are done, shorter than published, in part or not at all there."""
    kinds: dict[str, list[str]] = {"done": [], "shorter": [], "in part": [], "missing": []}
    after = {row.name: row.after for row in results.rows()}
    for name, counts in _counts(results).items():
        if not any(ended for ended, _ in counts):
            kinds["missing"].append(name)
        elif any(ended < wanted for ended, wanted in counts):
            kinds["in part"].append(name)
        elif after[name]:
            kinds["shorter"].append(f"{name} ({after[name]})")
        else:
            kinds["done"].append(name)
    for kind, whole in (("done", "done"), ("missing", "not run")):
        if len(kinds[kind]) == len(after):
            return whole
    if len(kinds["missing"]) > MOST_NAMED:
        kinds["missing"] = [f"the other {len(kinds['missing'])} rows"]
    told = [f"{kind}: {'; '.join(names)}" for kind, names in kinds.items() if names]
    return f"part done ({'. '.join(told)})"


def _counts(results: Results) -> dict[str, list[tuple[int, int]]]:
    """Of each line of a row: how many trials have ended, and how many are wanted."""
    scale = results.experiment.at(results.size)
    found: dict[str, list[tuple[int, int]]] = {}
    for line, trials in results.trained().items():
        counts = found.setdefault(results.experiment.row_of(line), [])
        counts.append((len(trials), scale.seeds_of(line)))
    return found
