"""Compiled networks average as others do: compiled before or after, whole or in part."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._dynamo.testing import CompileCounter, CompileCounterWithBackend

import untuned
from support.averages import averages, batch, iterates
from support.networks import perceptron
from untuned.errors import AverageWarning

pytestmark = [
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # torch's own
]


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Network(nn.Module):
    """A root of a user's own."""

    def __init__(self):
        super().__init__()
        self.net = perceptron()

    def forward(self, x):
        return 2 * self.net(x)


class Root(nn.Module):
    """A root that is never called, with a part that is compiled."""

    def __init__(self, part):
        super().__init__()
        self.part = part


def train(model, opt, steps=6, evaluate=True):
    """Steps with an evaluation between forward and backward; returns what evaluations say."""
    said = []
    for step in range(steps):
        x, labels = batch(step)
        opt.zero_grad()
        loss = F.cross_entropy(model(x), labels)
        if evaluate:
            model.eval()
            with torch.no_grad():
                said.append(model(batch(99)[0]))
            model.train()
        loss.backward()
        opt.step()
    return said


def eager(model):
    return model


def made(kind, compiled=eager):
    """The module that is called and its optimizer, compiled or not."""
    torch.manual_seed(0)
    model = perceptron() if "Sequential" in kind else Network()
    if kind == "Auto before":
        opt = untuned.Auto(model)
        return compiled(model), opt
    if kind == "in place":
        opt = untuned.Auto(model)
        model.net = compiled(model.net)
        return model, opt
    if "by itself" in kind:
        opt = untuned.Auto(model)
        if compiled is not eager:
            model.compile(backend="eager")
        return model, opt
    if kind == "a part of a root that is never called":
        part = compiled(model)
        opt = untuned.Auto(Root(part))  # which cannot measure its inputs
        for p in part.parameters():
            opt.state[p]["auto.input"] = torch.ones(())
        return part, opt
    model = compiled(model)
    return model, untuned.Auto(model)


KINDS = [
    "Auto before", "Auto after", "Auto of a Sequential after", "in place",
    "a part of a root that is never called", "by itself", "a Sequential by itself",
]  # fmt: skip


@pytest.mark.filterwarnings("ignore::untuned.errors.UnseenInputsWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_a_compiled_network_trains_and_evaluates_as_an_eager_one(kind):
    counter = CompileCounter()

    def compiled(model):
        return torch.compile(model, backend=counter, fullgraph=True)

    model, opt = made(kind, compiled)
    other, its = made(kind)
    for ours, theirs in zip(train(model, opt), train(other, its), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    states = (m.state_dict().values() for m in (model, other))
    entries = (iterates(*each).values() for each in ((model, opt), (other, its)))
    for ours, theirs in (*zip(*states, strict=True), *zip(*entries, strict=True)):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    assert counter.frame_count <= 4  # training and evaluation, and each without Auto's first look


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_other_backends_do_so_too(backend):
    def compiled(model):
        return torch.compile(model, backend=backend)

    model, opt = made("Auto before", compiled)
    other, its = made("Auto before")
    train(model, opt, evaluate=backend != "inductor")
    train(other, its, evaluate=backend != "inductor")
    for ours, theirs in zip(averages(model).values(), averages(other).values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_nothing_is_compiled_anew_step_after_step():
    torch.manual_seed(0)
    counter = CompileCounterWithBackend("eager")
    model = Network()
    opt = untuned.Auto(model)
    compiled = torch.compile(model, backend=counter)
    train(compiled, opt, steps=12)  # the look at its inputs is over
    before = counter.frame_count
    with torch._dynamo.config.patch(error_on_recompile=True):
        train(compiled, opt, steps=6)
    assert counter.frame_count == before


@pytest.mark.filterwarnings("ignore::untuned.errors.UnseenInputsWarning")
def test_a_sequential_that_is_compiled_behind_autos_back_is_not_averaged_and_told_of():
    """Its hooks run within the graph, where weights cannot be exchanged."""
    torch.manual_seed(0)
    model = perceptron()
    opt = untuned.Auto(model)
    twin = copy.deepcopy(model)
    its = untuned.Auto(twin, average=False)
    for p in twin.parameters():  # of which the other cannot know either
        its.state[p]["auto.input"] = torch.ones(())
    compiled = torch.compile(model, backend="eager")
    with pytest.warns(AverageWarning, match="give the compiled module to Auto") as caught:
        train(compiled, opt)
    assert [each.category for each in caught].count(AverageWarning) == 1
    train(twin, its)
    for ours, theirs in zip(averages(model).values(), averages(twin).values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_copies_compile_in_one_graph():
    model, opt = made("Auto before")
    train(model, opt)
    twin = copy.deepcopy(model)
    found = torch.compile(twin, backend="eager", fullgraph=True)(batch(0)[0])
    torch.testing.assert_close(found, model.eval()(batch(0)[0]))


def test_what_is_exported_from_training_is_the_average():
    model, opt = made("Auto before")
    train(model, opt)
    exported = torch.export.export(model.eval(), (batch(0)[0],), strict=True)
    torch.testing.assert_close(exported.module()(batch(0)[0]), model(batch(0)[0]))
