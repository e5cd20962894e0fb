"""Where the cells of a comparison run: processes of this machine (POSIX), or a Ray cluster.

An engine takes a function and a key and hands back a future. What the function raises, the future
raises. A process that dies (killed, out of memory) costs its own cell alone, which is tried once
more elsewhere before `DiedError` is all that comes of it.
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

from untuned.lab.cells import Key

Result = dict[str, Any]
Work = Callable[[Key], Result]

TRIES = 2


class DiedError(RuntimeError):
    """The process that ran a cell died, as often as it was tried."""


class StartError(RuntimeError):
    """Processes cannot be started here; no cell is to blame."""


class Engine(Protocol):
    """Runs cells, as many at a time as it has slots."""

    slots: int

    def submit(self, work: Work, key: Key) -> Future[Result]:
        """Begin a cell; `slots` of them may be under way."""

    def close(self) -> None:
        """Let go of all processes; cells under way are lost."""


class Local:
    """Processes of this machine, each on a core of its own and with one thread."""

    slots: int

    def __init__(self, jobs: int | None = None) -> None:
        cores = available_cores()
        self.slots = jobs or len(cores)
        self._workers = [Worker(i, cores[i % len(cores)]) for i in range(self.slots)]
        self._free: SimpleQueue[Worker] = SimpleQueue()
        for worker in self._workers:
            self._free.put(worker)
        # What these threads start is deaf to Ctrl-C from its first moment: `close` ends it. (The
        # tracker is there before them, for starting it gives a thread its hearing back.)
        resource_tracker.ensure_running()
        deaf = signal.SIG_BLOCK, {signal.SIGINT}
        self._threads = ThreadPoolExecutor(
            self.slots, initializer=signal.pthread_sigmask, initargs=deaf
        )

    def submit(self, work: Work, key: Key) -> Future[Result]:
        """Hand the cell to a free process."""
        return self._threads.submit(self._run, work, key)

    def _run(self, work: Work, key: Key) -> Result:
        worker = self._free.get()
        try:
            return worker.run(work, key)
        finally:
            self._free.put(worker)

    def close(self) -> None:
        """Kill the processes."""
        for worker in self._workers:
            worker.close()
        self._threads.shutdown()


class Worker:
    """A process that runs one cell after another, and is replaced if it dies."""

    def __init__(self, number: int, core: int) -> None:
        self._settings = (number, core)
        self._closed = self._busy = False
        self._executor: ProcessPoolExecutor | None = None
        self._pid: int | None = None

    def run(self, work: Work, key: Key) -> Result:
        """What came of the cell, or what it raised."""
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
            max_workers=1,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_settle,
            initargs=self._settings,
        )
        try:
            self._pid = self._executor.submit(os.getpid).result()
        except BrokenProcessPool as error:
            self._executor = None
            raise StartError("no process could be started; see its error above") from error
        if self._closed:
            self._kill()
        return self._executor

    def close(self) -> None:
        """Let the process end, or kill it at its work; one that only starts dies once it has."""
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
    """Those that this process may use; systems that cannot pin processes say how many there are."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _settle(number: int, core: int) -> None:
    """Make a new process stay on its core and its GPU, and end with its parent."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    os.environ["OMP_NUM_THREADS"] = "1"  # for libraries that are still to be loaded
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


class Ray:
    """A Ray cluster: that of an address, or one on this machine that ends with the comparison."""

    slots: int

    def __init__(self, jobs: int | None = None, address: str | None = None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray

        self._ray = ray
        ray.init(address=address, num_cpus=None if address else jobs, log_to_driver=False)
        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        self.slots = jobs or int(resources["CPU"])
        gpus = min(1.0, resources.get("GPU", 0) / self.slots)
        self._remote = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=TRIES - 1)(_one_thread)

    def submit(self, work: Work, key: Key) -> Future[Result]:
        """Hand the cell to the cluster."""
        future: Future[Result] = self._remote.remote(work, key).future()
        return future

    def close(self) -> None:
        """Leave the cluster; what runs there for us is stopped."""
        self._ray.shutdown()


def _one_thread(work: Work, key: Key) -> Result:
    import torch

    torch.set_num_threads(1)
    return work(key)
