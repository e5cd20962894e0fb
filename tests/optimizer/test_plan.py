"""The plan of a parameter group: a short way from `step` to the equation, renewed when due."""

import collections
import copy
import functools
import sys
import weakref
from pathlib import Path

import pytest
import torch
from torch import nn

import untuned
from untuned.rules import SGD, Adam

# gradients are set by hand, and no layer is called
pytestmark = pytest.mark.filterwarnings("ignore::untuned.errors.UnseenInputsWarning")

LIBRARY = str(Path(untuned.__file__).parent)

BUILD = {
    "AGD": untuned.AGD,
    "Nero": untuned.Nero,
    "Auto": functools.partial(untuned.Auto, average=False),
    "SGD": lambda params: untuned.Optimizer(params, SGD(0.1, momentum=0.9)),
    "Adam": lambda params: untuned.Optimizer(params, Adam(0.01)),
    "Adam / SGD": lambda params: untuned.Optimizer(params, Adam(0.01) / SGD(1e-5)),
    "Nero / SGD": lambda params: untuned.Optimizer(params, "nero / sgd(lr=1e-4)"),
    "SGD.per_tensor": lambda params: untuned.Optimizer(params, "sgd.per_tensor('lr') / sgd"),
}


def chain() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 4))


def backward(model: nn.Module, step: int) -> None:
    """Gradients that depend on the weights, of all parameters that want one."""
    for place, param in enumerate(model.parameters()):
        if param.requires_grad:
            param.grad = torch.sin(param.detach() * (place + step + 1)) + 0.5


class Frames:
    """Counts Python frames of the library, and how deep the equations stand (`update`)."""

    def __init__(self) -> None:
        self.count, self.deepest, self._depth = 0, 0, 0

    def __call__(self, frame, event, arg) -> None:
        if not frame.f_code.co_filename.startswith(LIBRARY):
            return
        if event == "call":
            self.count, self._depth = self.count + 1, self._depth + 1
            if frame.f_code.co_name == "update":
                self.deepest = max(self.deepest, self._depth)
        elif event == "return":
            self._depth -= 1


@pytest.mark.parametrize(
    ("name", "most"), [("AGD", 80), ("Nero", 150), ("Auto", 260), ("Adam / SGD", 500)]
)
def test_the_way_to_the_equation_is_short(name, most):
    model = chain()
    opt = (BUILD | {"Auto": untuned.Auto})[name](model)
    for step in range(12):  # the look of Auto at its inputs is over
        if step:
            opt.step()
        model(torch.ones(2, 8)).sum().backward()
    frames = Frames()
    sys.setprofile(frames)
    try:
        opt.step()
    finally:
        sys.setprofile(None)
    assert 20 < frames.count <= most
    assert 0 < frames.deepest <= 6


def schedule(model, opt):
    for group in opt.param_groups:
        group["lr"] = group["lr"] * 0.5


def tensor_schedule(model, opt):
    for group in opt.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].mul_(0.5)
        else:
            group["lr"] = torch.tensor(group["lr"])


def freeze(model, opt):
    model[0].weight.requires_grad_(not model[0].weight.requires_grad)
    model[0].weight.grad = None


def to_double(model, opt):
    model.double()


def other_memory(model, opt):
    for param in model.parameters():
        param.data = param.data.clone()


def grow(model, opt):
    """A row more, in the same Parameter."""
    weight, bias = model[2].weight, model[2].bias
    weight.data, bias.data = (torch.cat([t.data, t.data[:1] + 1]) for t in (weight, bias))
    for param in (weight, bias):
        opt.state.pop(param, None)


def replace(model, opt):
    """Others in the place of all parameters, as FSDP has it; states go along."""
    for layer in model:
        for name, old in list(layer.named_parameters()):
            new = nn.Parameter(old.detach().clone())
            setattr(layer, name, new)
            for group in opt.param_groups:
                group["params"] = [new if param is old else param for param in group["params"]]
            if old in opt.state:
                opt.state[new] = opt.state.pop(old)


def reload(model, opt):
    opt.load_state_dict(copy.deepcopy(opt.state_dict()))


