"""Several processes end where one does: DDP, FSDP2, HSDP, tensor parallelism, every geometry."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ranks import Result

HERE = Path(__file__).parent
pytestmark = pytest.mark.integration


def launch(script: str, processes: int, *arguments: str) -> None:
    """Run a script of this folder as so many processes."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(launcher if processes > 1 else []), str(HERE / script)]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]


def outcomes(folder: Path, processes: int) -> dict[tuple[str, str], Result]:
    """What each case and rule came to."""
    launch("ranks.py", processes, str(folder))
    results = torch.load(folder / f"{processes}.pt", weights_only=True)
    return {key: Result(*result) for key, result in results.items()}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return outcomes(tmp_path_factory.mktemp("ranks"), 1)


@pytest.mark.parametrize("processes", [2, 4])
def test_several_processes_end_where_one_does_with_two_collectives_a_step(
    processes, alone, tmp_path
):
    found = outcomes(tmp_path, processes)
    assert len(found) > 30
    for (case, rule), result in found.items():
        expected = alone[case.split(",")[0], rule]
        label = f"{case}, {rule}"
        assert 0 < result.collectives <= 2 or "copies" in label, label
        for ours, theirs in zip(result.weights, expected.weights, strict=True):
            torch.testing.assert_close(
                ours, theirs, rtol=1e-9, atol=1e-9, msg=lambda m, at=label: f"{at}: {m}"
            )
        for floors, others in zip(result.hyperparameters, expected.hyperparameters, strict=True):
            assert [pytest.approx(floor, rel=1e-9) for floor in others] == floors, label


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """What one process, and two, saved after 5 steps; and where 10 steps lead."""
    folder = tmp_path_factory.mktemp("saved")
    launch("ranks_saved.py", 1, str(folder), "save", "straight")
    straight = torch.load(folder / "results-1.pt", weights_only=True)
    launch("ranks_saved.py", 2, str(folder), "save")
    return folder, {rule: weights for (_, rule), weights in straight.items()}


@pytest.mark.parametrize("processes", [1, 2])
def test_checkpoints_of_one_or_two_processes_go_on_in_one_or_two(processes, saved):
    folder, straight = saved
    tasks = [f"load:{source}:{kind}" for source in (1, 2) for kind in ("whole", "sharded", "flat")]
    launch("ranks_saved.py", processes, str(folder), *tasks)
    found = torch.load(folder / f"results-{processes}.pt", weights_only=True)
    assert len(found) == len(tasks) * len(straight)
    for (task, rule), weights in found.items():
        for ours, theirs in zip(weights, straight[rule], strict=True):
            torch.testing.assert_close(
                ours, theirs, rtol=1e-9, atol=1e-9, msg=lambda m, at=f"{task}, {rule}": f"{at}: {m}"
            )
