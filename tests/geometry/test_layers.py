"""Layers: the table of radii, the dual's defining property, initialisation."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from untuned.errors import ParameterError
from untuned.geometry import assignment, by_shape
from untuned.geometry.block_vector import BlockVector
from untuned.geometry.layers import (
    HEAD,
    Bias,
    Conv,
    Dense,
    Embedding,
    Gain,
    Head,
    Rows,
    Stack,
    Vector,
)

# layer, shape, and what the table in layers.py says: how many blocks, and the radius of each
TABLE = [
    (Dense(), (6, 4), 1, math.sqrt(6 / 4)),
    (Dense(transposed=True), (4, 6), 1, math.sqrt(6 / 4)),
    (Dense(parts=3), (12, 4), 3, 1.0),
    (Dense(parts=3, transposed=True), (4, 12), 3, 1.0),
    (Dense(parts=4), (8, 5), 4, math.sqrt(2 / 5)),
    (Dense(), (6, 4, 5), 1, math.sqrt(6 / 20)),
    (Conv(), (6, 4, 3, 5), 15, math.sqrt(6 / 4 / 15)),
    (Conv(), (6, 4, 3), 3, math.sqrt(6 / 4 / 3)),
    (Conv(), (6, 4, 2, 2, 2), 8, math.sqrt(6 / 4 / 8)),
    (Conv(groups=3), (6, 2, 3, 3), 3, 1.0),
    (Conv(groups=6), (6, 1, 3, 3), 6, 1.0),
    (Conv(groups=6), (12, 1, 3, 3), 6, math.sqrt(2)),
    (Conv(transposed=True), (4, 6, 3, 3), 9, math.sqrt(6 / 4 / 9)),
    (Conv(transposed=True, stride=4), (4, 6, 2, 2), 4, math.sqrt(6 / 4)),
    (Embedding(), (10, 9), 10, 3.0),
    (Embedding(size=1 / 3), (10, 9), 10, 1.0),
    (Rows(), (1, 10, 9), 10, 3.0),
    (Vector(), (9,), 1, 3.0),
    (Vector(), (), 1, 1.0),
    (Vector(), (1, 1, 9), 1, 3.0),
    (Bias(parts=4), (16,), 4, 2.0),
    (Stack(), (5, 6, 4), 5, math.sqrt(6 / 4)),
    (Stack(), (2, 5, 6, 4), 10, math.sqrt(6 / 4)),
]


@pytest.mark.parametrize(("layer", "shape", "blocks", "radius"), TABLE, ids=str)
def test_the_table_of_geometries(layer, shape, blocks, radius):
    frame = BlockVector([layer], [shape])
    found = frame.radius(torch.zeros((), dtype=torch.float64))
    torch.testing.assert_close(found, torch.full((blocks,), radius, dtype=torch.float64))


@pytest.mark.parametrize(("layer", "shape", "blocks", "radius"), TABLE, ids=str)
def test_blocks_partition_the_tensor(layer, shape, blocks, radius):
    """Squared norms of the blocks add up to the tensor's, and each entry has one block."""
    frame = BlockVector([layer], [shape])
    tensor = torch.randn(shape, dtype=torch.float64)
    torch.testing.assert_close(frame.norms([tensor]).square().sum(), tensor.square().sum())
    numbers = frame.spread(torch.arange(1.0, blocks + 1))[0]
    seen = (frame.views([torch.ones(shape)])[0] * numbers).flatten().unique(return_counts=True)
    assert seen[0].tolist() == list(range(1, blocks + 1))
    assert seen[1].unique().numel() == 1


def dual(layer, grad):
    frame = BlockVector([layer], [tuple(grad.shape)])
    norms = frame.norms([grad])
    factors = frame.spread(frame.dual(norms))[0]
    return (frame.views([grad])[0] * factors).view(grad.shape)


@settings(max_examples=60, deadline=None)
@given(row=st.sampled_from(TABLE), seed=st.integers(0, 10**6))
def test_the_dual_is_the_steepest_direction_of_unit_size(row, seed):
    """No direction whose blocks have the radius as norm has a larger product with the gradient."""
    layer, shape, _, radius = row
    torch.manual_seed(seed)
    grad = torch.randn(shape, dtype=torch.float64)
    frame = BlockVector([layer], [shape])
    steepest = dual(layer, grad)
    norms = frame.norms([steepest])
    torch.testing.assert_close(norms, torch.full_like(norms, radius))
    other = dual(layer, torch.randn_like(grad))  # of unit size as well
    assert (grad * steepest).sum() >= (grad * other).sum() - 1e-12
    torch.testing.assert_close((grad * steepest).sum(), radius * frame.norms([grad]).sum())