def forget(model, opt):
    opt.state.clear()


def empty(model, opt):
    for state in opt.state.values():
        state.clear()


def option(model, opt):
    for group in opt.param_groups:
        if "betas" in group:
            group["betas"] = (0.5, 0.9)
        if "momentum" in group:
            group["momentum"] = 0.1


def list_option(model, opt):
    for group in opt.param_groups:
        if "betas" in group:
            group["betas"] = list(group["betas"])
            group["betas"][0] *= 0.9


def climb(model, opt):
    for group in opt.param_groups:
        group["maximize"] = not group["maximize"]


def add_group(model, opt):
    torch.manual_seed(1)
    layer = nn.Linear(3, 3).to(model[0].weight.dtype)
    model.append(layer)
    opt.add_param_group({"params": layer})


CHANGES = [
    schedule, tensor_schedule, freeze, to_double, other_memory, grow, replace, reload, forget,
    empty, option, list_option, climb, add_group,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", BUILD)
def test_a_plan_is_renewed_when_its_group_changes(name, change):
    """The same weights, bit for bit, as with a copy of the optimizer, without plans, each step."""
    model = chain()
    opt = BUILD[name](model)
    backward(model, 0)
    opt.step()  # copies have no hooks to see data with, so Auto's look comes before
    other_model, other = copy.deepcopy((model, opt))
    for step in range(1, 9):
        if step in (3, 5):
            change(model, opt)
            change(other_model, other)
        other_model, other = copy.deepcopy((other_model, other))
        for one, its in ((model, opt), (other_model, other)):
            backward(one, step)
            its.step()
        for one, same in zip(model.parameters(), other_model.parameters(), strict=True):
            assert torch.equal(one, same), (step, one.shape)
    assert opt.hyperparameters() == other.hyperparameters()
    pairs = zip(opt.param_groups, other.param_groups, strict=True)
    assert all(float(one["effective_lr"]) == float(same["effective_lr"]) for one, same in pairs)


MOVING = [schedule, freeze, other_memory, replace, reload, forget]


@pytest.mark.parametrize("change", MOVING)
def test_torchs_sgd_goes_the_same_way_through_changes(change):
    ours, theirs = chain().double(), chain().double()
    pairs = [
        (ours, untuned.Optimizer(ours.parameters(), SGD(0.1, momentum=0.9))),
        (theirs, torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9)),
    ]
    for step in range(9):
        for model, opt in pairs:
            if step in (3, 5):
                change(model, opt)
            backward(model, step)
            opt.step()
        torch.testing.assert_close(list(ours.parameters()), list(theirs.parameters()))


def test_a_plan_is_made_once_and_serves_until_something_changes(monkeypatch):
    from untuned.optimizer import plan

    made = collections.Counter()
    init = plan.GroupPlan.__init__

    def counting(self, *args):
        made[args[3]] += 1  # the group's number
        init(self, *args)

    monkeypatch.setattr(plan.GroupPlan, "__init__", counting)
    model = chain()
    opt = untuned.Auto(model, average=False)
    for step in range(5):
        backward(model, step)
        opt.step()
    groups = len(opt.param_groups)
    assert made == dict.fromkeys(range(groups), 1)
    schedule(model, opt)
    backward(model, 5)
    opt.step()
    assert made == dict.fromkeys(range(groups), 1)  # a rate is no new plan
    to_double(model, opt)
    backward(model, 6)
    opt.step()
    assert made == dict.fromkeys(range(groups), 2)


@pytest.mark.filterwarnings("ignore::untuned.errors.NonFiniteGradientWarning")
@pytest.mark.parametrize("bad", [False, True])
@pytest.mark.parametrize("name", BUILD)
def test_gradients_are_freed_with_zero_grad(name, bad):
    model = chain()
    opt = BUILD[name](model)
    for step in range(3):
        backward(model, step)
        if bad and step == 2:
            model[1].weight.grad[0, 0] = float("nan")
        alive = [weakref.ref(param.grad) for param in model.parameters()]
        opt.step()
        opt.zero_grad()
    assert not any(grad() is not None for grad in alive)
