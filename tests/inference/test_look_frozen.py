"""What frozen and detached layers make is no data to those behind them, also once they thaw."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import untuned
from support.chains import bare_chain
from support.looks import hooks, network, size, train


@pytest.mark.parametrize("no_grad", [False, True])
def test_what_frozen_layers_make_is_no_data(no_grad):
    net = bare_chain(3, gain=1.3)
    net[:4].requires_grad_(False)
    opt = untuned.Auto(net, average=False)

    def loss():
        with torch.set_grad_enabled(not no_grad):
            hidden = net[:4](torch.full((3, 8), 5.0, dtype=torch.float64))
        return net[4](hidden).sum()

    train(opt, loss if no_grad else lambda: net(torch.full((3, 8), 5.0).double()).sum())
    assert size(opt, net[4].weight) == 1


def test_what_was_detached_is_no_data():
    net = bare_chain(3, gain=1.3)
    opt = untuned.Auto(net, average=False)

    def loss():
        hidden = net[0](torch.full((3, 8), 5.0).double())
        return hidden.sum() + net[2](hidden.detach()).sum()

    train(opt, loss)
    assert (size(opt, net[0].weight), size(opt, net[2].weight)) == (5, 1)


@pytest.mark.parametrize("freeze", ["head first", "turns"])
def test_layers_that_thaw_train_as_those_that_were_never_frozen(freeze):
    """Hidden activations shrink to a hundredth on their way: no step may be divided by them."""
    net = bare_chain(12, gain=1.3)
    with torch.no_grad():
        net[0].weight.mul_(0.01)
    opt = untuned.Auto(net, average=False)
    xs, ys = torch.randn(64, 8).double(), torch.randn(64, 8).double()
    layers = [m for m in net if isinstance(m, nn.Linear)]
    worst = 0.0
    for step in range(60):
        turn = (step // 5) % 2
        for number, layer in enumerate(layers):
            moves = number == 11 or step >= 20
            if freeze == "turns":  # the upper half, the lower half
                moves = (number < 6) == bool(turn)
            layer.weight.requires_grad_(moves)
        loss = F.mse_loss(net(xs), ys)
        worst = max(worst, loss.item())
        train(opt, lambda: F.mse_loss(net(xs), ys))
    assert all(size(opt, layer.weight) == 1 for layer in layers[1:])
    assert worst < 10


def test_data_of_a_first_layer_that_thaws_are_known_at_its_first_step():
    net = network()
    net[0].requires_grad_(False)
    opt = untuned.Auto(net, average=False)
    loss = lambda: net(torch.full((3, 4), 5.0)).sum()  # noqa: E731
    train(opt, loss, 10)
    assert not hooks(net)
    net[0].requires_grad_(True)
    train(opt, loss)
    assert size(opt, net[0].weight) == 5
    assert hooks(net)
    train(opt, loss, 8)
    assert not hooks(net)
