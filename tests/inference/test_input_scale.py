"""What the state of Auto remembers of the sizes of data, through loads and odd batches."""

import warnings

import pytest
import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict
from torch.func import functional_call, grad, vmap

import untuned
from support.networks import equal, snapshot
from untuned.errors import NonFiniteGradientWarning
from untuned.rules.auto import INPUT


def network():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


def train(net, opt, inputs, steps=8):
    for _ in range(steps):
        opt.zero_grad()
        net(inputs).sum().backward()
        opt.step()


def looking(net):
    """How many hooks there are."""
    return sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in net.modules())


def test_loading_a_state_does_not_end_the_look():
    """Accelerate loads what it has just saved before the first step."""
    net = network()
    opt = untuned.Auto(net, average=False)
    opt.load_state_dict(opt.state_dict())
    train(net, opt, torch.full((3, 4), 5.0))
    assert opt.state[net[0].weight][INPUT] == 5.0
    assert not looking(net)


def test_a_loaded_state_knows_better():
    net, resumed = network(), network()
    opt, other = untuned.Auto(net, average=False), untuned.Auto(resumed, average=False)
    train(net, opt, torch.full((3, 4), 5.0))
    other.load_state_dict(opt.state_dict())
    train(resumed, other, torch.full((3, 4), 7.0))
    assert other.state[resumed[0].weight][INPUT] == 5.0
    assert not looking(resumed)


def test_a_checkpoint_of_before_the_first_step_does_not_end_the_look():
    """torch's distributed checkpoints take a step at a rate of zero, to have states made."""
    net, other = network(), network()
    other.load_state_dict(net.state_dict())
    opt, plain = untuned.Auto(net, average=False), untuned.Auto(other, average=False)
    get_optimizer_state_dict(net, opt)
    assert looking(net)
    for model, optimizer in ((net, opt), (other, plain)):
        train(model, optimizer, torch.full((3, 4), 5.0))
    assert opt.state[net[0].weight][INPUT] == 5.0
    assert opt.state[net[2].weight][INPUT] == 1.0
    assert not looking(net)
    assert equal(opt.state_dict(), plain.state_dict())
    assert equal(snapshot(net), snapshot(other))


@pytest.mark.parametrize("kind", [float, torch.tensor])
def test_a_warm_up_that_starts_at_zero_keeps_what_was_seen(kind):
    net = network()
    opt = untuned.Auto(net, lr=kind(0.0), average=False)
    train(net, opt, torch.full((3, 4), 5.0), 2)
    for group in opt.param_groups:
        group["lr"] = kind(0.5)
    train(net, opt, torch.full((3, 4), 7.0), 6)
    expected = torch.tensor((2 * 25 + 6 * 49) / 8).sqrt()
    torch.testing.assert_close(opt.state[net[0].weight][INPUT], expected)
    assert not looking(net)


def test_layers_that_an_optimizer_has_no_use_for_leave_no_state():
    """A base of 8 bits, as quantised models have, below what is trained."""
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    net[0].weight = nn.Parameter(torch.ones(8, 4, dtype=torch.int8), requires_grad=False)
    net[0].forward = lambda x: x @ net[0].weight.float().T
    opt = untuned.Auto(net, average=False)
    net(torch.ones(3, 4)).sum().backward()
    opt.step()
    assert net[0].weight not in opt.state
    assert opt.state_dict()["state"]


@pytest.mark.parametrize("odd", [float("inf"), float("nan"), 1e30, 0.0])
def test_a_batch_without_a_size_counts_as_of_size_one(odd):
    """Its steps are skipped, if it is not finite; those of the next move the first layer."""
    net = network()
    opt = untuned.Auto(net, average=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NonFiniteGradientWarning)
        train(net, opt, torch.full((3, 4), odd), 2)
    assert opt.state[net[0].weight][INPUT] == 1.0
    before = net[0].weight.clone()
    train(net, opt, torch.ones(3, 4), 2)
    assert not torch.equal(net[0].weight, before)


def sparse(layout):
    values = torch.rand(6, 4).where(torch.rand(6, 4) > 0.5, 0.0)
    return values.to_sparse(layout=layout), values


def nested(layout):
    parts = [torch.rand(2, 4), torch.rand(4, 4)]
    return torch.nested.nested_tensor(parts, layout=layout), torch.cat(parts)


@pytest.mark.filterwarnings("ignore:.*(beta|prototype)")
@pytest.mark.parametrize(
    ("kind", "layout"),
    [
        (sparse, torch.sparse_coo),
        (sparse, torch.sparse_csr),
        (sparse, torch.sparse_csc),
        (nested, torch.jagged),
        (nested, torch.strided),
    ],
)
def test_data_may_have_any_layout_that_a_layer_takes(kind, layout):
    data, values = kind(layout)
    net = nn.Linear(4, 2)
    opt = untuned.Auto(net, average=False)
    made = net(data)
    (made.values() if made.is_nested else made).sum().backward()
    opt.step()
    expected = values.square().mean().sqrt()
    torch.testing.assert_close(opt.state[net.weight][INPUT], expected)


def test_function_transforms_may_go_through_a_network_that_is_looked_at():
    """What they call a module with is no data yet, but their own stand-in for it."""
    net = network()
    opt = untuned.Auto(net, average=False)
    weights = dict(net.named_parameters())

    def loss(weights, x):
        return functional_call(net, weights, (x,)).sum()

    grads = vmap(grad(loss), (None, 0))(weights, torch.ones(3, 4))
    for name, weight in weights.items():
        weight.grad = grads[name].mean(0)
    before = net[0].weight.clone()
    opt.step()
    assert not torch.equal(net[0].weight, before)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::untuned.errors.UnseenInputsWarning")
def test_scripted_modules_train_though_they_take_no_hooks():
    net = torch.jit.script(network())
    opt = untuned.Auto(net, average=False)
    before = snapshot(net)
    train(net, opt, torch.ones(3, 4))
    assert not equal(snapshot(net), before)
