"""The lab's own networks, against published figures and independent transcriptions."""

import pytest
import torch
from torch import nn

from untuned.lab.workloads.graph import GCN, Graph
from untuned.lab.workloads.networks import Chain, preact_resnet18, resnet20, vgg16


@pytest.mark.parametrize(
    ("network", "published"),
    [
        # arXiv:1512.03385, table 6: 0.27M; exactly, for shortcuts without parameters, as
        # github.com/akamaster/pytorch_resnet_cifar10 counts them
        (resnet20, 269_722),
        # github.com/kuangliu/pytorch-cifar, which leaves out the last norm (2 x 512) that the
        # paper's authors have
        (preact_resnet18, 11_171_146 + 1024),
        # the same, VGG16 with batch norms
        (vgg16, 14_728_266),
    ],
)
def test_parameters_are_as_many_as_published(network, published):
    assert sum(p.numel() for p in network().parameters()) == published


def layers(model, kind):
    return [module for module in model.modules() if isinstance(module, kind)]


def test_depths_are_as_named():
    assert len(layers(resnet20(4), nn.Conv2d | nn.Linear)) == 20
    shortcuts = [c for c in layers(preact_resnet18(4), nn.Conv2d) if c.kernel_size == (1, 1)]
    assert len(layers(preact_resnet18(4), nn.Conv2d | nn.Linear)) - len(shortcuts) == 18
    assert len(layers(vgg16(4), nn.Conv2d)) == 13  # VGG's three dense layers are one for CIFAR-10


@pytest.mark.parametrize("network", [resnet20, preact_resnet18, vgg16])
@pytest.mark.parametrize("size", [16, 32])
def test_convolutions_take_images_of_both_sizes(network, size):
    model = network(4)
    out = model(torch.randn(3, 3, size, size))
    assert out.shape == (3, 10)
    out.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_resnet20_is_the_papers_function():
    """Block by block in float64, with an explicit option-A shortcut."""
    model = resnet20(2).double().eval()
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    want = model[2](model[1](model[0](x)))
    for block in list(model)[3:12]:
        inner = block.norm1(block.conv1(want)).clamp(min=0)
        inner = block.norm2(block.conv2(inner))
        if inner.shape != want.shape:
            padded = torch.zeros_like(inner)
            before = (inner.shape[1] - want.shape[1]) // 2
            padded[:, before : before + want.shape[1]] = want[:, :, ::2, ::2]
            want = padded
        want = (inner + want).clamp(min=0)
    want = want.mean((2, 3)) @ model[-1].weight.T + model[-1].bias
    torch.testing.assert_close(model(x), want)


def test_the_graph_network_is_kipfs_formula():
    """Dense, in float64: A' relu(A' X W1 + b1) W2 + b2 with A' = D^-1/2 (A + I) D^-1/2."""
    torch.manual_seed(0)
    nodes, words = 7, 5
    X = torch.zeros(nodes, words, dtype=torch.float64)
    entries = torch.tensor([[0, 1], [1, 0], [1, 4], [2, 2], [3, 3], [4, 1], [5, 0], [6, 4]])
    X[entries[:, 0], entries[:, 1]] = torch.rand(len(entries), dtype=torch.float64)
    edges = torch.tensor([[0, 0, 1, 3, 5], [1, 2, 4, 5, 6]])
    graph = Graph(X.to_sparse(), torch.zeros(nodes).long(), {}, edges)
    model = GCN(graph, 4, 3).double().eval()

    A = torch.eye(nodes, dtype=torch.float64)
    for one, other in edges.T:
        A[one, other] = A[other, one] = 1
    D = torch.diag(A.sum(1) ** -0.5)
    (W1, b1), (W2, b2) = ((layer.weight.T, layer.bias) for layer in (model.layer1, model.layer2))
    want = D @ A @ D @ torch.relu(D @ A @ D @ X @ W1 + b1) @ W2 + b2
    chosen = torch.tensor([6, 0, 3])
    torch.testing.assert_close(model(chosen), want[chosen], rtol=1e-6, atol=1e-7)


def test_a_chain_keeps_the_size_of_what_passes():
    model = Chain(2, 4096, inputs=64)
    nn.init.orthogonal_(model.layers[0].weight)
    out = model.layers[0](torch.randn(8, 64)).relu() * 2**0.5
    assert out.square().mean().item() == pytest.approx(64 / 4096, rel=0.2)
