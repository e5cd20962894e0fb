"""Which inputs Auto takes for data, and from which passes: sizes are computed by hand."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, prune, rnn
from torch.utils.checkpoint import checkpoint

import untuned
from support.looks import hooks, network, size, train
from support.networks import equal, snapshot
from untuned.rules.auto import INPUT


def seen(net, *args, weight=None, **kwargs):
    """The size of what a weight, or the first, has seen in a step."""
    opt = untuned.Auto(net, average=False)
    train(opt, lambda: out_of(net(*args, **kwargs)).sum())
    return size(opt, next(net.parameters()) if weight is None else weight)


def out_of(output):
    output = output[0] if isinstance(output, tuple) else output
    return output.data if isinstance(output, rnn.PackedSequence) else output


def test_the_size_is_the_root_mean_square_over_the_first_steps():
    net = network()
    opt = untuned.Auto(net, average=False)
    for step in range(12):
        train(opt, lambda step=step: net(torch.full((3, 4), step + 1.0)).sum())
        assert bool(hooks(net)) == (step < 7)
        squares = [(t + 1) ** 2 for t in range(min(step + 1, 8))]
        mean = (sum(squares) / len(squares)) ** 0.5
        assert size(opt, net[0].weight) == pytest.approx(mean, rel=1e-6)
        assert size(opt, net[2].weight) == 1


@pytest.mark.parametrize("probe", ["zeros", "no gradient", "evaluation", "no step"])
def test_only_passes_count_whose_gradients_arrive(probe):
    net = network()
    opt = untuned.Auto(net, average=False)
    if probe == "zeros":
        net(torch.zeros(1, 4))
    elif probe == "no gradient":
        with torch.no_grad():
            net(torch.full((3, 4), 100.0))
    elif probe == "evaluation":
        net.eval()(torch.full((3, 4), 100.0)).sum().backward()
        net.train()
    else:
        net(torch.full((3, 4), 100.0)).sum()
    train(opt, lambda: net(torch.full((3, 4), 5.0)).sum())
    assert size(opt, net[0].weight) == 5


def test_a_network_that_trains_in_evaluation_mode_is_seen():
    assert seen(network().eval(), torch.full((3, 4), 5.0)) == 5


def test_micro_batches_count_alike():
    net = network()
    opt = untuned.Auto(net, average=False)
    train(opt, lambda: net(torch.full((3, 4), 3.0)).sum() + net(torch.full((5, 4), 5.0)).sum())
    assert size(opt, net[0].weight) == pytest.approx(17**0.5)


class Recurrence(nn.Module):
    """Its first state is noise. Inputs are added to states, or to what a layer makes of them."""

    def __init__(self, add):
        super().__init__()
        self.cell, self.head, self.add = nn.Linear(4, 4), nn.Linear(4, 2), add

    def forward(self, xs):
        state = 0.1 * torch.ones(3, 4)
        for x in xs:
            state = self.cell(state + x) if self.add else self.cell(state) + x
            state = torch.tanh(state)
        return self.head(state)


def test_the_first_state_of_a_recurrence_is_one_input_of_many():
    """States that the network has made count as of size one."""
    net = Recurrence(add=False)
    expected = ((0.01 + 4) / 5) ** 0.5
    assert seen(net, torch.ones(5, 3, 4)) == pytest.approx(expected)


def test_large_inputs_added_to_states_are_seen():
    found = seen(Recurrence(add=True), torch.full((5, 3, 4), 100.0))
    assert found == pytest.approx(100, rel=0.02)


def test_packed_sequences_are_data():
    xs = [torch.full((n, 4), 5.0) for n in (3, 2)]
    assert seen(nn.LSTM(4, 3), rnn.pack_sequence(xs)) == 5


def test_data_may_require_gradients():
    """As in physics-informed networks, also if they were scaled."""
    x = torch.full((3, 4), 5.0, requires_grad=True)
    assert seen(network(), x) == 5
    assert seen(network(), 2 * x) == 10


def test_keyword_arguments_are_data():
    assert seen(nn.Linear(4, 2), input=torch.full((3, 4), 5.0)) == 5
    state = torch.ones(1, 3, 2), torch.ones(1, 3, 2)
    assert seen(nn.LSTM(4, 2), hx=state, input=torch.full((5, 3, 4), 5.0)) == 5


class Own(nn.Module):
    """A linear layer of one's own."""

    def __init__(self, name):
        super().__init__()
        self.name = name
        self.register_parameter(name, nn.Parameter(torch.randn(2, 4)))

    def forward(self, mask, x):
        return F.linear(x, getattr(self, self.name)) * mask


@pytest.mark.parametrize("name", ["weight", "table"])
def test_layers_of_ones_own_see_what_fits_their_matrix(name):
    assert seen(Own(name), torch.full((3, 1), 9.0), torch.full((3, 4), 5.0)) == 5


def test_functional_calls_are_seen():
    net = nn.Sequential(network())
    opt = untuned.Auto(net, average=False)
    others = {name: weight * 1.0 for name, weight in net.named_parameters()}
    x = torch.full((3, 4), 5.0)
    train(opt, lambda: torch.func.functional_call(net, others, (x,)).sum())
    assert (size(opt, net[0][0].weight), size(opt, net[0][2].weight)) == (5, 1)


