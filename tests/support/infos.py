"""What torch's own checks of optimizers (`OptimizerInfo`) need to know of ours.

Of those in torch's `test_optim.py` these have nothing to ask here:

- `foreach`, `fused`, `capturable`, `differentiable`, their defaults and their memory: ours have no
  such flags; a step has one implementation. `weight_decay`: ignored with a warning, see
  `test_foreign_options.py`.
- sparse gradients: refused, see `test_errors.py`.
- several devices, and states loaded from one to another: need a GPU.
- a `step` count saved as a plain number by an older torch: ours have always been tensors.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.testing._internal.common_optimizers import (
    ErrorOptimizerInput,
    OptimizerErrorEnum,
    OptimizerInfo,
    OptimizerInput,
    optim_db,
)

import untuned
from untuned.rules import AGD, SGD, AdaGrad, Adam, RMSProp

# Every list of schedulers that torch tries on its own Adam and SGD
SCHEDULERS = tuple(
    schedulers
    for info in optim_db
    if info.name in ("Adam", "SGD")
    for schedulers in info.scheduler_inputs
)

COMMON = [
    ({"lr": 0.02}, "lr"),
    ({"lr": torch.tensor(0.02)}, "tensor lr"),
    ({"maximize": True}, "maximize"),
    ({"lr": 0.02, "maximize": True}, "lr, maximize"),
]

RULES = [
    (Adam(), "Adam"),
    (Adam(lr=0.01, betas=(0.8, 0.9), eps=1e-6), "Adam, everything given"),
    (SGD(momentum=0.9), "SGD with momentum"),
    (AdaGrad(), "AdaGrad"),
    (RMSProp(), "RMSProp"),
    (Adam() / SGD(), "Adam / SGD"),
    (AGD() / SGD(), "AGD / SGD"),
]


def inputs(*own, among=((None, ""),)):
    """An `optim_inputs_func`: of each rule, its own options, then those that all share."""

    def optim_inputs_func(device, dtype=None):
        return [
            OptimizerInput(
                params=None,
                kwargs=({"rule": rule} if rule else {}) | kwargs,
                desc=" ".join(filter(None, (name, desc))),
            )
            for rule, name in among
            for kwargs, desc in [({}, ""), *own, *COMMON]
        ]

    return optim_inputs_func


def error_inputs(rule, wrong):
    """An `optim_error_inputs_func`: what torch refuses of all, and hyperparameters of our own."""

    def optim_error_inputs_func(device, dtype):
        one, other = (nn.Parameter(torch.randn(1, 1, device=device, dtype=dtype)) for _ in "ab")
        sparse = nn.Parameter(torch.ones(2, 2))
        sparse.grad = torch.eye(2).to_sparse()
        table = [
            (one, {}, TypeError, "give a module, or a list of tensors"),
            ([], {}, ValueError, "params is empty"),
            ([torch.ones(2, dtype=torch.int64)], {}, TypeError, "only floating-point"),
            ([{"params": one}, {"params": one}], {}, ValueError, "given twice"),
            ([("weight", one), other], {}, ValueError, "should be with/without names"),
            (None, {"lr": torch.tensor([0.1, 0.1])}, ValueError, "lr=tensor"),
            (None, {"lr": -1.0}, ValueError, "lr=-1.0"),
            (None, {"lr": float("nan")}, ValueError, "lr=nan"),
            ([{"params": one, "nesterov": True}], {}, TypeError, "nesterov=True"),
            *((None, kwargs, kind, text) for kwargs, kind, text in wrong),
        ]
        return [
            ErrorOptimizerInput(
                OptimizerInput(params=params, kwargs=rule | kwargs, desc=text),
                error_type=kind,
                error_regex=text,
            )
            for params, kwargs, kind, text in table
        ] + [
            ErrorOptimizerInput(
                OptimizerInput(params=[sparse], kwargs=rule, desc="sparse"),
                error_on=OptimizerErrorEnum.STEP_ERROR,
                error_type=kind,
                error_regex="sparse",
            )
            for kind in (RuntimeError, TypeError)
        ]

    return optim_error_inputs_func


def info(optim_cls, inputs, errors):
    """An `OptimizerInfo` without the flags that ours do not have."""
    return OptimizerInfo(
        optim_cls,
        optim_inputs_func=inputs,
        optim_error_inputs_func=errors,
        scheduler_inputs=SCHEDULERS,
        supported_impls=(),
        not_og_supported_flags=("maximize",),
        supports_complex=True,
    )


INFOS = [
    info(
        untuned.AGD,
        inputs(({"gain": 2.0}, "gain")),
        error_inputs({}, [({"gain": -1.0}, ValueError, "gain=-1.0")]),
    ),
    info(
        untuned.Nero,
        inputs(({"beta": 0.9}, "beta"), ({"balanced": False}, "free")),
        error_inputs({}, [({"beta": 1.0}, ValueError, "beta=1.0")]),
    ),
    info(
        untuned.Optimizer,
        inputs(among=RULES),
        error_inputs(
            {"rule": "adam / sgd"},
            [
                ({"rule": "adam(betas=(1.0, 0.0))"}, ValueError, "beta1=1.0"),
                ({"rule": "adam(eps=0)"}, ValueError, "eps=0"),
                ({"rule": "sgd(momentum=-0.5)"}, ValueError, "momentum=-0.5"),
                ({"rule": "adam(rho=1)"}, TypeError, "no hyperparameter 'rho'"),
                ({"rule": "ada"}, ValueError, "ada"),
            ],
        ),
    ),
]


class Case(NamedTuple):
    """One configuration of one optimizer."""

    info: OptimizerInfo
    input: OptimizerInput

    def __call__(self, params, **options):
        return self.info.optim_cls(
            params, **(self.input.kwargs | fresh(self.input.kwargs)), **options
        )

    @property
    def sign(self):
        """Which way it shall go."""
        return 1.0 if self.input.kwargs.get("maximize") else -1.0

    def __str__(self):
        return f"{self.info.name} {self.input.desc}".strip()


def fresh(kwargs):
    """The tensors among arguments anew: a schedule writes into them."""
    return {name: value.clone() for name, value in kwargs.items() if isinstance(value, Tensor)}


CASES = [Case(info, given) for info in INFOS for given in info.optim_inputs_func(device="cpu")]
PLAIN = [case for case in CASES if not case.input.kwargs.keys() - {"rule"}]  # one for each rule
ERRORS = [
    (info.optim_cls, error)
    for info in INFOS
    for error in info.optim_error_inputs_func("cpu", torch.float32)
]


class Squares:
    """Least squares with a weight and a bias, which may have gaps in memory."""

    def __init__(self, contiguous=True, dtype=torch.float32):
        generator = torch.Generator().manual_seed(0)

        def random(*shape):
            return torch.randn(*shape, generator=generator).to(dtype)

        weight, bias, self.x, self.y = random(4, 3, 2), random(4, 2), random(6, 3), random(6, 4)
        weight, bias = weight[..., 0], bias[..., 0]
        if contiguous:
            weight, bias = weight.contiguous(), bias.contiguous()
        self.params = [nn.Parameter(weight), nn.Parameter(bias)]
        assert self.params[0].is_contiguous() == contiguous

    def loss(self):
        weight, bias = self.params
        return (self.x.to(weight) @ weight.T + bias - self.y.to(weight)).square().mean()

    def train(self, opt, steps, schedulers=()):
        """Some steps; the losses before each, and after the last."""
        losses = []
        for _ in range(steps):
            opt.zero_grad()
            loss = self.loss()
            loss.backward()
            losses.append(loss.item())
            opt.step()
            for scheduler in schedulers:
                metrics = (losses[-1],) if hasattr(scheduler, "patience") else ()
                scheduler.step(*metrics)
        return [*losses, self.loss().item()]
