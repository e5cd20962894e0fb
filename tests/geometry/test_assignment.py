"""Which geometry the parameters of real modules get."""

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import untuned
from support.networks import Bare, gpt2
from untuned.geometry import Bias, Conv, Dense, Embedding, Gain, Rows, Stack, Vector
from untuned.geometry.assignment import by_module, layers_of


def geometry(module):
    return {name: layer for name, _, layer in by_module(module)}


CASES = [
    (nn.Linear(3, 4), {"weight": Dense(), "bias": Bias()}),
    (nn.Bilinear(3, 4, 5), {"weight": Dense(), "bias": Bias()}),
    (nn.Conv1d(3, 4, 5), {"weight": Conv(), "bias": Bias()}),
    (nn.Conv3d(3, 4, 5, bias=False), {"weight": Conv()}),
    (nn.Conv2d(4, 4, 3, groups=4, stride=2, bias=False), {"weight": Conv(groups=4)}),
    (
        nn.ConvTranspose2d(3, 4, 2, stride=2),
        {"weight": Conv(transposed=True, stride=4), "bias": Bias()},
    ),
    (nn.Embedding(5, 6), {"weight": Embedding()}),
    (nn.EmbeddingBag(5, 6), {"weight": Embedding()}),
    (
        nn.LSTM(3, 4, proj_size=2, bias=False),
        {"weight_ih_l0": Dense(4), "weight_hh_l0": Dense(4), "weight_hr_l0": Dense()},
    ),
    (
        nn.GRUCell(3, 4),
        {"weight_ih": Dense(3), "weight_hh": Dense(3), "bias_ih": Bias(3), "bias_hh": Bias(3)},
    ),
    (nn.RNN(3, 4, bias=False), {"weight_ih_l0": Dense(), "weight_hh_l0": Dense()}),
    (
        nn.MultiheadAttention(4, 2),
        {
            "in_proj_weight": Dense(3),
            "in_proj_bias": Bias(3),
            "out_proj.weight": Dense(),
            "out_proj.bias": Bias(),
        },
    ),
    (
        nn.MultiheadAttention(4, 2, kdim=3, vdim=5, bias=False),
        {f"{n}": Dense() for n in ("q_proj_weight", "k_proj_weight", "v_proj_weight")}
        | {"out_proj.weight": Dense()},
    ),
    (nn.BatchNorm2d(3), {"weight": Gain(), "bias": Bias()}),
    (nn.LayerNorm((3, 4, 5)), {"weight": Gain(), "bias": Bias()}),
    (nn.GroupNorm(2, 4), {"weight": Gain(), "bias": Bias()}),
    (nn.RMSNorm(4), {"weight": Gain()}),
    (nn.PReLU(3), {"weight": Vector()}),
]


@pytest.mark.parametrize(("module", "expected"), CASES, ids=lambda x: type(x).__name__)
def test_each_type_of_module_tells_its_geometry(module, expected):
    assert geometry(module) == expected


def test_bare_parameters_go_by_their_shape():
    assert geometry(Bare()) == {
        "temperature": Vector(),
        "token": Vector(),
        "mixing": Dense(),
        "positions": Rows(),
        "experts": Stack(),
    }


def test_fused_queries_keys_and_values_are_told_by_their_name():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv, self.proj = nn.Linear(8, 24, bias=False), nn.Linear(8, 24, bias=False)

    assert geometry(Attention()) == {"qkv.weight": Dense(parts=3), "proj.weight": Dense()}


def test_gpt2s_stored_transposed_weights_fused_attention_and_tied_embedding():
    found = geometry(gpt2())
    assert found["transformer.h.0.attn.c_attn.weight"] == Dense(parts=3, transposed=True)
    assert found["transformer.h.0.attn.c_proj.weight"] == Dense(transposed=True)
    assert found["transformer.h.0.mlp.c_fc.weight"] == Dense(transposed=True)
    assert found["transformer.wte.weight"] == Dense()  # tied to the head
    assert "lm_head.weight" not in found
    assert found["transformer.wpe.weight"] == Embedding(size=8**-0.5)


