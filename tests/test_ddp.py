"""Towers under DistributedDataParallel: two processes, as one."""

import ast
import subprocess
import sys
import textwrap

import pytest

SCRIPT = """
    import os, sys, torch, torch.nn.functional as F
    import torch.distributed as dist
    import untuned

    torch.set_num_threads(1)
    several = "RANK" in os.environ
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
    model = model.double()
    net, rank, world = model, 0, 1
    if several:
        dist.init_process_group("gloo")
        rank, world = dist.get_rank(), dist.get_world_size()
        net = torch.nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True)
    opt = untuned.Optimizer(model, sys.argv[1])
    for step in range(20):
        torch.manual_seed(step)
        images, labels = torch.randn(16, 6).double(), torch.randint(3, (16,))
        opt.zero_grad()
        F.cross_entropy(net(images[rank::world]), labels[rank::world]).backward()
        opt.step()
    outcome = [model[0].weight.flatten().tolist(), opt.hyperparameters()]
    if several:
        outcomes = [None] * world
        dist.all_gather_object(outcomes, outcome)
        assert all(other == outcome for other in outcomes), "ranks differ"
        dist.destroy_process_group()
    if rank == 0:
        print("outcome", outcome)
"""


@pytest.mark.parametrize("tower", ["adam / adam(lr=0.05) / sgd", "agd / sgd(lr=0.1)"])
def test_two_processes_end_where_one_does(tower, tmp_path):
    script = tmp_path / "train.py"
    script.write_text(textwrap.dedent(SCRIPT))

    def run(*launcher):
        done = subprocess.run(
            [sys.executable, *launcher, str(script), tower],
            capture_output=True,
            text=True,
            check=True,
        )
        line = next(li for li in done.stdout.splitlines() if li.startswith("outcome"))
        return ast.literal_eval(line.removeprefix("outcome "))

    alone = run()
    two = run("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    assert two[0] == pytest.approx(alone[0], rel=1e-9, abs=1e-12)
    for ours, theirs in zip(two[1], alone[1], strict=True):
        assert [pytest.approx(floor, rel=1e-9) for floor in theirs] == ours