def blocks_of(layer, shape):
    """The entries of each block, as flat indices, by the words of the table."""
    entries = torch.arange(math.prod(shape)).view(shape)
    if isinstance(layer, Embedding):
        return entries.reshape(-1, shape[-1])
    if isinstance(layer, Stack):
        return entries.reshape(-1, shape[-2] * shape[-1])
    if isinstance(layer, Conv):
        if layer.groups > 1:
            return entries.reshape(layer.groups, -1)
        return entries.reshape(shape[0] * shape[1], -1).T
    rows = entries.T if getattr(layer, "transposed", False) else entries
    return rows.reshape(layer.parts, -1)


@pytest.mark.parametrize(("layer", "shape", "blocks", "radius"), TABLE, ids=str)
def test_a_layers_dual_is_the_gradient_at_its_radius_block_by_block(layer, shape, blocks, radius):
    grad = torch.randn(shape, dtype=torch.float64)
    indices = blocks_of(layer, shape).tolist()
    grad.view(-1)[indices[0]] = 0.0  # the first block has no gradient
    expected, size = [0.0] * grad.numel(), 0.0
    for block in indices:
        entries = [grad.flatten()[i].item() for i in block]
        norm = math.sqrt(sum(g * g for g in entries))
        size += radius * norm
        for i, g in zip(block, entries, strict=True):
            expected[i] = radius * g / norm if norm else 0.0
    assert len(indices) == blocks
    found = layer.dual(grad)
    expected = torch.tensor(expected, dtype=torch.float64).view(shape)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    assert (grad * found).sum().item() == pytest.approx(size, rel=1e-12)
    assert Head(layer).dual(grad).equal(found)


def test_a_layers_dual_has_the_gradients_dtype_and_an_empty_one_is_empty():
    grad = torch.full((64, 64), 3e4, dtype=torch.float16)  # whose norm float16 does not hold
    found = Dense().dual(grad)
    assert found.dtype == torch.float16
    torch.testing.assert_close(found, torch.full_like(grad, 1 / 64))
    assert Dense().dual(torch.zeros(3, 0)).shape == (3, 0)


def test_constants_are_not_shared_between_fake_and_real_tensors():
    vector = BlockVector([Dense(), Embedding()], [(6, 4), (2, 9)])
    with FakeTensorMode():
        fake = vector.radius(torch.zeros(()))
        assert type(fake) is not torch.Tensor
        assert type(vector.owner(fake.device)) is not torch.Tensor
    real = vector.radius(torch.zeros(()))
    torch.testing.assert_close(real, torch.tensor([math.sqrt(6 / 4), 3.0, 3.0]))
    assert vector.owner(real.device).tolist() == [0, 1, 1]
    assert vector.radius(torch.ones(())) is real
    with FakeTensorMode():
        assert type(vector.radius(torch.zeros(()))) is not torch.Tensor
        assert type(vector.owner(fake.device)) is not torch.Tensor


def test_norms_come_in_32_bits_or_more():
    frame = BlockVector([Dense(), Conv()], [(64, 64), (4, 4, 3, 3)])
    half = [torch.full((64, 64), 3e4, dtype=torch.float16), torch.ones(4, 4, 3, 3).half()]
    assert frame.norms(half).dtype == torch.float32
    assert float(frame.norms(half)[0]) == pytest.approx(64 * 3e4, rel=1e-3)  # inf in float16


def test_geometry_by_shape():
    assert by_shape(()) == by_shape((3,)) == Vector()
    assert by_shape((3, 4)) == Dense()
    assert by_shape((3, 4, 5)) == Stack()
    assert by_shape((3, 4, 5, 6)) == by_shape((3, 4, 5, 6, 7)) == Conv()


def test_an_indivisible_shape_is_refused():
    for layer, shape in [(Dense(3), (7, 4)), (Conv(groups=2), (5, 4, 3, 3)), (Bias(2), (3,))]:
        with pytest.raises(ParameterError, match="does not divide"):
            layer.blocks(shape)


