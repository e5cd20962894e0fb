"""Floors of steps as counted: what a step that wastes nothing reads and writes."""

import re

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from untuned.lab.baselines.methods import method_of
from untuned.lab.bench import steps
from untuned.lab.bench.memory_traffic import least_traffic
from untuned.lab.bench.steps import OPTIMIZERS, REFERENCES


class Traffic(TorchDispatchMode):
    """Counts entries of large tensors that operations are given, and those that they write."""

    def __init__(self):
        super().__init__()
        self.entries = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name not in ("view", "_unsafe_view", "split", "select", "detach", "slice", "t"):
            self.entries += sum(x.numel() for x in tree_leaves((args, kwargs)) if large(x))
            if name.endswith("_"):
                written = tree_leaves(args[: 4 if "adamw" in name else 1])
                written = [x for x in written if large(x)]
                grads = len(written) // 4 if "adamw" in name else 0
                self.entries += sum(x.numel() for x in written[grads:])
        return result


def large(x):
    return isinstance(x, torch.Tensor) and x.numel() > 1000


@pytest.mark.parametrize("text", ["agd", *REFERENCES.values()])
def test_a_floor_is_what_a_step_that_wastes_nothing_moves(text):
    model = steps.graded(nn.Sequential(nn.Linear(128, 128, bias=False), nn.Linear(128, 64)))
    opt = method_of(text).make(model)
    opt.step()
    with Traffic() as seen:
        opt.step()
    large_ones = sum(p.numel() for p in model.parameters() if large(p))
    assert least_traffic(text).passes * large_ones == seen.entries


@pytest.mark.parametrize(
    "text", ["sgd", "adam", "sgd(momentum=0.9)", "rmsprop", "sgd / sgd", "adam / sgd", "agd / sgd"]
)
def test_a_floor_reads_and_writes_all_that_is_kept(text):
    model = steps.graded(nn.Linear(256, 256, bias=False))
    opt = method_of(text, compile=False).make(model)
    opt.step()
    kept = steps.state_bytes(opt) // model.weight.nbytes
    passes = least_traffic(text).passes
    assert passes >= 3 + 2 * kept
    why = least_traffic(text).why
    assert len(re.findall(r"\b[gwmvr]\b", why)) == passes


@pytest.mark.parametrize("text", ["adam", "adam / sgd"])
def test_what_is_one_number_a_tensor_is_not_worked_out_for_each_entry(text, monkeypatch):
    def entries():
        layers = [nn.Linear(64, 64, bias=False) for _ in range(8)]
        # with a tensor of another shape: without buckets by shape all lie end to end
        model = steps.graded(nn.Sequential(*layers, nn.Linear(64, 3, bias=False)))
        opt = method_of(text).make(model)
        opt.step()
        with Traffic() as seen:
            opt.step()
        return seen.entries

    stacked = entries()
    monkeypatch.setattr("untuned.execution.buckets.MANY", 10**9)
    assert stacked < 0.7 * entries()


def test_what_nobody_has_counted_has_no_floor():
    assert least_traffic("dog") is None
    assert all(least_traffic(text) for text in OPTIMIZERS)
