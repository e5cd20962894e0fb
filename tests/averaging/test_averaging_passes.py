"""Passes in training see the iterate, whatever comes between them."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import untuned
from support.averages import (
    COUNT,
    ITERATE,
    Wrapped,
    averages,
    batch,
    evaluated,
    everything,
    gradients,
    gradients_at,
    iterates,
    loss_of,
    train,
    trained,
)
from support.networks import equal, perceptron


def evaluated_in_inference_mode(model):
    model.eval()
    with torch.inference_mode():
        model(batch(99)[0])
        model(batch(98)[0])
    model.train()


def failed(model):
    model.eval()
    with pytest.raises(RuntimeError, match="shapes"), torch.no_grad():
        model(torch.ones(4, 7))
    model.train()


def evaluated_in_parts(model):
    model.eval()
    with torch.no_grad():
        model[2](model[0](batch(99)[0]))
    model.train()


def passed_without_gradients(model):
    with torch.no_grad():
        model(batch(99)[0])


def nothing(model):
    pass


BETWEEN = [
    nothing, evaluated, evaluated_in_inference_mode, failed, evaluated_in_parts,
    passed_without_gradients,
]  # fmt: skip


@pytest.mark.parametrize("between", BETWEEN)
def test_gradients_are_the_iterates_whatever_comes_before_the_backward_pass(between):
    model, opt = trained(untuned.Auto)
    x, W = averages(model), iterates(model, opt)
    between(model)
    opt.zero_grad()
    loss = loss_of(model, 7)
    between(model)
    loss.backward()
    assert equal(gradients(model), gradients_at(model, W, 7))
    assert not equal(gradients(model), gradients_at(model, x, 7))
    evaluated(model)
    other, its = trained(untuned.Auto)
    its.zero_grad()
    loss_of(other, 7).backward()
    opt.step(), its.step()
    assert equal(everything(model, opt), everything(other, its))


def test_an_evaluation_amid_a_pass_is_the_averages():
    model, _ = trained(untuned.Auto)
    xs = batch(99)[0]
    with torch.no_grad():
        expected = model.eval()(xs)
        loss = loss_of(model.train(), 7)
        assert torch.equal(model.eval()(xs), expected)
    loss = loss_of(model.train(), 7)
    with torch.no_grad():
        assert torch.equal(model.eval()(xs), expected)
        assert not torch.equal(model.train()(xs), expected)  # amid a pass, in training mode
    loss.backward()


def test_a_pass_in_training_mode_without_gradients_leaves_the_average_in_place():
    model, _ = trained(untuned.Auto)
    expected, before = model.eval()(batch(99)[0]), averages(model)
    with torch.no_grad():
        assert torch.equal(model.train()(batch(99)[0]), expected)
    assert equal(averages(model), before)


def test_the_optimizers_state_holds_iterates_amid_a_pass_too():
    model, opt = trained(untuned.Auto)
    before = copy.deepcopy(opt.state_dict()["state"])
    loss_of(model, 7).backward()
    assert equal(opt.state_dict()["state"], before)


def test_the_steps_of_each_tensor_count_for_its_average():
    """A layer that takes no part in some steps."""
    model, opt = trained(untuned.Auto)
    before, W = averages(model), iterates(model, opt)
    for step in range(6, 9):
        opt.zero_grad()
        with torch.no_grad():
            hidden = model[:2](batch(step)[0])
        nn.functional.cross_entropy(model[2](hidden), batch(step)[1]).backward()
        opt.step()
    assert opt.state[model[0].weight][COUNT] == 6
    assert opt.state[model[2].weight][COUNT] == 9
    assert torch.equal(model[0].weight, before["0.weight"])
    assert torch.equal(opt.state[model[0].weight][ITERATE], W["0.weight"])


def test_all_micro_batches_see_one_iterate():
    model, opt = trained(untuned.Auto)
    W = iterates(model, opt)
    opt.zero_grad()
    total = dict.fromkeys(W, 0.0)
    for step in (7, 8, 9):
        loss_of(model, step).backward()
        for name, grad in gradients_at(model, W, step).items():
            total[name] = total[name] + grad
        evaluated(model)
        model.state_dict()
    assert equal(gradients(model), total)


class Checkpointed(nn.Module):
    """A network that computes its hidden units again in the backward pass."""

    def __init__(self, reentrant):
        super().__init__()
        self.net, self.reentrant = perceptron(), reentrant

    def forward(self, x):
        hidden = self.net[:2]
        x = x.requires_grad_()
        if self.reentrant is None:
            return self.net[2](hidden(x))
        return self.net[2](checkpoint(hidden, x, use_reentrant=self.reentrant))


@pytest.mark.parametrize("reentrant", [False, True])
def test_what_is_computed_again_sees_the_iterate_again(reentrant):
    def auto(model):
        opt = untuned.Auto(model)
        for p in model.parameters():  # what a reentrant pass is given is not looked at
            opt.state[p]["auto.input"] = torch.ones(())
        return opt

    def states(reentrant):
        return everything(*trained(auto, network=lambda: Checkpointed(reentrant)))

    assert equal(states(reentrant), states(None))


def test_a_closure_is_a_pass_in_training():
    model, opt = trained(untuned.Auto)
    other, its = trained(untuned.Auto)
    for step in range(6, 9):

        def closure(step=step):
            opt.zero_grad()
            loss = loss_of(model, step)
            loss.backward()
            return loss

        opt.step(closure)
    train(other, its, range(6, 9))
    assert equal(everything(model, opt), everything(other, its))


def test_parts_may_be_called_without_their_root():
    def train_parts(model, opt):
        for step in range(6):
            opt.zero_grad()
            x, labels = batch(step)
            nn.functional.cross_entropy(model.evaluate_actions(x), labels).backward()
            opt.step()

    torch.manual_seed(0)
    model = Wrapped()
    opt = untuned.Auto(model)
    train_parts(model, opt)
    other, its = trained(untuned.Auto)
    assert equal(everything(model.net, opt), everything(other, its))
    expected = other.eval()(batch(0)[0])
    assert torch.equal(model.eval().evaluate_actions(batch(0)[0]), expected)


def test_functional_calls_of_the_modules_own_weights_are_passes():
    torch.manual_seed(0)
    model = perceptron()
    opt = untuned.Auto(model)
    for step in range(6):
        opt.zero_grad()
        x, labels = batch(step)
        found = torch.func.functional_call(model, dict(model.named_parameters()), (x,))
        nn.functional.cross_entropy(found, labels).backward()
        opt.step()
    assert equal(everything(model, opt), everything(*trained(untuned.Auto)))


def test_gradients_of_the_average_move_the_average():
    """A network that goes on in evaluation mode, as in fine-tuning without dropout."""
    model, opt = trained(untuned.Auto)
    model.eval()
    for step in range(6, 9):
        before = averages(model)
        opt.zero_grad()
        loss_of(model, step).backward()
        assert equal(gradients(model), gradients_at(model, before, step))
        opt.step()
        assert equal(averages(model), iterates(model, opt))
        assert not equal(averages(model), before)
