"""`initialise_`: what it fills, what it leaves alone and says so."""

import pytest
import torch
from torch import nn

import untuned
from support.networks import Bare, gpt2


def network():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10)
    )


def test_every_known_parameter_is_filled_and_nothing_is_left():
    model = network()
    with torch.no_grad():
        for param in model.parameters():
            param.fill_(float("nan"))
    assert untuned.initialise_(model) == []
    assert all(param.isfinite().all() for param in model.parameters())


def test_it_names_what_it_left_alone_and_leaves_it_alone():
    model = nn.Sequential(nn.Linear(3, 3), Bare(), nn.PReLU())
    with torch.no_grad():
        model[1].experts.fill_(7.0)
    left = untuned.initialise_(model)
    assert set(left) == {"1.temperature", "1.token", "1.positions", "1.experts", "2.weight"}
    assert torch.equal(model[1].experts, torch.full((5, 4, 6), 7.0))
    assert model[2].weight.item() == 0.25


def test_frozen_parameters_and_their_running_statistics_stay():
    model = network()
    model[1].running_mean.fill_(5.0)
    model.requires_grad_(False)
    before = [p.clone() for p in model.parameters()]
    left = untuned.initialise_(model)
    assert left == [name for name, _ in model.named_parameters()]
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))
    assert model[1].running_mean.eq(5.0).all()


def test_a_generator_makes_it_reproducible():
    weights = []
    for _ in range(2):
        model = network()
        untuned.initialise_(model, generator=torch.Generator().manual_seed(3))
        weights.append(model[0].weight.detach())
        torch.randn(5)  # the global stream does not matter
    assert torch.equal(*weights)


def test_a_model_made_on_meta_and_given_memory():
    with torch.device("meta"):
        model = network()
    with pytest.raises(untuned.errors.ParameterTypeError, match=r"'0.weight'.*to_empty"):
        untuned.initialise_(model)
    model = model.to_empty(device="cpu")
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data.fill_(77)
    assert untuned.initialise_(model) == []
    assert model[1].running_mean.eq(0).all()
    assert model[1].running_var.eq(1).all()
    assert model(torch.randn(5, 1, 8, 8)).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_every_floating_point_type(dtype):
    model = nn.Sequential(nn.Linear(8, 8), nn.Embedding(5, 8)).to(dtype)
    untuned.initialise_(model)
    product = (model[0].weight @ model[0].weight.T).float()
    torch.testing.assert_close(product, torch.eye(8), atol=3e-2, rtol=0)
    assert model[1].weight.dtype == dtype


def test_gpt2_is_covered_whole():
    model = gpt2()
    assert untuned.initialise_(model) == []
    fused = model.transformer.h[0].attn.c_attn.weight.detach()  # (in, 3 * out)
    for part in fused.split(8, dim=1):
        torch.testing.assert_close(part @ part.T, torch.eye(8), atol=1e-5, rtol=0)
    head = model.lm_head.weight.detach()  # (20, 8), tied: orthogonal columns
    torch.testing.assert_close(head.T @ head, 20 / 8 * torch.eye(8), atol=1e-5, rtol=0)
    assert model.lm_head.weight is model.transformer.wte.weight


def test_gates_are_orthogonal_one_by_one():
    lstm = nn.LSTM(6, 6, num_layers=2)
    assert untuned.initialise_(lstm) == []
    for gate in lstm.weight_hh_l1.detach().split(6):
        torch.testing.assert_close(gate @ gate.T, torch.eye(6), atol=1e-5, rtol=0)
    assert not lstm.bias_ih_l0.any()


def test_any_memory_layout_is_filled():
    strided = nn.Conv2d(8, 12, (4, 3), bias=False)
    strided.weight = nn.Parameter(torch.zeros(4, 3, 8, 12).permute(3, 2, 1, 0))
    last = nn.Conv2d(8, 12, 3, bias=False).to(memory_format=torch.channels_last)
    bilinear = nn.Bilinear(3, 4, 5, bias=False)
    bilinear.weight = nn.Parameter(torch.zeros(4, 3, 5).permute(2, 1, 0))
    for module in (strided, last, bilinear):
        with torch.no_grad():
            module.weight.zero_()
        assert untuned.initialise_(module) == []
        assert module.weight.detach().norm() > 0.5


@pytest.mark.filterwarnings("ignore:Initializing zero-element:UserWarning")
def test_tensors_without_entries_are_passed_over():
    model = nn.Sequential(nn.Linear(0, 5), nn.AdaptiveLogSoftmaxWithLoss(8, 20, [5, 10]))
    assert untuned.initialise_(model) == []
    opt = untuned.AGD(model)
    model[1](torch.randn(6, 8), torch.arange(6)).loss.backward()
    opt.step()
