"""Copies made before the first step: an EMA's and a pickle hold idle hooks, and need no untuned."""

import copy
import pickle
import subprocess
import sys

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import untuned
from untuned.passes.hooks import Hook


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))


def every_hook(module):
    return [
        hook
        for each in module.modules()
        for name, hooks in vars(each).items()
        if name.endswith("_hooks")
        for hook in hooks.values()
    ]


def step(net, opt, scale=1.0):
    opt.zero_grad()
    net(scale * torch.linspace(-1, 1, 24).view(6, 4)).square().mean().backward()
    opt.step()


def test_a_copy_from_before_the_first_step_runs_none_of_our_hooks():
    net = network()
    untuned_hooks = [h for h in every_hook(net) if isinstance(h, Hook)]
    assert untuned_hooks == []
    opt = untuned.Auto(net)
    twin = copy.deepcopy(net)
    mine = [hook for hook in every_hook(net) if isinstance(hook, Hook)]
    assert mine
    assert all(hook._call is None for hook in every_hook(twin) if isinstance(hook, Hook))
    before = copy.deepcopy(twin.state_dict())
    for _ in range(3):
        twin.train()(100 * torch.ones(6, 4)).sum().backward()  # what hooks would take for data
        step(net, opt)
    assert opt.state[net[0].weight]["auto.input"] < 2
    for name, value in twin.named_parameters():
        assert torch.equal(value, before[name])


def test_an_exponential_average_of_torchs_beside_ours_is_its_own():
    """AveragedModel copies the network with its hooks, and is evaluated in every step."""
    net, plain = network(), network()
    opt, other = untuned.Auto(net), untuned.Auto(plain)
    ema = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    expected = [param.detach().clone() for param in net.parameters()]
    for number in range(5):
        step(net, opt)
        step(plain, other)
        ema.update_parameters(net)
        ema.eval()(torch.ones(6, 4))
        share = 0.0 if number == 0 else 0.5  # torch's takes the first as it is
        for mean, param in zip(expected, net.parameters(), strict=True):
            mean.mul_(share).add_(param.detach(), alpha=1 - share)
    for ours, theirs in zip(net.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    torch.testing.assert_close(list(ema.module.parameters()), expected)


def test_a_pickle_from_before_the_first_step_loads_without_untuned(tmp_path):
    net = network()
    opt = untuned.Auto(net)
    (tmp_path / "net.pkl").write_bytes(pickle.dumps(net))
    torch.save(net, tmp_path / "net.pt")
    step(net, opt)
    program = """
import pickle, sys, torch
sys.modules["untuned"] = None
for net in pickle.load(open(sys.argv[1], "rb")), torch.load(sys.argv[2], weights_only=False):
    net.train()(torch.ones(3, 4)).sum().backward()
    print(net.eval()(torch.ones(3, 4)).shape[0], len(net.state_dict()))
"""
    command = [sys.executable, "-c", program, tmp_path / "net.pkl", tmp_path / "net.pt"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "3 9\n3 9\n", done.stderr
