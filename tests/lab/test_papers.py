"""What only the reproductions train: networks, the GAN's distance, Nero's ablation, schedules."""

import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from untuned.lab.baselines.nero_ablation import NeroAblation
from untuned.lab.baselines.schedules import factor
from untuned.lab.workloads.data import Labelled
from untuned.lab.workloads.networks import bare, preact_resnet18, resnet18, vgg11, vgg16
from untuned.lab.workloads.papers import vision as papers_vision
from untuned.lab.workloads.papers.adversarial import frechet
from untuned.lab.workloads.registry import find
from untuned.lab.workloads.task import square


def test_bare_networks_have_weights_of_layers_alone():
    for network in (preact_resnet18(4), vgg16(4, classes=100)):
        tensors = dict(bare(network).named_parameters())
        assert all(tensor.ndim >= 2 for tensor in tensors.values())
        layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        assert len(tensors) == len(layers)
        assert network(torch.randn(2, 3, 32, 32)).isfinite().all()


def test_neros_networks_have_its_authors_layers():
    """VGG-11, configuration A (arXiv:1409.1556): convolutions without biases, then dense layers."""
    widths = [3, 64, 128, 256, 256, 512, 512, 512, 512]
    convolutions = sum(9 * a * b for a, b in pairwise(widths))
    dense = sum((a + 1) * b for a, b in pairwise([512, 4096, 4096, 10]))
    network = vgg11()
    assert sum(p.numel() for p in network.parameters()) == convolutions + dense
    assert network(torch.randn(2, 3, 32, 32)).shape == (2, 10)
    assert vgg11(4)(torch.randn(2, 3, 16, 16)).shape == (2, 10)
    # github.com/kuangliu/pytorch-cifar, ResNet18
    assert sum(p.numel() for p in resnet18().parameters()) == 11_173_962
    deviations = [m.weight.std().item() * math.sqrt(m.out_channels * m.kernel_size[0] ** 2)
                  for m in [*network.modules(), *resnet18().modules()]
                  if isinstance(m, nn.Conv2d) and m.weight.numel() > 1e4]  # fmt: skip
    assert deviations == pytest.approx([math.sqrt(2)] * len(deviations), rel=0.05)


def test_images_turn_by_up_to_15_degrees():
    """A ramp turned by an angle a has the gradient (cos a, sin a), where it has not left."""
    side = torch.arange(32.0) - 15.5
    down, right = torch.meshgrid(side, side, indexing="ij")
    turned = papers_vision.turned(right.expand(500, 1, 32, 32) + 100)[:, 0] - 100
    inner = down**2 + right**2 < 144
    along = [(turned[:, inner] * by[inner]).sum(1) / by[inner].square().sum()
             for by in (right, down)]  # fmt: skip
    angles = torch.atan2(along[1], along[0]).rad2deg()
    assert 14 < angles.abs().max() < 15.2  # nearest pixels round the angle, too
    assert angles.std().item() == pytest.approx(15 / math.sqrt(3), rel=0.1)
    torch.testing.assert_close(torch.hypot(*along), torch.ones(500), rtol=0, atol=0.02)
    assert {*turned.unique().tolist()} == {*side.tolist(), -100.0}  # outside is zero


def test_neros_crops_turn_and_have_black_edges():
    mean, deviation = torch.tensor([[0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]])
    black, white = (((grey - mean) / deviation)[:, None, None] for grey in (0, 1))
    augment = papers_vision.CROPPED_AND_TURNED.augment
    found = augment(white.expand(99, 3, 32, 32))
    dark, bright = ((found - grey).abs().amax(1) < 1e-5 for grey in (black, white))
    assert bool((dark | bright).all())
    left, right = dark[:, :, 8].sum(1), dark[:, :, 23].sum(1)  # equal, were images only shifted
    assert (left != right).any()


@pytest.mark.usefixtures("data")
def test_a_chains_shape_is_its_name():
    task = find("fcn6x32-cifar10-bias-b48").at("small")
    model = task.model()
    assert [layer.in_features for layer in model.layers] == [3072, 32, 32, 32, 32, 32]
    assert model.layers[0].bias is not None
    assert task.batch == 48
    assert find("fcn6x32-cifar10").at("small").model().layers[0].bias is None


