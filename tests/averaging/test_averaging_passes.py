"""Passes in training see the iterate, whatever comes between them; trainings go on as they were."""

import contextlib
import copy
import io

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
    gradients_at,
    iterates,
    loss_of,
    train,
    trained,
)
from support.networks import equal, perceptron
from untuned.errors import AverageWarning, NonFiniteGradientWarning


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def everything(model, opt):
    """All that a training goes on from."""
    return copy.deepcopy([model.state_dict(), opt.state_dict()["state"]])


def evaluated(model):
    model.eval()
    with torch.no_grad():
        model(batch(99)[0])
    model.train()


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


def test_a_frozen_layer_stays_exactly_and_may_thaw():
    model, opt = trained(untuned.Auto)
    before, W = averages(model), iterates(model, opt)
    seen = []
    model[0].register_forward_hook(lambda layer, *_: seen.append(layer.weight.detach().clone()))
    model[0].requires_grad_(False)
    train(model, opt, range(6, 10))  # the first of them finds gradients of before
    model.eval()(batch(0)[0]), model.train()
    assert all(torch.equal(each, before["0.weight"]) for each in seen)
    assert torch.equal(model[0].weight, before["0.weight"])
    assert not torch.equal(model[2].weight, before["2.weight"])
    model[0].requires_grad_(True)
    seen.clear()
    train(model, opt, [10])
    assert torch.equal(seen[0], W["0.weight"])  # it goes on from where it was
    assert opt.state[model[0].weight][COUNT] == 7
    assert opt.state[model[2].weight][COUNT] == 11


def test_a_layer_that_is_thawed_begins_its_average_then():
    torch.manual_seed(0)
    model = perceptron()
    model[0].requires_grad_(False)
    opt = untuned.Auto(model)
    train(model, opt, range(5))
    model[0].requires_grad_(True)
    train(model, opt, [5])
    state = opt.state[model[0].weight]
    assert torch.equal(state[ITERATE], model[0].weight)
    assert state[COUNT] == 1


def test_a_layer_frozen_with_gradients_moves_as_torch_would_move_it():
    """Gradients of before the freezing are there: what the module holds is what moves."""
    model, opt = trained(untuned.Auto)
    loss_of(model, 6).backward()
    model.state_dict()
    model[0].requires_grad_(False)
    before = averages(model)
    opt.step()
    weight = model[0].weight
    assert 0 < (weight - before["0.weight"]).abs().max() < 0.1
    assert torch.equal(opt.state[weight][ITERATE], weight)


@pytest.mark.usefixtures("_eyes")
@pytest.mark.filterwarnings("ignore::untuned.errors.NonFiniteGradientWarning")
def test_gradients_that_are_not_finite_change_neither():
    model, opt = trained(untuned.Auto)
    x, W = averages(model), iterates(model, opt)
    counts = [float(state[COUNT]) for state in opt.state.values()]
    opt.zero_grad()
    (loss_of(model, 6) * float("nan")).backward()
    opt.step()
    assert opt.skipped_steps == 1
    assert equal(averages(model), x)
    assert equal(iterates(model, opt), W)
    assert [float(state[COUNT]) for state in opt.state.values()] == counts
    train(model, opt, [7])
    assert not equal(averages(model), x)


@pytest.mark.usefixtures("_eyes")
def test_a_first_step_that_is_not_finite_begins_nothing():
    torch.manual_seed(0)
    model = perceptron()
    before = averages(model)
    opt = untuned.Auto(model)
    (loss_of(model, 6) * float("inf")).backward()
    with pytest.warns(NonFiniteGradientWarning):
        opt.step()
    assert equal(averages(model), before)
    train(model, opt, [0])
    assert equal(averages(model), iterates(model, opt))
    assert {float(state[COUNT]) for state in opt.state.values()} == {1.0}


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


