"""What the tests of distributed checkpoints run: `main(FOLDER, TASK...)` on every rank.

Tasks: `save` trains for 5 steps and saves them, sharded and whole, as so many processes;
`load:N:KIND` goes on for 5 steps from what N processes saved (KIND: whole, sharded or flat), and
returns the whole weights; `straight` takes 10 steps; `initialise` takes none.
"""

from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.nn.functional as F
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.tensor import Shard

import untuned
from support.ranks.trained import Network, whole
from untuned.notation import tower_of

RULES = (
    "agd",
    "nero",
    "adam / sgd(lr=0.1)",
    "agd / sgd",
    "sgd.per_tensor('lr') / adam(lr=0.1)",
    "auto",
    "auto, averaging",
)


def build(rule: str, world: int) -> tuple[nn.Module, untuned.Optimizer]:
    """A network and its optimizer, sharded where there are several processes."""
    torch.manual_seed(0)
    model = Network().double()
    if world > 1:
        from torch.distributed.fsdp import fully_shard

        fully_shard(model.lstm)
        fully_shard(model)
    if rule == "auto, averaging":
        return model, untuned.Auto(model)
    return model, untuned.Optimizer(model, rule)


def train(model: nn.Module, opt: untuned.Optimizer, steps: range, world: int) -> None:
    """Steps of a network, each process on its share of the batch."""
    mine = dist.get_rank() if dist.is_initialized() else 0
    for step in steps:
        random = torch.Generator().manual_seed(step)
        tokens = torch.randint(7, (8, 5), generator=random)[mine::world]
        opt.zero_grad()
        F.mse_loss(model(tokens), tokens.double() / 7).backward()
        opt.step()
    opt.zero_grad()


def check_placements(opt: untuned.Optimizer) -> None:
    """What is kept of each row of a sharded parameter is sharded over the same rows."""
    states = [(param, value) for param, state in opt.state.items() for value in state.values()]
    rows = [(p, value) for p, value in states if value.ndim and len(value) == len(p)]
    assert all(value.placements == param.placements == (Shard(0),) for param, value in rows)
    if opt.tower == tower_of("nero"):
        assert len(rows) == len(opt.state) > 0
        assert all(value.numel() == len(param) for param, value in rows)


def save(folder: Path, rule: str, world: int) -> None:
    """Save 5 steps in every way."""
    model, opt = build(rule, world)
    train(model, opt, range(5), world)
    if world > 1:
        check_placements(opt)
    for flat in (False, True):
        options = StateDictOptions(flatten_optimizer_state_dict=flat)
        saved = {
            "model": get_model_state_dict(model),
            "opt": get_optimizer_state_dict(model, opt, options=options),
        }
        dcp.save(saved, checkpoint_id=folder / ("flat" if flat else "sharded"))
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    saved = {
        "model": get_model_state_dict(model, options=options),
        "opt": get_optimizer_state_dict(model, opt, options=options),
    }
    if not dist.is_initialized() or dist.get_rank() == 0:
        torch.save(saved, folder / "whole.pt")


def load(folder: Path, rule: str, world: int, kind: str) -> list[torch.Tensor]:
    """Go on for 5 steps from what was saved."""
    model, opt = build(rule, world)
    if kind == "whole":
        saved = torch.load(folder / "whole.pt", weights_only=True)
        options = StateDictOptions(full_state_dict=True)
        set_model_state_dict(model, saved["model"], options=options)
        set_optimizer_state_dict(model, opt, saved["opt"], options=options)
    else:
        options = StateDictOptions(flatten_optimizer_state_dict=kind == "flat")
        saved = {
            "model": get_model_state_dict(model),
            "opt": get_optimizer_state_dict(model, opt, options=options),
        }
        dcp.load(saved, checkpoint_id=folder / kind)
        set_model_state_dict(model, saved["model"])
        set_optimizer_state_dict(model, opt, saved["opt"], options=options)
    train(model, opt, range(5, 10), world)
    return [whole(p) for p in model.parameters()]


def main(base: str, *tasks: str) -> dict[tuple[str, str], list[torch.Tensor]]:
    world = dist.get_world_size() if dist.is_initialized() else 1
    results = {}
    for task in tasks:
        for number, rule in enumerate(RULES):
            if task == "save":
                folder = Path(base, f"{world}-{number}")
                folder.mkdir(exist_ok=True)
                save(folder, rule, world)
            elif task == "straight":
                model, opt = build(rule, world)
                train(model, opt, range(10), world)
                results[task, rule] = [whole(p) for p in model.parameters()]
            elif task == "initialise":
                model, _ = build(rule, world)
                torch.manual_seed(dist.get_rank() if world > 1 else 0)  # the first process counts
                untuned.initialise_(model)
                results[task, rule] = [whole(p) for p in model.parameters()]
            else:
                _, source, kind = task.split(":")
                results[task, rule] = load(Path(base, f"{source}-{number}"), rule, world, kind)
    return results
