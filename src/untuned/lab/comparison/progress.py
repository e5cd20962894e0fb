"""Training all missing trials, and timing steps, with an executor and a progress bar."""

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any

from rich import progress
from rich.console import Console

from untuned.lab.comparison.executors import Executor, StartError
from untuned.lab.comparison.step_times import StepTimes, Turns, time_steps
from untuned.lab.comparison.trials import LOSS, Trial, TrialKey, Trials, train_trial


def train_missing(
    trials: Trials,
    missing: Callable[[], list[TrialKey]],
    executor: Callable[[], Executor],
    console: Console,
    left: Callable[[], int] | None = None,
    train: Callable[[TrialKey], Trial] = train_trial,
) -> None:
    """Train until no trial is missing; failed ones are tried again.

    Args:
        trials: all that have ended; new ones are appended.
        missing: the trials to train next, evaluated whenever one has ended.
        executor: opens an executor.
        console: for the progress bar.
        left: how many are left in all; None: the missing ones.
        train: from the key of a trial to the trial; picklable.
    """
    trials.forget_failed()
    remaining = left or (lambda: len(missing()))
    if not remaining():
        return
    bar = _Bar(console, len(trials), remaining())
    opened = executor()
    running: dict[Future[Any], TrialKey] = {}
    try:
        with bar.shown:
            while True:
                waiting = (key for key in missing() if key not in running.values())
                for key, _ in zip(waiting, range(opened.slots - len(running)), strict=False):
                    running[opened.submit(train, key)] = key
                    bar.began(key)
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    trial = _trial_of(running.pop(future), future)
                    trials.append(trial)
                    bar.ended(trial, remaining())
    finally:
        opened.close()


def time_untimed(
    times: StepTimes,
    missing: Sequence[Turns],
    executor: Callable[[], Executor],
    console: Console,
) -> None:
    """Time steps, one workload after another; what fails is missing still.

    Args:
        times: all that are measured; new ones are appended.
        missing: who takes turns on each workload.
        executor: opens an executor.
        console: for the progress bar.
    """
    if not missing:
        return
    opened = executor()
    try:
        with _progress(console) as shown:
            for turns in shown.track(missing, description="time of a step"):
                future = opened.submit(time_steps, turns)
                if error := future.exception():
                    text = f"not timed: {turns.workload}: {type(error).__name__}: {error}"
                    console.print(text, markup=False, soft_wrap=True)
                    continue
                for time in future.result():
                    times.append(time)
    finally:
        opened.close()


def _progress(console: Console) -> progress.Progress:
    return progress.Progress(
        progress.SpinnerColumn(), progress.TextColumn("{task.description}"),
        progress.BarColumn(bar_width=18), progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(), progress.TimeRemainingColumn(), console=console,
    )  # fmt: skip


def _trial_of(key: TrialKey, future: Future[Any]) -> Trial:
    """The trial of a future; failed if it has raised."""
    error = future.exception()
    if error is None or isinstance(error, StartError):
        trial: Trial = future.result()
        return trial
    return Trial(key, "failed", error=f"{type(error).__name__}: {error}")


class _Bar:
    """A bar over all trials, and a line for each running one."""

    def __init__(self, console: Console, ended: int, left: int) -> None:
        self._console, self._ended = console, ended
        self.shown = _progress(console)
        self._all = self.shown.add_task("trials", total=ended + left, completed=ended)
        self._lines: dict[TrialKey, progress.TaskID] = {}

    def began(self, key: TrialKey) -> None:
        self._lines[key] = self.shown.add_task(_label(key), total=None)

    def ended(self, trial: Trial, left: int) -> None:
        """Remove its line; print what went wrong, or everything where no bar is shown."""
        self.shown.remove_task(self._lines.pop(trial.key))
        self._ended += 1
        self.shown.update(self._all, completed=self._ended, total=self._ended + left)
        if trial.status != "done" or not self._console.is_terminal:
            text = trial.error or f"loss {trial.last(LOSS):.4g}, {trial.seconds:.1f} s, {left} left"
            self._console.print(
                f"{trial.status}: {_label(trial.key)}: {text}", markup=False, soft_wrap=True
            )


def _label(key: TrialKey) -> str:
    return f"{key.workload}  {key.optimizer}  {key.schedule}  seed {key.seed}"