def test_fan_in_and_fan_out_of_gpt2_are_those_of_the_equal_linear_layer():
    """An update through Conv1D is the transpose of one through the equal nn.Linear."""
    from transformers.pytorch_utils import Conv1D

    stored, plain = Conv1D(6, 4), nn.Linear(4, 6)
    with torch.no_grad():
        plain.weight.copy_(stored.weight.T)
        plain.bias.copy_(stored.bias)
    for module in (stored, plain):
        opt = untuned.AGD(module)
        module(torch.ones(2, 4)).square().sum().backward()
        opt.step()
    torch.testing.assert_close(stored.weight.T, plain.weight)
    torch.testing.assert_close(stored.bias, plain.bias)


def test_a_tied_tensor_is_one_parameter_whichever_owner_comes_first():
    class Tied(nn.Module):
        def __init__(self, head_first):
            super().__init__()
            head, table = nn.Linear(4, 9, bias=False), nn.Embedding(9, 4)
            head.weight = table.weight
            self.a, self.b = (head, table) if head_first else (table, head)

    for head_first in (True, False):
        assert geometry(Tied(head_first)) == {"a.weight": Dense()}
        assert len(untuned.AGD(Tied(head_first)).param_groups[0]["params"]) == 1


def test_frozen_integers_of_a_quantised_base_are_passed_over():
    model = nn.Linear(3, 3)
    model.packed = nn.Parameter(torch.zeros(4, dtype=torch.uint8), requires_grad=False)
    assert geometry(model) == {"weight": Dense(), "bias": Bias()}


def test_users_can_teach_a_module_of_their_own():
    class Router(nn.Module):
        def __init__(self):
            super().__init__()
            self.tables = nn.Parameter(torch.zeros(6, 5))

    layers_of.register(Router, lambda module: {"tables": Embedding()})
    assert geometry(nn.Sequential(Router())) == {"0.tables": Embedding()}


def weight_normed_by_hook(module):
    with pytest.warns(FutureWarning, match="weight_norm"):
        return nn.utils.weight_norm(module)


@pytest.mark.parametrize(
    "reparametrise",
    [
        nn.utils.parametrizations.weight_norm,
        nn.utils.parametrizations.spectral_norm,
        nn.utils.parametrizations.orthogonal,
        weight_normed_by_hook,
        nn.utils.spectral_norm,
        lambda module: prune.l1_unstructured(module, "weight", 0.5),
    ],
)
def test_reparametrised_weights_keep_the_geometry_of_their_layer(reparametrise):
    conv = geometry(reparametrise(nn.Conv2d(4, 6, 3)))
    matrices = [layer for layer in conv.values() if not isinstance(layer, Vector)]
    assert matrices == [Conv()]
    assert len(conv) in (2, 3)
    assert conv["bias"] == Bias()


def test_a_reparametrised_recurrence_keeps_its_gates():
    lstm = nn.utils.parametrizations.weight_norm(nn.LSTM(3, 4), "weight_hh_l0")
    found = geometry(nn.Sequential(lstm))
    assert found["0.parametrizations.weight_hh_l0.original1"] == Dense(4)
    assert found["0.parametrizations.weight_hh_l0.original0"] == Vector()
    assert found["0.weight_ih_l0"] == Dense(4)
    assert len(found) == 5


def test_tables_beside_a_tied_one_match_it_whichever_is_declared_first():
    class Model(nn.Module):
        def __init__(self, head_first):
            super().__init__()
            head, token = nn.Linear(16, 9, bias=False), nn.Embedding(9, 16)
            head.weight = token.weight
            self.a, self.b = (head, token) if head_first else (token, head)
            self.position = nn.Embedding(5, 16)

    for head_first in (True, False):
        found = geometry(Model(head_first))
        assert found == {"a.weight": Dense(), "position.weight": Embedding(size=0.25)}


def test_of_a_recurrent_modules_weights_those_of_its_first_layer_see_its_inputs():
    stacked = nn.LSTM(4, 6, num_layers=2, bidirectional=True, proj_size=3)
    for module, seen in [
        (stacked, {"weight_ih_l0", "weight_ih_l0_reverse"}),
        (nn.GRUCell(4, 6), {"weight_ih"}),
        (nn.Linear(4, 6), {"weight"}),
    ]:
        layers, names = layers_of(module), dict(module.named_parameters())
        assert names.keys() <= layers.keys()
        assert {name for name in names if layers[name].sees_inputs()} == seen
    upper, first = layers_of(stacked)["weight_hh_l1"], layers_of(stacked)["weight_ih_l0"]
    assert upper == first  # one geometry, one group
