"""What reads the weights reads the average: evaluation, files, exports, other processes."""

import copy
import io
import pickle
import subprocess
import sys

import pytest
import torch
from torch.optim.swa_utils import AveragedModel

import untuned
from support.averages import (
    ITERATE,
    Average,
    averages,
    batch,
    iterates,
    loss_of,
    train,
    trained,
)
from support.networks import equal, perceptron


def read_by_evaluating(model):
    """The weights, from what the network says of a basis."""
    model.eval()
    with torch.no_grad():
        zero = model[0](torch.zeros(1, 6))
        return {"0.weight": (model[0](torch.eye(6)) - zero).T, "0.bias": zero[0]}


def read_from_pickle(model):
    return averages(pickle.loads(pickle.dumps(model)))


def read_from_file(model):
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def read_from_export(model):
    model.eval()
    exported = torch.export.export(model, (torch.ones(4, 6),))
    torch.testing.assert_close(exported.module()(batch(0)[0][:4]), model(batch(0)[0][:4]))
    return dict(exported.state_dict)


def read_from_trace(model):
    traced = torch.jit.trace(model.eval(), torch.ones(4, 6))
    torch.testing.assert_close(traced(batch(0)[0]), model(batch(0)[0]))
    return dict(traced.named_parameters())


READERS = {
    "evaluation": read_by_evaluating,
    "state_dict": lambda model: dict(model.state_dict()),
    "part's state_dict": lambda model: {f"2.{n}": v for n, v in model[2].state_dict().items()},
    "file": read_from_file,
    "pickle": read_from_pickle,
    "deepcopy": lambda model: averages(copy.deepcopy(model)),
    "AveragedModel": lambda model: averages(AveragedModel(model).module),
    "export": read_from_export,
    "trace": pytest.param(
        read_from_trace, marks=pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
    ),
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_what_is_read_is_the_average(read):
    torch.manual_seed(0)
    model = perceptron()
    opt = untuned.Auto(model)
    average = Average(opt)
    for step in range(6):
        train(model, opt, [step])
        average.follow()
    names = {name: average.x[p] for name, p in model.named_parameters()}
    found = read(model)
    assert found
    for name, value in found.items():
        torch.testing.assert_close(value.double(), names[name], rtol=1e-4, atol=1e-6)
        assert (names[name] - opt.state[model.get_parameter(name)][ITERATE]).abs().max() > 1e-4


AMID = ["evaluation", "state_dict", "part's state_dict", "file"]


@pytest.mark.parametrize("read", [READERS[name] for name in AMID], ids=AMID)
def test_it_is_amid_a_step_too(read):
    """After a backward pass whose step is skipped, as a GradScaler skips it."""
    model, _ = trained(untuned.Auto)
    before = averages(model)
    loss_of(model, 7).backward()
    assert not equal(averages(model), before)
    for name, value in read(model).items():
        torch.testing.assert_close(value, before[name], rtol=1e-4, atol=1e-6)


def test_another_process_needs_no_untuned_for_a_pickled_module(tmp_path):
    model, opt = trained(untuned.Auto)
    torch.save(model, tmp_path / "model.pt")
    loss_of(model, 7).backward()  # and hooks that are amid a pass are as inert
    opt.step()
    script = """
import sys
sys.modules["untuned"] = None  # unimportable
import torch
model = torch.load("model.pt", weights_only=False)
torch.save({n: p.detach().clone() for n, p in model.named_parameters()}, "found.pt")
opt = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(3):
    opt.zero_grad()
    model.train()(torch.ones(4, 6)).square().sum().backward()
    opt.step()
model.eval()(torch.ones(4, 6))
model.load_state_dict(model.state_dict())
"""
    saved = copy.deepcopy(torch.load(tmp_path / "model.pt", weights_only=False))
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert equal(torch.load(tmp_path / "found.pt"), averages(saved))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_network_that_is_averaged_can_be_scripted():
    model, opt = trained(untuned.Auto)
    x = torch.randn(4, 6)
    expected = averages(model)
    scripted = torch.jit.script(model.eval())
    assert torch.equal(scripted(x), model(x))
    assert equal(averages(scripted), expected)
    train(model.train(), opt, range(6, 12))  # which keeps its hooks
    assert not equal(averages(model), iterates(model, opt))


def test_an_average_of_ones_own_reads_averages():
    torch.manual_seed(0)
    model = perceptron()
    opt, slow = untuned.Auto(model), AveragedModel(model)
    average, means = Average(opt), {name: [] for name, _ in model.named_parameters()}
    for step in range(5):
        train(model, opt, [step])
        average.follow()
        slow.update_parameters(model)
        for name, p in model.named_parameters():
            means[name].append(average.x[p])
    for name, p in slow.module.named_parameters():
        torch.testing.assert_close(p.detach().double(), sum(means[name]) / 5, rtol=1e-5, atol=1e-6)
    slow(batch(0)[0])
