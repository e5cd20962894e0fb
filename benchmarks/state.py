"""What optimizers keep: bytes of state beside the weights' own, measured after one step on CPU.

python benchmarks/state.py
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from torch import nn
from torch.optim import Optimizer
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    ResNetConfig,
    ResNetForImageClassification,
)

import untuned

MODELS: dict[str, Callable[[], nn.Module]] = {
    "ResNet-50": lambda: ResNetForImageClassification(ResNetConfig(num_labels=1000)),
    "GPT-2 small": lambda: GPT2LMHeadModel(GPT2Config()),
    "MLP, 100 layers of 784": lambda: nn.Sequential(*[nn.Linear(784, 784) for _ in range(100)]),
}
OPTIMIZERS: dict[str, Callable[[nn.Module], Optimizer]] = {
    "SGD": lambda model: torch.optim.SGD(model.parameters()),
    "untuned.AGD": untuned.AGD,
    "untuned.Nero": untuned.Nero,
    "SGD, momentum": lambda model: torch.optim.SGD(model.parameters(), momentum=0.9),
    "Adam": lambda model: torch.optim.Adam(model.parameters()),
}


def state_bytes(opt: Optimizer) -> int:
    """The bytes of every tensor of an optimizer's state."""
    values = [value for state in opt.state.values() for value in state.values()]
    tensors = [value for value in values if isinstance(value, torch.Tensor)]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=MODELS, help="one model instead of all")
    only = parser.parse_args().only
    print("| model | weights, MB |", " | ".join(OPTIMIZERS), "|")
    print("|---|---:|" + "---:|" * len(OPTIMIZERS))
    for name in [only] if only else MODELS:
        model = MODELS[name]()
        weights = sum(p.numel() * p.element_size() for p in model.parameters())
        shares = []
        for prepare in OPTIMIZERS.values():
            for param in model.parameters():
                param.grad = torch.zeros_like(param)
            opt = prepare(model)
            opt.step()
            shares.append(f"{state_bytes(opt) / weights:.2%}")
        print(f"| {name} | {weights / 1e6:.1f} |", " | ".join(shares), "|")


if __name__ == "__main__":
    main()
