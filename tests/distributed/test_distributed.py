"""Several processes end where one does: DDP, FSDP2, HSDP, tensor parallelism, every geometry."""

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

import untuned
from support.networks import perceptron, train
from support.pages import code_of
from support.ranks import inputs
from support.ranks.saved import RULES
from support.ranks.trained import Result

pytestmark = pytest.mark.integration


def outcomes(ranks, processes: int) -> dict[tuple[str, str], Result]:
    """What each case and rule came to."""
    return {key: Result(*result) for key, result in ranks("spread:main", processes)[0].items()}


@pytest.fixture(scope="module")
def alone(ranks):
    return outcomes(ranks, 1)


@pytest.mark.parametrize("processes", [2, 4])
def test_several_processes_end_where_one_does_with_two_collectives_a_step(processes, alone, ranks):
    found = outcomes(ranks, processes)
    assert len(found) > 30
    for (case, rule), result in found.items():
        expected = alone[case.split(",")[0], rule]
        label = f"{case}, {rule}"
        most = 3 if "summands" in case and rule.startswith("nero") else 2
        if rule == "auto":  # matrices travel to their owners and back, by group; once also boxes
            most += 4 * len(result.hyperparameters)
        if case.endswith("copies"):  # every rank takes the whole step
            assert result.collectives == 0, label
        else:
            assert 0 < result.collectives <= most, label
        for ours, theirs in zip(result.weights, expected.weights, strict=True):
            torch.testing.assert_close(
                ours, theirs, rtol=1e-9, atol=1e-9, msg=lambda m, at=label: f"{at}: {m}"
            )
        for floors, others in zip(result.hyperparameters, expected.hyperparameters, strict=True):
            assert [pytest.approx(floor, rel=1e-9) for floor in others] == floors, label


@pytest.fixture(scope="module")
def saved(ranks, tmp_path_factory):
    """What one process, and two, saved after 5 steps; and where 10 steps lead."""
    folder = tmp_path_factory.mktemp("saved")
    (alone,) = ranks("saved:main", 1, str(folder), "save", "straight", "initialise")
    both, _ = ranks("saved:main", 2, str(folder), "save", "initialise")
    return Saved(folder, alone, both)


class Saved(NamedTuple):
    """A folder of checkpoints, and the weights that each task of one and two processes came to."""

    folder: Path
    alone: dict[tuple[str, str], list[torch.Tensor]]
    both: dict[tuple[str, str], list[torch.Tensor]]


def test_sharded_networks_are_initialised_as_the_first_process_would(saved):
    tasks = [key for key in saved.alone if key[0] == "initialise"]
    assert tasks
    for key in tasks:
        torch.testing.assert_close(saved.both[key], saved.alone[key], rtol=0, atol=0)


@pytest.mark.parametrize("processes", [1, 2])
def test_checkpoints_of_one_or_two_processes_go_on_in_one_or_two(processes, saved, ranks):
    tasks = [f"load:{source}:{kind}" for source in (1, 2) for kind in ("whole", "sharded", "flat")]
    found = ranks("saved:main", processes, str(saved.folder), *tasks)[0]
    assert len(found) == len(tasks) * len(RULES)
    for (task, rule), weights in found.items():
        for ours, theirs in zip(weights, saved.alone["straight", rule], strict=True):
            torch.testing.assert_close(
                ours, theirs, rtol=1e-9, atol=1e-9, msg=lambda m, at=f"{task}, {rule}": f"{at}: {m}"
            )


@pytest.fixture(scope="module")
def shares(ranks):
    return ranks("shares:main", 2)[0]


@pytest.mark.parametrize("way", ["zero", "fsdp1", "fsdp1, flat"])
def test_shares_of_the_parameters_are_refused_where_a_rule_needs_all(way, shares):
    for rule in ("agd", "nero", "adam / sgd", "sgd / sgd"):
        assert "fully_shard" in shares[way, rule]
    for rule in ("adam", "adagrad"):
        torch.manual_seed(0)
        model = perceptron()
        train(model, untuned.Optimizer(model.parameters(), rule, lr=0.01), 20)
        ours, found = (
            torch.cat([p.flatten() for p in each])
            for each in (model.parameters(), shares[way, rule])
        )
        torch.testing.assert_close(found, ours, rtol=1e-4, atol=1e-6)


def test_every_shard_of_a_weight_of_16_bits_has_dice_of_its_own(shares):
    weight = shares["rounded", "sgd"]
    first, second = (half != 1 for half in weight.split(32))
    assert 0.1 < first.double().mean() < 0.4  # a quarter of bfloat16's step below 1
    agree = (first == second).double().mean()
    assert agree == pytest.approx(1 - 2 * 0.256 * 0.744, abs=0.06)


def torchrun(script: Path, processes: int) -> None:
    """Run a script as users do."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *launcher, str(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr[-4000:]


def test_the_page_trains_resumes_and_ends_where_one_process_does(ranks, tmp_path, monkeypatch):
    script = tmp_path / "train.py"
    (code,) = code_of("how-to/distributed")
    script.write_text(code, encoding="utf-8")

    def weights(*runs):
        """What runs of so many processes, one after the other, each come to."""
        folder = tmp_path / "-".join(map(str, runs))
        folder.mkdir()
        monkeypatch.chdir(folder)
        for processes in runs:
            if processes == 1:
                ranks("script:main", 1, str(script), str(folder))
            else:
                torchrun(script, processes)
            dcp_to_torch_save("saved", "saved.pt")
            yield torch.load("saved.pt", weights_only=True)["model"]

    found, expected = list(weights(2, 1)), list(weights(1, 1))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not torch.equal(found[0]["0.weight"], found[1]["0.weight"])


def test_auto_sees_the_data_of_all_processes(ranks):
    """Two that hold half of the data each, of very different sizes, end where one with all does."""
    weights, size = inputs.train(inputs.network(), *inputs.data())
    for found, sizes, apart in ranks("inputs:main", 2):
        for theirs, seen in found.values():
            assert seen == pytest.approx(size, rel=1e-6)
            for ours, other in zip(weights, theirs, strict=True):
                torch.testing.assert_close(ours, other, rtol=1e-6, atol=1e-9)
        # layers that see data in another order on each process, or on one alone: (one, other)
        assert sizes[0] == pytest.approx([((8**2 + 3**2) / 2) ** 0.5, ((4**2 + 6**2) / 2) ** 0.5])
        assert sizes[1] == pytest.approx([3, ((4**2 + 6**2) / 2) ** 0.5])
        # data of one process alone, and a network of one alone, which has nobody to wait for
        assert apart == (3, 1)


def test_a_mesh_may_be_a_part_of_the_world_and_precisions_mixed(ranks):
    *shared, alone = ranks("part:main", 5)
    for weights in shared:
        torch.testing.assert_close(weights, alone, rtol=1e-4, atol=1e-5)


def test_a_failing_rank_fails_the_test_and_the_others_wait_no_longer(ranks):
    with pytest.raises(AssertionError, match=r"rank 1 ended with 1[\s\S]*this rank fails"):
        ranks("script:fail", 2, 1)
    assert len(ranks("part:main", 5)) == 5  # and the next job runs
