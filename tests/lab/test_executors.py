"""Processes that train trials: where they run, and what becomes of the others when one dies."""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import labour
import pytest

from untuned.lab.comparison.executors import DiedError, LocalExecutor, available_cores
from untuned.lab.comparison.trials import TrialKey

pytestmark = pytest.mark.integration


def key(name="a"):
    return TrialKey(str(name), "small", "agd", "constant", 1, 20)


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def until(happened, seconds=30):
    for _ in range(10 * seconds):
        if happened():
            return True
        time.sleep(0.1)
    return False


def test_processes_stay_on_cores_of_their_own_with_one_thread(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS")
    with closing(LocalExecutor(2)) as engine:
        told = [future.result() for future in [engine.submit(labour.tell, key()) for _ in "ab"]]
    assert [place["threads"] for place in told] == [1, 1]
    assert told[0]["pid"] != told[1]["pid"]
    if len(available_cores()) > 1 and told[0]["cores"]:
        assert {len(place["cores"]) for place in told} == {1}
        assert told[0]["cores"] != told[1]["cores"]


def test_a_process_that_dies_costs_its_own_cell_alone(tmp_path):
    with closing(LocalExecutor(1)) as engine:
        before = engine.submit(labour.tell, key()).result()
        with pytest.raises(DiedError, match="out of memory"):
            engine.submit(labour.die, key()).result()
        after = engine.submit(labour.die_once, key(tmp_path / "been")).result()
    assert after["pid"] != before["pid"]


def test_closing_ends_what_is_under_way(tmp_path):
    engine = LocalExecutor(1)
    future = engine.submit(labour.sleep, key(tmp_path / "pid"))
    assert until((tmp_path / "pid").exists)
    engine.close()
    assert until(lambda: gone(int((tmp_path / "pid").read_text())))
    with pytest.raises(DiedError):
        future.result()


def test_a_killed_parent_leaves_no_process_behind(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        f"""
import labour
from untuned.lab.comparison.trials import TrialKey
from untuned.lab.comparison.executors import LocalExecutor

if __name__ == "__main__":
    key = TrialKey({str(tmp_path / "pid")!r}, "", "", "", 0, 0)
    LocalExecutor(1).submit(labour.sleep, key).result()
"""
    )
    path = os.pathsep.join([str(Path(labour.__file__).parent), os.environ.get("PYTHONPATH", "")])
    parent = subprocess.Popen([sys.executable, script], env=os.environ | {"PYTHONPATH": path})
    assert until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert until(lambda: gone(int((tmp_path / "pid").read_text())))
