"""`torch.compile` around a whole step: few graphs, no recompiling, the same numbers.

What remembers something takes its steps outside of the graph, with kernels of its own.
"""

import contextlib
import copy
import logging

import pytest
import torch
from torch._dynamo.testing import CompileCounter
from torch._dynamo.utils import counters

import untuned
from support.networks import perceptron, same, snapshot
from untuned.errors import NonFiniteGradientWarning
from untuned.rules import AGD, SGD, Adam

OPTIMIZERS = {
    "AGD": untuned.AGD,
    "Nero": untuned.Nero,
    "free Nero": lambda model, lr: untuned.Nero(model, lr, balanced=False),
    "Adam": lambda model, lr: untuned.Optimizer(model, Adam(), lr=lr),
    "Adam / SGD": lambda model, lr: untuned.Optimizer(model, Adam() / SGD(), lr=lr),
    "AGD / SGD": lambda model, lr: untuned.Optimizer(model, AGD() / SGD(), lr=lr),
}
RATES = {"float": 0.1, "tensor": torch.tensor(0.1)}
STEPS = 12


@pytest.fixture(autouse=True)
def _afresh(monkeypatch):
    """Forget what was compiled before; keep pytest from recording what the compiler traces."""
    monkeypatch.setattr(logging.getLogger("torch.__trace"), "disabled", True)
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def pair(build, lr=0.1, dtype=torch.float32):
    """Twice the same network, each with its optimizer and a schedule that never rests."""
    torch.manual_seed(0)
    models = [perceptron().to(dtype)]
    models.append(copy.deepcopy(models[0]))
    opts = [build(model, copy.deepcopy(lr)) for model in models]
    schedules = [torch.optim.lr_scheduler.ExponentialLR(opt, 0.9) for opt in opts]
    return models, opts, schedules


def feed(models, step, bad=None):
    """The same gradients for each, other ones at each step."""
    for model in models:
        generator = torch.Generator().manual_seed(step)
        for param in model.parameters():
            param.grad = torch.randn(param.shape, generator=generator).to(param.dtype)
        if bad is not None:
            model[2].bias.grad[1] = bad


def compiled(opt, backend):
    """The step, as torch's tutorial of compiled optimizers has it."""

    def step():
        opt.step()

    return torch.compile(step, backend=backend)


@pytest.mark.parametrize("lr", RATES.values(), ids=RATES)
def test_where_nothing_is_remembered_a_step_is_one_graph_and_the_first_another(lr):
    models, opts, schedules = pair(untuned.AGD, lr)
    counter = CompileCounter()
    step = compiled(opts[0], counter)
    graphs = []
    for i in range(STEPS):
        feed(models[:1], i)
        step()
        schedules[0].step()
        graphs.append(counter.frame_count)
    assert graphs == [1] + [2] * (STEPS - 1)
    # torch's schedulers wrap `step` in a function that is never traced
    assert all("lr_scheduler.py" in reason for reason in counters["graph_break"])


@pytest.mark.parametrize("lr", RATES.values(), ids=RATES)
@pytest.mark.parametrize("build", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_steps_and_rates_change_and_nothing_is_compiled_again(build, lr):
    models, opts, schedules = pair(build, lr)
    counter = CompileCounter()
    step = compiled(opts[0], counter)
    for i in range(STEPS):
        feed(models, i)
        with torch._dynamo.config.patch(error_on_recompile=i > 2):
            step()
        if i == 2:
            graphs = counter.frame_count
        opts[1].step()
        assert same(models[0], snapshot(models[1]))
        for schedule in schedules:
            schedule.step()
    assert counter.frame_count == graphs <= 2
    assert opts[0].hyperparameters() == opts[1].hyperparameters()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("AGD", contextlib.nullcontext()),  # a graph cannot tell
        ("Adam / SGD", pytest.warns(NonFiniteGradientWarning)),
    ],
)
def test_a_bad_gradient_skips_the_step_and_is_counted(name, told):
    models, opts, _ = pair(OPTIMIZERS[name])
    step = compiled(opts[0], "eager")
    for i in range(5):
        if i == 3:
            before = snapshot(models[0])
            feed(models[:1], i, float("inf"))
            with told:
                step()
            assert same(models[0], before)
        feed(models, i)
        step()
        opts[1].step()
        assert same(models[0], snapshot(models[1]))
    assert opts[0].skipped_steps == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, as it imports its compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["AGD", "Nero", "Adam / SGD"])
def test_code_that_inductor_generates_does_the_same(name, dtype):
    models, opts, schedules = pair(OPTIMIZERS[name], dtype=dtype)
    step = compiled(opts[0], "inductor")
    start = snapshot(models[0])
    for i in range(5):
        feed(models, i)
        step()
        opts[1].step()
        for schedule in schedules:
            schedule.step()
    bound = 1e-11 if dtype == torch.float64 else 1e-6
    torch.testing.assert_close(*map(snapshot, models), rtol=bound, atol=bound)
    assert not same(models[0], start)
