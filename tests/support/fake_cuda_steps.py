"""Steps on a CUDA device that is not there: operations, copies and reads of each, as JSON.

Under FakeTensorMode, which knows the shapes and devices of tensors and computes nothing.
`fake_cuda.py` runs it.
"""

import collections
import json
import sys
import warnings
from collections.abc import Sequence

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import untuned
from untuned._tensors import TensorCache
from untuned.geometry.block_vector import BlockVector

FAKE = FakeTensorMode()  # one for all steps, for constants are kept
NO_KERNEL = {"detach", "device", "empty", "empty_like", "new_empty", "promote_types"}
READS = {"_local_scalar_dense", "is_nonzero", "item", "nonzero", "masked_select", "equal"}


def keep_constants() -> None:
    """Those of blocks are made once, as on a device that is there."""
    owners, numbers = BlockVector.owner, BlockVector.of_layers

    def found(self, key, make):
        if key not in self:
            self[key] = make()
        return self[key]

    TensorCache.found = found
    kept = TensorCache()
    BlockVector.owner = lambda self, device: kept.found(
        (self, device), lambda: owners(self, device)
    )
    BlockVector.of_layers = lambda self, number, like: kept.found(
        (self, number, like.dtype, like.device), lambda: numbers(self, number, like)
    )


class Operations(TorchDispatchMode):
    """Counts what is launched, and what copies between devices or has the host read."""

    def __init__(self) -> None:
        super().__init__()
        self.launched: collections.Counter[str] = collections.Counter()
        self.copies: list[str] = []
        self.reads: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name, kwargs = func.overloadpacket.__name__, kwargs or {}
        result = func(*args, **kwargs)
        returns = func._schema.returns
        view = any(r.alias_info is not None and not r.alias_info.is_write for r in returns)
        if not view and name not in NO_KERNEL:
            self.launched[name] += 1
        if name in READS:
            self.reads.append(name)
        given = [x for x in tree_leaves((args, kwargs, result)) if isinstance(x, FakeTensor)]
        kinds = {x.fake_device.type for x in given}
        numbers = {x.fake_device.type for x in given if x.ndim or x.fake_device.type != "cpu"}
        asynchronous = name == "copy_" and len(args) > 2 and args[2]  # to pinned memory
        copying = name in ("_to_copy", "copy_") and not asynchronous
        if len(kinds if copying else numbers) > 1:
            self.copies.append(f"{name} {[tuple(x.shape) for x in given]}")
        return result


def network(layers: int) -> nn.Module:
    hidden = [each for _ in range(layers) for each in (nn.Linear(16, 16), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(16, 4))


def optimizer(rule: str, model: nn.Module) -> torch.optim.Optimizer:
    if rule == "auto":
        return untuned.Auto(model)
    return untuned.Optimizer(model, rule, compile=False)


def step(rule: str, layers: int) -> dict:
    """What a step does: the third, or Auto's fourteenth, by which it has seen its inputs."""
    with FAKE, torch.device("cuda"):
        model = network(layers)
        opt = optimizer(rule, model)
        for _ in range(14 if rule == "auto" else 3):
            model(torch.ones(2, 16))
            for param in model.parameters():
                param.grad = torch.ones_like(param)
            operations = Operations()
            with operations:
                opt.step()
    return {
        "launched": operations.launched, "copies": operations.copies, "reads": operations.reads,
    }  # fmt: skip


def main(cases: Sequence[str]) -> None:
    """Rules and their layers, in turn."""
    warnings.simplefilter("ignore")  # no gradient arrives at a layer, which Auto wonders at
    keep_constants()
    pairs = zip(cases[::2], map(int, cases[1::2]), strict=True)
    sys.stdout.write(json.dumps([step(*each) for each in pairs]))
