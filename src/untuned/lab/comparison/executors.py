"""Executors of trials: processes of this machine (POSIX), a Ray cluster, or this process.

An executor takes a function and a key, and returns a future. A process that dies (killed, out of
memory) costs its trial alone, which is tried again in a new process before it raises `DiedError`.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker
from queue import SimpleQueue
from typing import Any, Protocol

Work = Callable[[Any], Any]  # from a key

TRIES = 2


class DiedError(RuntimeError):
    """The process of a trial died, at each of its tries."""


class StartError(RuntimeError):
    """No process could be started; not the fault of a trial."""


class Executor(Protocol):
    """Runs up to `slots` trials at a time."""

    slots: int

    def submit(self, work: Work, key: Any) -> Future[Any]:
        """Start a trial.

        Args:
            work: the training; picklable.
            key: its argument; picklable.
        """

    def close(self) -> None:
        """End all processes; running trials are lost."""


class InProcess(Executor):
    """This process, as one of several that train each trial together."""

    slots = 1

    def submit(self, work: Work, key: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(work(key))
        return future

    def close(self) -> None: ...


class LocalExecutor(Executor):
    """Processes of this machine, each pinned to a core and with one thread."""

    def __init__(self, jobs: int | None = None) -> None:
        cores = available_cores()
        self.slots: int = jobs or len(cores)
        self._workers = [_Worker(i, cores[i % len(cores)]) for i in range(self.slots)]
        self._free: SimpleQueue[_Worker] = SimpleQueue()
        for worker in self._workers:
            self._free.put(worker)
        # Processes inherit the signal mask of these threads: Ctrl-C reaches this process alone, and
        # it ends them in `close`. (Starting the resource tracker would unblock the signal.)
        resource_tracker.ensure_running()
        mask = signal.SIG_BLOCK, {signal.SIGINT}
        self._threads = ThreadPoolExecutor(
            self.slots, initializer=signal.pthread_sigmask, initargs=mask
        )

    def submit(self, work: Work, key: Any) -> Future[Any]:
        return self._threads.submit(self._run, work, key)

    def _run(self, work: Work, key: Any) -> Any:
        worker = self._free.get()
        try:
            return worker.run(work, key)
        finally:
            self._free.put(worker)

    def close(self) -> None:
        for worker in self._workers:
            worker.close()
        self._threads.shutdown()


class _Worker:
    """A process that runs one trial after another, and is replaced if it dies."""

    def __init__(self, number: int, core: int) -> None:
        self._settings = (number, core)
        self._closed = self._busy = False
        self._executor: ProcessPoolExecutor | None = None
        self._pid: int | None = None

    def run(self, work: Work, key: Any) -> Any:
        self._busy = True
        try:
            for _ in range(TRIES):
                executor = self._executor or self._start()
                try:
                    return executor.submit(work, key).result()
                except BrokenProcessPool:
                    self._executor = self._pid = None
                    if self._closed:
                        break
        finally:
            self._busy = False
        raise DiedError("its process died, again and again; was it killed, or out of memory?")

    def _start(self) -> ProcessPoolExecutor:
        self._executor = ProcessPoolExecutor(
            max_workers=1, mp_context=multiprocessing.get_context("spawn"),
            initializer=_initialize, initargs=self._settings,
        )  # fmt: skip
        try:
            self._pid = self._executor.submit(os.getpid).result()
        except BrokenProcessPool as error:
            self._executor = None
            raise StartError("no process could be started; see its error above") from error
        if self._closed:
            self._kill()
        return self._executor

    def close(self) -> None:
        """End the process, or kill it if it is busy; one that is starting dies once it has."""
        self._closed = True
        if self._busy:
            self._kill()
        if self._executor is not None:
            self._executor.shutdown()

    def _kill(self) -> None:
        if self._pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)


def available_cores() -> list[int]:
    """Cores that this process may use; their count where processes cannot be pinned."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _initialize(number: int, core: int) -> None:
    """Pin a new process to its core and its GPU, and end it with its parent."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    os.environ["OMP_NUM_THREADS"] = "1"  # for libraries that are loaded later
    import torch

    torch.set_num_threads(1)
    if gpus := torch.cuda.device_count():
        visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(gpus)))
        os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[number % gpus]


def _end_with_parent() -> None:
    """A killed parent cannot close its processes."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class RayExecutor(Executor):
    """A Ray cluster.

    Args:
        jobs: trials at a time; None: one per CPU.
        address: of the cluster; None: one on this machine that ends with the comparison.
    """

    def __init__(self, jobs: int | None = None, address: str | None = None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray

        self._ray = ray
        ray.init(address=address, num_cpus=None if address else jobs, log_to_driver=False)
        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        self.slots: int = jobs or int(resources["CPU"])
        gpus = min(1.0, resources.get("GPU", 0) / self.slots)
        self._remote = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=TRIES - 1)(_one_thread)

    def submit(self, work: Work, key: Any) -> Future[Any]:
        future: Future[Any] = self._remote.remote(work, key).future()
        return future

    def close(self) -> None:
        self._ray.shutdown()


def _one_thread(work: Work, key: Any) -> Any:
    import torch

    torch.set_num_threads(1)
    return work(key)
