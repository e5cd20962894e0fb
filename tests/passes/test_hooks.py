"""The hooks of Auto's look: under compilers, in copies, beside those of others."""

import copy
import pickle
import subprocess
import sys
from collections import Counter

import pytest
import torch
from torch import nn

import untuned
from support.looks import hooks, network, size, train
from support.networks import equal
from support.spies import HostReads
from untuned.errors import UnseenInputsWarning


class Plain(nn.Module):
    """A class of one's own, with buffers and noise."""

    def __init__(self):
        super().__init__()
        self.body, self.norm = nn.Linear(4, 8), nn.BatchNorm1d(8)
        self.drop, self.head = nn.Dropout(), nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.drop(self.norm(self.body(x))))


@pytest.mark.parametrize("way", ["torch.compile", "in place", "wrapped", "sequential, wrapped"])
def test_compiled_networks_are_looked_at_too(way):
    """The second of a class, and one that ran before its optimizer was made; in one graph."""
    torch._dynamo.reset()
    x = torch.full((3, 4), 5.0)
    for _ in range(2):
        net = network() if "sequential" in way else Plain()
        if way == "in place":
            net.compile(backend="aot_eager", fullgraph=True)
            compiled = net
        else:
            compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
        compiled(x).sum().backward()
        opt = untuned.Auto(compiled if "wrapped" in way else net, average=False)
        frames = Counter(torch._dynamo.utils.counters["stats"])
        train(opt, lambda compiled=compiled: compiled(x).sum(), 10)
        first = net[0] if "sequential" in way else net.body
        last = net[2] if "sequential" in way else net.head
        assert (size(opt, first.weight), size(opt, last.weight)) == (5, 1)
        assert Counter(torch._dynamo.utils.counters["stats"]) == frames  # nothing compiled anew
        assert not hooks(net)


def test_a_look_behind_compiled_code_leaves_no_trace():
    torch._dynamo.reset()
    xs = torch.randn(10, 3, 4)
    nets = [Plain() for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    seen = []
    for net, watched in zip(nets, (True, False), strict=True):
        compiled = torch.compile(net, backend="aot_eager")
        opt = untuned.Auto(net, average=False) if watched else None
        torch.manual_seed(0)
        seen.append([compiled(x).detach() for x in xs])
        del opt
    assert equal(seen[0], seen[1])
    assert equal(dict(nets[0].named_buffers()), dict(nets[1].named_buffers()))


def test_who_cannot_be_seen_is_warned_of_once():
    torch._dynamo.reset()
    net = network()
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    opt = untuned.Auto(net, average=False)
    with pytest.warns(UnseenInputsWarning, match="compiled"):
        train(opt, lambda: compiled(torch.ones(3, 4)).sum())
    train(opt, lambda: compiled(torch.ones(3, 4)).sum())


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_networks_that_are_looked_at_can_be_scripted_and_traced():
    net, x = nn.ModuleDict({"body": network()})["body"], torch.full((3, 4), 5.0)
    opt = untuned.Auto(net, average=False)
    for made in (torch.jit.script(net), torch.jit.trace(net, x), torch.jit.script(net[0])):
        assert made(x).shape[0] == 3
    assert torch.equal(torch.jit.script(copy.deepcopy(net))(x), net(x))
    train(opt, lambda: net(x).sum())
    assert size(opt, net[0].weight) == 5


def test_copies_hold_no_live_hook_and_pickles_need_no_untuned(tmp_path):
    net = network()
    opt = untuned.Auto(net, average=False)
    twin = copy.deepcopy(net)
    (tmp_path / "net.pkl").write_bytes(pickle.dumps(net))
    opt.zero_grad()
    net(torch.full((3, 4), 5.0)).sum().backward()
    for other in (twin, pickle.loads((tmp_path / "net.pkl").read_bytes())):
        other(torch.full((3, 4), 100.0)).sum().backward()
    opt.step()
    assert size(opt, net[0].weight) == 5
    program = """
import pickle, sys, torch
sys.modules["untuned"] = None
net = pickle.load(open(sys.argv[1], "rb"))
print(net(torch.ones(3, 4)).shape[0])
"""
    command = [sys.executable, "-c", program, str(tmp_path / "net.pkl")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "3\n", done.stderr


def test_other_peoples_hooks_stay():
    net = network()
    calls = []
    net[0].register_forward_hook(lambda *_: calls.append("first"))
    opt = untuned.Auto(net, average=False)
    net[0].register_forward_hook(lambda *_: calls.append("second"))
    train(opt, lambda: net(torch.ones(3, 4)).sum(), 12)
    assert hooks(net) == 2
    assert calls == ["first", "second"] * 12


def test_no_step_reads_the_device():
    net = network()
    opt = untuned.Auto(net, average=False)
    for _ in range(10):
        opt.zero_grad()
        net(torch.ones(3, 4)).sum().backward()
        with HostReads() as reads:
            opt.step()
        assert reads.count == 0
