"""Low-rank adapters: their rank's and their scale's units do not matter."""

import copy

import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig, inject_adapter_in_model
from torch import nn

import untuned


def adapted(base, rank, alpha):
    """The base with adapters of both its layers, which alone train."""
    net = copy.deepcopy(base)
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=["0", "2"])
    torch.manual_seed(1)
    return inject_adapter_in_model(config, net).double()


def product(layer):
    """What an adapter adds to its layer's weight."""
    return (
        layer.scaling["default"] * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    )


def train(net, steps):
    opt = untuned.Auto(net, average=False)
    x, labels = torch.randn(64, 16, dtype=torch.float64), torch.randint(8, (64,))
    for _ in range(steps):
        opt.zero_grad()
        F.cross_entropy(net(x), labels).backward()
        opt.step()
    return opt, x


@pytest.fixture
def base():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 8)).double()


def test_the_scale_does_not_matter(base):
    products = []
    for alpha in (4, 64):
        net = adapted(base, 4, alpha)
        torch.manual_seed(2)
        train(net, 20)
        products.append([product(net[0]), product(net[2])])
    for one, other in zip(*products, strict=True):
        assert one.norm() > 0.01
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


def test_the_first_step_that_counts_is_of_the_size_of_a_step(base):
    """What B adds to the outputs, at inputs as they are: the step size, whatever the rank."""
    for rank in (2, 8):
        net = adapted(base, rank, 16)
        torch.manual_seed(2)
        opt, x = train(net, 1)
        added = float((x @ product(net[0]).T).detach().square().mean().sqrt())
        # the five quintic steps leave singular values between 0.7 and 1.2
        assert 0.6 < added / float(opt.param_groups[0]["effective_lr"]) < 1.3