def saved(model, opt):
    file = io.BytesIO()
    torch.save([model.state_dict(), opt.state_dict()], file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("weights_first", [True, False])
@pytest.mark.parametrize("amid", [False, True])
def test_what_is_loaded_goes_on_bit_for_bit(weights_first, amid):
    model, opt = trained(untuned.Auto)
    train(model, opt, range(6, 9))  # so that no pass is looked at: the look is not saved
    if amid:
        loss_of(model, 50).backward()
    weights, state = saved(model, opt)
    torch.manual_seed(1)
    other = perceptron()
    if weights_first:
        other.load_state_dict(weights)
    its = untuned.Auto(other)
    its.load_state_dict(state)
    if not weights_first:
        other.load_state_dict(weights)
    train(model, opt, range(9, 15))
    train(other, its, range(9, 15))
    assert equal(everything(model, opt), everything(other, its))


@pytest.mark.parametrize("weights_first", [True, False])
@pytest.mark.parametrize("amid", [False, True])
def test_a_rewind_goes_the_same_way_again(weights_first, amid):
    model, opt = trained(untuned.Auto)
    weights, state = saved(model, opt)
    train(model, opt, range(6, 12))
    expected = everything(model, opt)
    if amid:
        loss_of(model, 50).backward()
    if weights_first:
        model.load_state_dict(weights)
    opt.load_state_dict(state)
    if not weights_first:
        model.load_state_dict(weights)
    train(model, opt, range(6, 12))
    assert equal(everything(model, opt), expected)


def by_loading(model, weights):
    model.load_state_dict(weights)


def by_loading_a_part(model, weights):
    model[0].load_state_dict({name[2:]: w for name, w in weights.items() if name[0] == "0"})


@torch.no_grad()
def by_copying(model, weights):
    for name, p in model.named_parameters():
        p.copy_(weights[name])


@pytest.mark.parametrize("amid", [False, True])
@pytest.mark.parametrize("write", [by_loading, by_loading_a_part, by_copying])
def test_the_iterate_begins_anew_where_weights_are_written_to(write, amid):
    model, opt = trained(untuned.Auto)
    if amid and write is not by_copying:
        loss_of(model, 50).backward()
    torch.manual_seed(1)
    new = averages(perceptron())
    write(model, new)
    opt.zero_grad()
    loss_of(model, 6).backward()
    now = averages(model)
    names = [name for name in new if name[0] == "0" or write is not by_loading_a_part]
    assert all(torch.equal(now[name], new[name]) for name in names)
    opt.step()
    for name in names:
        p = model.get_parameter(name)
        assert opt.state[p][COUNT] == 1
        assert torch.equal(opt.state[p][ITERATE], p)
    assert {float(state[COUNT]) for state in opt.state.values()} <= {1.0, 7.0}


def test_weights_move_to_another_type_with_their_iterates():
    model, opt = trained(untuned.Auto)
    W = {name: w.double() for name, w in iterates(model, opt).items()}
    model.double()
    opt.zero_grad()
    loss_of(model, 7).backward()
    assert equal(gradients(model), gradients_at(model, W, 7))
    opt.step()
    assert all(state[ITERATE].dtype == torch.float64 for state in opt.state.values())


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


def by_hand(model, step):
    for name, grad in gradients_at(model, averages(model), step).items():
        model.get_parameter(name).grad = grad


def by_functional_call(model, step):
    """A loss of weights that are handed in, whose gradient a transform finds."""

    def loss(weights):
        x, labels = batch(step)
        found = torch.func.functional_call(model, weights, (x,))
        return nn.functional.cross_entropy(found, labels)

    grads = torch.func.grad(loss)({name: p.detach() for name, p in model.named_parameters()})
    for name, p in model.named_parameters():
        p.grad = grads[name]


@pytest.mark.parametrize("make", [by_hand, by_functional_call])
def test_weights_whose_passes_cannot_be_seen_move_as_without_an_average(make):
    def moved(average, told):
        torch.manual_seed(0)
        model = perceptron()
        opt = untuned.Auto(model, average=average)
        with told:
            for step in range(20):
                make(model, step)
                opt.step()
        assert {group["power"] for group in opt.param_groups} == {1.0}
        return everything(model, opt)

    with pytest.warns(AverageWarning) as caught:
        found = moved(None, contextlib.nullcontext())
    assert len(caught) == 1
    # data cannot be seen either, so both take them to be of size one
    assert equal(found, moved(False, contextlib.nullcontext()))


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


def test_a_state_may_be_loaded_by_an_optimizer_that_does_not_average():
    """It goes on from the average, and says so."""
    model, opt = trained(untuned.Auto)
    weights, state = saved(model, opt)
    other = perceptron()
    other.load_state_dict(weights)
    its = untuned.Auto(other, average=False)
    its.load_state_dict(state)
    with pytest.warns(AverageWarning):
        train(other, its, [6])
    assert not any(ITERATE in each for each in its.state.values())
    moved = (other[0].weight - weights["0.weight"]).norm() / weights["0.weight"].norm()
    assert 0 < moved < 0.1


def test_a_step_that_moves_nothing_leaves_averages_as_they_are():
    """As torch takes it to allocate a state (lr=0, zero gradients)."""
    model, opt = trained(untuned.Auto)
    before = everything(model, opt)
    for group in opt.param_groups:
        group["lr"] = 0.0
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    opt.step()
    found = everything(model, opt)
    assert equal(found[0], before[0])
    for state, its in zip(found[1].values(), before[1].values(), strict=True):
        assert equal(state[ITERATE], its[ITERATE])
        assert equal(state[COUNT], its[COUNT])


def test_weights_that_are_not_the_optimizers_may_stand_before_its_own():
    """As a base of 8 bits does, below what is trained."""
    torch.manual_seed(0)
    model = perceptron()
    base = nn.Parameter(torch.ones(2, dtype=torch.int8), requires_grad=False)
    model.register_parameter("base", base)
    assert next(model.parameters()) is base
    opt = untuned.Auto(model)
    train_first = [p for p in model.parameters() if p is not base]
    for step in range(3):
        opt.zero_grad()
        x, labels = batch(step)
        nn.functional.cross_entropy(model(x), labels).backward()
        opt.step()
    assert all(opt.state[p][COUNT] == 3 for p in train_first)


def test_what_another_optimizer_does_stays():
    """Auto's hooks are still there when a network goes on to train with SGD."""
    model, _ = trained(untuned.Auto)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    train(model, sgd, [6])  # from the iterate, which Auto had there
    twin = copy.deepcopy(model)
    other = torch.optim.SGD(twin.parameters(), lr=0.1)
    for step in range(7, 10):
        train(model, sgd, [step])
        train(twin, other, [step])
        evaluated(model)
        assert equal(dict(model.state_dict()), dict(twin.state_dict()))
