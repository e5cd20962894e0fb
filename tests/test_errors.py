"""Every bad input raises its typed error, which names the culprit and says the mend."""

import pytest
import torch
from torch import nn

import untuned
from untuned import errors
from untuned.geometry import Conv, Dense
from untuned.rules import AGD


def weight(*shape):
    return torch.zeros(shape or (2, 2), requires_grad=True)


shared = weight()

BAD = [
    (lambda: untuned.Optimizer([weight()], "adamw"), errors.UnknownRuleError, "adamw.*agd"),
    (lambda: untuned.Optimizer([weight()], "agd("), errors.UnknownRuleError, "cannot be read"),
    (lambda: untuned.Optimizer([weight()], "agd(x)"), errors.UnknownRuleError, "numbers"),
    (lambda: untuned.Optimizer([weight()], "agd.gain"), errors.UnknownRuleError, "unknown"),
    (lambda: untuned.Optimizer([weight()], AGD), errors.UnknownRuleError, r"AGD\(\)"),
    (lambda: untuned.Optimizer([weight()], 0.1), errors.UnknownRuleError, "0.1"),
    (
        lambda: untuned.Optimizer([weight()], "agd(gian=2)"),
        errors.UnknownHyperparameterError,
        "'gian'.*gain",
    ),
    (
        lambda: untuned.Optimizer([weight()], "agd(1, gain=2)"),
        errors.UnknownHyperparameterError,
        "twice",
    ),
    (
        lambda: untuned.Optimizer([weight()], "agd(gain=1, gain=2)"),
        errors.UnknownRuleError,
        "twice",
    ),
    (
        lambda: untuned.Optimizer([weight()], "agd(gain={[]: 1})"),
        errors.UnknownRuleError,
        "numbers",
    ),
    (
        lambda: untuned.AGD([{"params": [weight(4)], "layer": Conv()}]),
        errors.ParameterError,
        r"params\[0\] does not fit Conv",
    ),
    (
        lambda: untuned.AGD([{"params": [weight()], "momentum": 0.9}]),
        errors.UnknownHyperparameterError,
        "momentum=0.9.*leave it out",
    ),
    (
        lambda: untuned.AGD([weight(), torch.zeros(2, device="meta", requires_grad=True)]),
        errors.ParameterError,
        r"params\[1\] is on meta, and others on cpu",
    ),
    (lambda: untuned.AGD([weight()], seed=1.5), errors.DomainError, "seed=1.5"),
    (lambda: untuned.AGD([weight()], seed=None), errors.DomainError, "seed=None"),
    (lambda: untuned.AGD([{"params": [weight()], "seed": -1}]), errors.DomainError, "seed=-1"),
    (lambda: AGD(gain=-1.0), errors.DomainError, "gain=-1.0"),
    (lambda: AGD(gain=float("nan")), errors.DomainError, "gain=nan"),
    (lambda: AGD(gain="big"), errors.DomainError, "gain='big'"),
    (lambda: untuned.AGD([weight()], lr=-0.1), errors.DomainError, "lr=-0.1"),
    (lambda: untuned.AGD([weight()], lr=float("inf")), errors.DomainError, "lr=inf"),
    (lambda: untuned.AGD([weight()], lr=torch.tensor(-1.0)), errors.DomainError, "lr="),
    (lambda: untuned.AGD([{"params": [weight()], "gain": 0}]), errors.DomainError, "gain=0"),
    (lambda: untuned.AGD([]), errors.ParameterError, "empty"),
    (lambda: untuned.AGD([{"params": []}]), errors.ParameterError, "empty"),
    (lambda: untuned.AGD(nn.ReLU()), errors.ParameterError, "without parameters"),
    (lambda: untuned.AGD([("a", weight(), 1)]), errors.ParameterTypeError, "tuple"),
    (
        lambda: untuned.AGD([{"params": [shared]}, {"params": [("w", shared)]}]),
        errors.ParameterError,
        "'w' is given twice",
    ),
    (lambda: untuned.AGD([weight() * 2]), errors.ParameterError, "computed"),
    (
        lambda: untuned.AGD([{"params": [weight(7, 2)], "layer": Dense(parts=3)}]),
        errors.ParameterError,
        r"params\[0\].*3 parts",
    ),
    (
        lambda: untuned.AGD([{"params": [weight()], "layer": "dense"}]),
        errors.ParameterTypeError,
        "layer='dense'",
    ),
    (
        lambda: untuned.AGD([("index", torch.zeros(2, dtype=torch.int64))]),
        errors.ParameterTypeError,
        "'index'.*int64",
    ),
    (lambda: untuned.AGD([nn.Linear(2, 2)]), errors.ParameterTypeError, "Linear"),
    (lambda: untuned.AGD(weight()), errors.ParameterTypeError, "tensor"),
    (lambda: untuned.AGD({weight()}), errors.ParameterTypeError, "set"),
    (lambda: untuned.AGD([{"weights": [weight()]}]), errors.ParameterTypeError, "'params'"),
    (lambda: untuned.AGD(nn.LazyLinear(3)), errors.ParameterTypeError, "run the model"),
    (lambda: untuned.initialise_(nn.LazyLinear(3)), errors.ParameterTypeError, "run the model"),
]


@pytest.mark.filterwarnings("ignore:Lazy modules:UserWarning")
@pytest.mark.parametrize(("call", "error", "message"), BAD)
def test_bad_input_is_a_clear_error(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_sparse_gradients_are_refused_by_name_and_nothing_moves():
    model = nn.Sequential(nn.Embedding(5, 3, sparse=True), nn.Linear(3, 2))
    opt = untuned.AGD(model)
    before = [p.detach().clone() for p in model.parameters()]
    model(torch.tensor([1, 2])).sum().backward()
    with pytest.raises(errors.SparseGradientError, match=r"'0.weight'.*sparse=False"):
        opt.step()
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))


def test_errors_can_be_caught_as_torchs():
    assert issubclass(errors.SparseGradientError, RuntimeError)
    assert issubclass(errors.ParameterError, ValueError)
    assert issubclass(errors.ParameterTypeError, TypeError)
    assert all(
        issubclass(getattr(errors, name), errors.UntunedError)
        for name in dir(errors)
        if name.endswith("Error")
    )