@pytest.mark.parametrize(
    ("layer", "shape"), [row[:2] for row in TABLE if isinstance(row[0], Dense | Conv)], ids=str
)
def test_matrices_start_orthogonal_at_their_radius(layer, shape):
    weight = torch.full(shape, float("nan"), dtype=torch.float64)
    assert layer.initialise_(weight, None)
    if isinstance(layer, Conv):
        groups = weight.unflatten(0, (layer.groups, -1)).flatten(3)  # (g, first, second, offsets)
        matrices = groups.movedim(3, 1).flatten(0, 1)
        radius = layer.radius(shape)
        if layer.groups > 1:  # the groups' radius is for all offsets together
            radius /= math.sqrt(math.prod(shape[2:]))
    else:
        matrix = weight.T if layer.transposed else weight.flatten(1)
        matrices, radius = matrix.unflatten(0, (layer.parts, -1)), layer.radius(shape)
    singular = torch.linalg.svdvals(matrices)
    torch.testing.assert_close(singular, torch.full_like(singular, radius))


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (lambda: nn.Linear(12, 5, bias=False), (12,)),
        (lambda: nn.Conv2d(6, 4, 3, stride=2, bias=False), (6, 9, 9)),
        (lambda: nn.Conv2d(6, 4, 3, groups=2, bias=False), (6, 9, 9)),
        (lambda: nn.ConvTranspose2d(6, 4, 3, bias=False), (6, 9, 9)),
        (lambda: nn.ConvTranspose2d(6, 4, 4, stride=2, bias=False), (6, 9, 9)),
        (lambda: nn.ConvTranspose1d(6, 4, 6, stride=3, groups=2, bias=False), (6, 9)),
    ],
)
def test_a_heads_step_moves_outputs_alike_whatever_layer_it_is(build, shape):
    """By HEAD, all inputs being one; outputs at the rim hear less."""
    module = build()
    (_, weight, layer) = next(iter(assignment.with_head(module)))
    with torch.no_grad():
        weight.fill_(layer.by_entry(tuple(weight.shape)))
        assert module(torch.ones(1, *shape)).max().item() == pytest.approx(HEAD, rel=1e-5)


def test_orthogonal_matrices_are_spread_evenly():
    """Haar: the mean over draws is zero and each entry's variance is 1 / n."""
    draws = torch.empty(4000, 4, 4, dtype=torch.float64)
    for draw in draws:
        Dense().initialise_(draw, None)
    assert draws.mean(0).abs().max() < 0.04
    assert (draws.var(0) - 0.25).abs().max() < 0.03


@pytest.mark.parametrize(
    "build",
    [
        lambda: nn.Linear(64, 96),
        lambda: nn.Conv1d(32, 48, 3, padding=1, padding_mode="circular"),
        lambda: nn.Conv2d(16, 24, 3, padding=1, padding_mode="circular"),
        lambda: nn.Conv2d(16, 16, 3, groups=16, padding=1, padding_mode="circular"),
        lambda: nn.Conv2d(16, 32, 3, groups=4, padding=1, padding_mode="circular"),
        lambda: nn.ConvTranspose2d(16, 24, 2, stride=2),
    ],
)
def test_inputs_of_size_one_give_outputs_of_size_one(build):
    """What the radii are for, on the real forward pass; also what `initialise_` is for."""
    import untuned

    layer = build()
    untuned.initialise_(layer)
    kernel_dims = 0 if isinstance(layer, nn.Linear) else layer.weight.ndim - 2
    channels = layer.in_features if kernel_dims == 0 else layer.in_channels
    x = torch.randn(256, channels, *[8] * kernel_dims)
    with torch.no_grad():
        # an expanding matrix maps onto a subspace: its outputs have size one, entry by entry
        assert float(layer(x).square().mean().sqrt()) == pytest.approx(1.0, abs=0.12)


def test_embedding_rows_start_at_their_radius_and_padding_at_zero():
    table = torch.full((10, 16), float("nan"))
    assert Embedding(padding=3).initialise_(table, None)
    assert torch.equal(table[3], torch.zeros(16))
    norms = table.norm(dim=1)
    torch.testing.assert_close(norms[norms > 0], torch.full((9,), 4.0))


def test_vectors_start_at_zero_or_one_or_are_left_alone():
    vector = torch.full((3,), 7.0)
    assert not Vector().initialise_(vector, None)
    assert vector.tolist() == [7.0] * 3
    assert Bias().initialise_(vector, None)
    assert vector.tolist() == [0.0] * 3
    assert Gain().initialise_(vector, None)
    assert vector.tolist() == [1.0] * 3
