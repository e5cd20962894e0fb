"""What Auto promises: no unit matters, and what has no gradient stays."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import untuned
from support.networks import equal, snapshot


def chain(depth, width=16, norm=False):
    layers = [nn.Linear(width, width, bias=False) for _ in range(depth)]
    modules = [module for layer in layers for module in (layer, nn.ReLU())][:-1]
    if norm:  # before the head
        modules.insert(-1, nn.LayerNorm(width, elementwise_affine=False, eps=0.0))
    return nn.Sequential(*modules).double()


def degree(opt):
    group = opt.param_groups[0]
    product, square = (group[f"floor0/network.{name}"] for name in ("product", "square"))
    return float(product / square)


@pytest.mark.parametrize(
    ("net", "expected"), [(chain(3), 3), (chain(12), 12), (chain(6, norm=True), 1)]
)
def test_the_degree_is_how_the_function_grows_with_its_weights(net, expected):
    """Measured from the function itself, and by the optimizer from gradients."""
    torch.manual_seed(0)
    for layer in net:
        if isinstance(layer, nn.Linear):
            nn.init.orthogonal_(layer.weight, gain=1.4)
    x = torch.randn(32, 16, dtype=torch.float64)
    grown = copy.deepcopy(net)
    with torch.no_grad():
        for weight in grown.parameters():
            weight.mul_(1.001)
        ratio = grown(x).norm() / net(x).norm()
    assert math.log(ratio) / math.log(1.001) == pytest.approx(expected, rel=1e-6)
    opt = untuned.Auto(net, average=False)
    for _ in range(3):
        opt.zero_grad()
        F.cross_entropy(net(x), torch.randint(16, (32,))).backward()
        opt.step()
    assert degree(opt) == pytest.approx(expected, rel=1e-6)


def trained(net, xs, scale=1.0, steps=10, horizon=None):
    opt = untuned.Auto(net, average=False)
    if horizon is not None:
        for group in opt.param_groups:
            group["horizon"] = horizon
    for step in range(steps):
        torch.manual_seed(step)
        opt.zero_grad()
        (scale * F.cross_entropy(net(xs), torch.randint(16, (len(xs),)))).backward()
        opt.step()
    return net


def test_the_unit_of_the_loss_does_not_matter():
    xs = torch.randn(32, 16, dtype=torch.float64)
    nets = [chain(4) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    one, other = (trained(net, xs, scale) for net, scale in zip(nets, (1.0, 1e-4), strict=True))
    for ours, theirs in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-9)


def test_the_unit_of_the_data_does_not_matter():
    """Data a thousand times smaller, first weights as many times larger: the same functions."""
    xs = torch.randn(32, 16, dtype=torch.float64)
    one, other = chain(4), chain(4)
    other.load_state_dict(one.state_dict())
    with torch.no_grad():
        other[0].weight.mul_(1000)
    trained(one, xs), trained(other, xs / 1000)
    torch.testing.assert_close(one(xs), other(xs / 1000), rtol=1e-4, atol=1e-7)


@pytest.mark.filterwarnings("ignore::untuned.errors.HorizonWarning")
@pytest.mark.parametrize("horizon", [0.0, 8.0])
def test_a_horizon_may_be_a_tensor(horizon):
    """And zero is none."""
    xs = torch.randn(32, 16, dtype=torch.float64)
    one, other = chain(4), chain(4)
    other.load_state_dict(one.state_dict())
    trained(one, xs, horizon=horizon), trained(other, xs, horizon=torch.tensor(horizon))
    assert equal(snapshot(one), snapshot(other))


def test_networks_and_optimizers_can_be_copied_before_the_first_step():
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    opt = untuned.Auto(net, average=False)
    twin = copy.deepcopy(net)
    twin(torch.ones(3, 4)).sum().backward()
    copy.deepcopy(opt).step()
    net(torch.ones(3, 4)).sum().backward()
    before = snapshot(net)
    opt.step()
    assert not equal(before, snapshot(net))


@pytest.mark.filterwarnings("ignore::untuned.errors.UnseenInputsWarning")  # set by hand
def test_what_has_no_gradient_stays():
    """A matrix that the loss does not depend on, and one of which the gradients' squares vanish."""
    net = chain(4).float()
    before = snapshot(net)
    opt = untuned.Auto(net, average=False)
    for _ in range(3):
        for weight in net.parameters():
            weight.grad = torch.zeros_like(weight)
        net[2].weight.grad.fill_(1e-30)
        net[6].weight.grad.normal_()
        opt.step()
    after = snapshot(net)
    assert [equal(a, b) for a, b in zip(before, after, strict=True)] == [True, True, True, False]


def test_micro_batches_train_as_one_batch():
    xs = F.normalize(torch.randn(32, 16, dtype=torch.float64), dim=1) * 4  # every part of one size
    whole, parts = chain(4), chain(4)
    parts.load_state_dict(whole.state_dict())
    labels = torch.randint(16, (32,))
    for net, count in ((whole, 1), (parts, 4)):
        opt = untuned.Auto(net, average=False)
        for _ in range(10):
            opt.zero_grad()
            for x, y in zip(xs.chunk(count), labels.chunk(count), strict=True):
                (F.cross_entropy(net(x), y) / count).backward()
            opt.step()
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9)


class Sines(nn.Module):
    """A function whose hidden layers multiply by thirty, with weights as small (SIREN)."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(1, 32), nn.Linear(32, 32), nn.Linear(32, 32)])
        self.head = nn.Linear(32, 1)
        for place, layer in enumerate([*self.layers, self.head]):
            bound = math.sqrt(6 / 32) / 30 if place else 1.0
            nn.init.uniform_(layer.weight, -bound, bound)

    def forward(self, x):
        for layer in self.layers:
            x = torch.sin(30 * layer(x))
        return self.head(x)


@pytest.mark.parametrize("seed", [0, 1])
def test_where_the_function_moves_further_than_the_weights_steps_are_short(seed):
    torch.manual_seed(seed)
    x = torch.linspace(-1, 1, 128)[:, None]
    y = sum(torch.sin(k * math.pi * x + k) for k in range(1, 13)) / math.sqrt(6)  # variance one

    def trained(optimizer):
        torch.manual_seed(seed)
        net = Sines()
        opt = optimizer(net)
        for _ in range(500):
            opt.zero_grad()
            F.mse_loss(net(x), y).backward()
            opt.step()
        return F.mse_loss(net.eval()(x), y).item()

    adamw = trained(lambda net: torch.optim.AdamW(net.parameters(), lr=1e-4))
    assert trained(untuned.Auto) < min(1e-3, adamw)
