"""The reference implementations' trajectories, step by step, in float64."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import untuned
from support.recorded import Golden, close, load_golden, loss_of
from untuned.rules import AGD, FreeNero, Nero

PLAIN = ["agd_fcn_ce", "agd_fcn_mse", "agd_conv_ce", "agd_conv_mse_gain10"]
WITH_VECTORS = ["agd_bias_fcn_ce", "agd_bias_conv_ce"]


def forward(model: str, p: dict[str, Tensor], images: Tensor) -> Tensor:
    """The golden files' two networks, as their README describes them."""
    if model == "fcn":
        x, depth = images.flatten(1), sum(name.endswith("weight") for name in p)
        for k in range(depth):
            x = F.linear(x, p[f"layers.{k}.weight"], p.get(f"layers.{k}.bias"))
            x = F.relu(x) * math.sqrt(2) if k < depth - 1 else x
        return x
    x = images[:, None]
    for k, stride in ((1, 1), (2, 2)):
        x = F.conv2d(x, p[f"c{k}.weight"], p.get(f"c{k}.bias"), stride=stride, padding=1)
        gain, bias = p.get(f"b{k}.weight"), p.get(f"b{k}.bias")
        x = F.relu(F.batch_norm(x, None, None, gain, bias, training=True))
    return F.linear(x.mean((2, 3)), p["fc.weight"], p.get("fc.bias"))


def replay(golden: Golden, digits, rule) -> tuple[list[float], list[float], dict[str, Tensor]]:
    """Our losses, learning rates and final weights from the golden initial weights."""
    p = {name: value.clone().requires_grad_() for name, value in golden.initial.items()}
    opt = untuned.Optimizer(p.items(), rule)
    losses, rates = [], []
    for step in range(golden.meta["steps"]):
        batch = (torch.arange(64) + 64 * step) % len(digits.labels)
        output = forward(golden.meta["model"], p, digits.images[batch].double())
        loss = loss_of(golden.meta["loss"], output, digits.labels[batch])
        opt.zero_grad()
        loss.backward()
        opt.step()
        losses.append(loss.item())
        rates.append(float(opt.param_groups[0]["effective_lr"]))
    return losses, rates, p


@pytest.mark.parametrize("name", PLAIN + WITH_VECTORS)
def test_agd_as_published_walks_the_golden_trajectory(name, digits):
    golden = load_golden(name)
    rule = AGD(golden.meta.get("gain", 1.0)).as_published()
    losses, rates, final = replay(golden, digits, rule)
    close(losses, golden.losses)
    close(rates, golden.trace["eta"])
    for key, weight in final.items():
        # a convolution's bias before a batch norm has no gradient but rounding: hence atol
        torch.testing.assert_close(weight.detach(), golden.final[key], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", PLAIN)
def test_without_vectors_the_paper_and_its_code_agree(name, digits):
    golden = load_golden(name)
    losses, rates, _ = replay(golden, digits, AGD(golden.meta["gain"]))
    close(losses, golden.losses)
    close(rates, golden.trace["eta"])


@pytest.mark.parametrize("name", WITH_VECTORS)
def test_good_sense_moves_vectors_otherwise_than_the_published_code(name, digits):
    golden = load_golden(name)
    losses, _, _ = replay(golden, digits, AGD())
    assert losses[0] == pytest.approx(float(golden.losses[0]), rel=1e-12)
    assert losses[-1] != pytest.approx(float(golden.losses[-1]), rel=1e-3)


BALANCED = ["nero_fcn_ce", "nero_fcn_lr.003_beta.9", "nero_conv_ce"]


@pytest.mark.parametrize("name", [*BALANCED, "nero_fcn_unconstrained"])
@pytest.mark.parametrize("published", [False, True])
def test_nero_walks_the_golden_trajectory(name, published, digits):
    golden = load_golden(name)
    options = {k: v for k, v in golden.meta["kwargs"].items() if k != "constraints"}
    rule = Nero(**options) if name in BALANCED else FreeNero(**options)
    losses, _, final = replay(golden, digits, rule.as_published() if published else rule)
    close(losses, golden.losses)
    for key, weight in final.items():
        if golden.meta["model"] == "conv" and key in ("c1.bias", "c2.bias"):
            continue  # before a batch norm: the gradient is rounding, which Nero magnifies
        torch.testing.assert_close(weight.detach(), golden.final[key], rtol=1e-9, atol=1e-12)