@pytest.mark.parametrize("mapped", [False, True])
def test_function_transforms_are_seen_through(mapped):
    net = network()
    opt = untuned.Auto(net, average=False)
    weights = dict(net.named_parameters())

    def loss(weights, x):
        return torch.func.functional_call(net, weights, (x,)).sum()

    found = torch.func.grad(loss)
    if mapped:
        found = torch.func.vmap(found, (None, 0))
    for name, grad in found(weights, torch.arange(12.0).view(3, 4)).items():
        weights[name].grad = grad.mean(0) if mapped else grad
    opt.step()
    expected = float(torch.arange(12.0).square().mean().sqrt())
    assert size(opt, net[0].weight) == pytest.approx(expected)
    assert size(opt, net[2].weight) == 1


NORMS = {
    "weight norm, old": torch.nn.utils.weight_norm,
    "weight norm": parametrizations.weight_norm,
    "spectral norm, old": torch.nn.utils.spectral_norm,
    "spectral norm": parametrizations.spectral_norm,
}


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("kind", NORMS)
def test_norms_of_weights_have_the_size_of_data_where_that_matters(kind):
    """In the size of a weight norm. The rest is a direction, the same in any unit."""
    layer = NORMS[kind](nn.Linear(4, 2, bias=False))
    opt = untuned.Auto(layer, average=False)
    train(opt, lambda: layer(torch.full((3, 4), 5.0)).sum())
    found = {name: opt.state[weight].get(INPUT) for name, weight in layer.named_parameters()}
    scales = [name for name in found if name.endswith(("_g", "original0"))]
    assert len(scales) == (kind.startswith("weight"))
    assert {name for name, value in found.items() if value == 5} == set(scales)


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("kind", ["weight norm, old", "weight norm"])
def test_with_weight_norm_the_unit_of_the_data_does_not_matter(kind):
    xs, labels = torch.randn(32, 4, dtype=torch.float64), torch.randint(2, (32,))
    nets = [network().double() for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    for net in nets:
        NORMS[kind](net[0])
    with torch.no_grad():
        (getattr(nets[1][0], "weight_g", None) if "old" in kind else
         nets[1][0].parametrizations.weight.original0).mul_(1000)  # fmt: skip
    for net, scale in zip(nets, (1.0, 1e-3), strict=True):
        opt = untuned.Auto(net, average=False)
        train(opt, lambda net=net, scale=scale: F.cross_entropy(net(scale * xs), labels), 10)
    torch.testing.assert_close(nets[0](xs), nets[1](xs / 1000), rtol=1e-4, atol=1e-6)


def test_a_pruned_layer_of_which_nothing_is_missing_trains_as_any_other():
    nets = [network() for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    prune.identity(nets[1][0], "weight")
    for net in nets:
        opt = untuned.Auto(net, average=False)
        train(opt, lambda net=net: net(torch.full((3, 4), 5.0)).square().sum(), 10)
    x = torch.randn(3, 4)
    assert torch.equal(nets[0](x), nets[1](x))


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_activations_are_no_data(reentrant):
    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.body = nn.Linear(4, 4), nn.Sequential(nn.ReLU(), nn.Linear(4, 2))

        def forward(self, x):
            return checkpoint(self.body, self.first(x) * 10, use_reentrant=reentrant)

    net = Checkpointed()
    opt = untuned.Auto(net, average=False)
    train(opt, lambda: net(torch.full((3, 4), 5.0)).sum())
    assert (size(opt, net.first.weight), size(opt, net.body[1].weight)) == (5, 1)


@pytest.mark.parametrize("way", ["load", "clear"])
def test_sizes_outlive_a_learning_rate_finder(way):
    net = network()
    opt = untuned.Auto(net, average=False)
    before = copy.deepcopy((opt.state_dict(), net.state_dict()))
    train(opt, lambda: net(torch.full((3, 4), 5.0)).sum(), 10)
    opt.load_state_dict(before[0]) if way == "load" else opt.state.clear()
    net.load_state_dict(before[1])
    train(opt, lambda: net(torch.full((3, 4), 5.0)).sum())
    assert size(opt, net[0].weight) == 5
    assert hooks(net)  # and the look begins anew
    train(opt, lambda: net(torch.full((3, 4), 5.0)).sum(), 8)
    assert not hooks(net)


def test_a_look_goes_on_where_a_checkpoint_stopped():
    nets = [network() for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    one, other = (untuned.Auto(net, average=False) for net in nets)
    for step in range(12):
        if step == 3:
            nets[1] = network()
            nets[1].load_state_dict(nets[0].state_dict())
            other = untuned.Auto(nets[1], average=False)
            other.load_state_dict(one.state_dict())
        x = torch.full((3, 4), step + 1.0)
        train(one, lambda x=x: nets[0](x).square().sum())
        train(other, lambda x=x: nets[1](x).square().sum())
        assert bool(hooks(nets[1])) == (step < 7)
    assert equal(one.state_dict(), other.state_dict())
    assert equal(snapshot(nets[0]), snapshot(nets[1]))


def test_data_beside_frozen_layers_are_data():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.frozen, self.beside = nn.Linear(4, 2).requires_grad_(False), nn.Linear(3, 2)

        def forward(self, x, y):
            return self.frozen(x) + self.beside(y)

    net = Two()
    assert seen(net, torch.ones(5, 4), torch.full((5, 3), 7.0), weight=net.beside.weight) == 7