def test_images_are_treated_as_the_name_says(monkeypatch):
    few = Labelled(torch.rand(9, 3, 32, 32), torch.zeros(9).long())
    monkeypatch.setattr(papers_vision, "parts", lambda *_: (few, few))
    names = (f"fcn2x8-cifar10-bias-b3{end}" for end in ("", "-unaugmented", "-grey"))
    customary, still, grey = (find(name).at("full") for name in names)
    assert (still.batch, still.steps) == (customary.batch, customary.steps)
    # github.com/jxbz/agd, data/cifar10.py: crops are padded with black, then standardised
    mean, deviation = torch.tensor([[0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]])
    black = (-mean / deviation)[:, None, None].expand(9, 3, 32, 32)
    torch.testing.assert_close(customary.augment(black), black)
    torch.testing.assert_close(still.train.inputs - black, few.images / deviation[:, None, None])
    assert still.augment is None
    grey_edges = grey.augment(torch.ones(9, 3, 32, 32))
    assert grey_edges.unique().tolist() == [0.0, 1.0]  # zero is the mean


def test_the_square_loss_is_agds():
    outputs, targets = torch.randn(5, 10), torch.arange(5)
    wanted = torch.zeros(5, 10)
    wanted[torch.arange(5), targets] = math.sqrt(10)
    assert square(outputs, targets) == pytest.approx(((outputs - wanted) ** 2).sum().item() / 50)


def test_the_frechet_distance_of_known_normal_distributions():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200_000, 2, generator=generator, dtype=torch.float64)
    y = torch.randn(200_000, 2, generator=generator, dtype=torch.float64)
    scales = torch.tensor([2.0, 3.0])
    # diagonal covariances: |shift|^2 + the sum of (sigma - sigma')^2
    assert frechet(x, y * scales + 1) == pytest.approx(2 + 1 + 4, rel=0.02)
    assert frechet(x, x) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("mean", [True, False])
@pytest.mark.parametrize("norm", [True, False])
def test_the_ablation_keeps_half_of_the_constraint(mean, norm):
    model = nn.Linear(20, 7)
    optimizer = NeroAblation(model, mean=mean, norm=norm)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(model(torch.randn(9, 20)), torch.arange(9) % 7).backward()
        optimizer.step()
        weight = model.weight.detach()
        centred = weight.mean(1).abs().max() < 1e-6
        unit = (weight.norm(dim=1) - 1).abs().max() < 1e-5
        assert (bool(centred), bool(unit)) == (mean, norm)


def test_the_schedules_of_nero():
    def at(name, *parts):
        return [factor(name, round(part * 1000), 1000) for part in parts]

    assert at("exponential", 0, 0.02, 0.5) == pytest.approx([1, 0.9, 0.9**25])
    # a fiftieth of 12,000 steps: a shorter training is the beginning of the published one
    whole, cut = ([factor("epochwise", step, steps) for step in (0, 240, 2399)]
                  for steps in (12_000, 2400))  # fmt: skip
    assert whole == cut
    assert whole == pytest.approx([factor("exponential", step, 12_000) for step in (0, 240, 2399)])
    assert at("halfway", 0, 0.49, 0.51, 0.99) == pytest.approx([1, 1, 0.1, 0.1])
    assert at("late", 0, 0.82, 0.83) == pytest.approx([1, 1, 0.1])
    # github.com/jxbz/nero, cifar/conf/global_settings.py: warm-up over 5 epochs of 200, then a
    # fifth after 100, 150 and 180
    assert at("fifths", 0.03, 0.499, 0.501, 0.749, 0.751, 0.899, 0.901) == pytest.approx(
        [1, 1, 0.2, 0.2, 0.04, 0.04, 0.008]
    )
    assert at("fifths", 0) == pytest.approx([1 / 25])


@pytest.mark.usefixtures("data")
def test_a_gans_networks_take_turns(go):
    result = go("gan-cifar10", "adamw(lr=1e-3)", steps=4)
    assert [point["step"] for point in result.curve] == [0, 2, 4]
    assert result.curve[0]["metric"] != result.curve[-1]["metric"]
    again = go("gan-cifar10", "adamw(lr=1e-3)", steps=4)
    assert again.curve == result.curve
