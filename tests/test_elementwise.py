"""Elementwise rules: against torch's own, and the same whichever way they run."""

import pytest
import torch
from torch import nn

import untuned
from untuned.compilation import Compiled
from untuned.errors import SlowExecutionWarning
from untuned.packs import LARGE
from untuned.rules import SGD, AdaGrad, Adam, RMSProp
from untuned.slabs import PIECE, ROW

TORCH = {
    "sgd": (SGD(0.1), lambda p: torch.optim.SGD(p, 0.1)),
    "momentum": (SGD(0.1, momentum=0.9), lambda p: torch.optim.SGD(p, 0.1, momentum=0.9)),
    "adam": (Adam(0.01, betas=(0.8, 0.99)), lambda p: torch.optim.Adam(p, 0.01, (0.8, 0.99))),
    "adagrad": (
        AdaGrad(0.1),
        lambda p: torch.optim.Adagrad(p, 0.1, initial_accumulator_value=0.1, eps=0.0),
    ),
    "rmsprop": (
        RMSProp(0.01, gamma=0.95),
        lambda p: torch.optim.RMSprop(p, 0.01, alpha=0.95, eps=0.0),
    ),
}
SMALL = [(7, 5), (), (3,), (4, 2, 3, 3), (0, 3), (1,)]


def tensors(shapes, dtype=torch.float64):
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(shape, dtype=dtype)) for shape in shapes]


def walk(params, opt, steps=6):
    """Some steps on gradients that depend on the weights."""
    for step in range(steps):
        for i, param in enumerate(params):
            param.grad = torch.sin(param.detach() * (i + step + 1)) + 1.5
        opt.step()
    return params


@pytest.mark.parametrize("name", TORCH)
@pytest.mark.parametrize("maximize", [False, True])
def test_a_lone_rule_is_torchs_optimizer(name, maximize):
    rule, build = TORCH[name]
    ours, theirs = tensors(SMALL), tensors(SMALL)
    walk(ours, untuned.Optimizer(ours, rule, maximize=maximize))
    opt = build(theirs)
    opt.param_groups[0]["maximize"] = maximize
    walk(theirs, opt)
    tolerance = 1e-6 if name in ("adagrad", "rmsprop") else 1e-12  # their epsilon stands elsewhere
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def test_hyperparameters_may_be_numbers_or_tensors():
    grad = torch.linspace(-1, 1, 5, dtype=torch.float64)
    numbers = Adam(0.01, betas=(0.8, 0.99))
    values = {k: torch.tensor(v, dtype=grad.dtype) for k, v in numbers.hyperparameters().items()}
    state = numbers.init(torch.ones_like(grad))
    one, other = numbers.update(grad, state), numbers.replacing(values).update(grad, state)
    torch.testing.assert_close(one.state, other.state, rtol=1e-15, atol=0)
    torch.testing.assert_close(one.direction, other.direction, rtol=1e-15, atol=0)


def test_a_parameter_that_joins_late_has_its_own_count_of_steps():
    ours, theirs = tensors([(3,), (4,)]), tensors([(3,), (4,)])
    for params, opt in (
        (ours, untuned.Optimizer(ours, Adam(0.1))),
        (theirs, torch.optim.Adam(theirs, 0.1)),
    ):
        for step in range(5):
            params[0].grad = torch.full((3,), step + 1.0, dtype=torch.float64)
            params[1].grad = torch.ones(4, dtype=torch.float64) if step >= 3 else None
            opt.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)


TOWERS = {
    "lone": Adam(0.01),
    "tangent": Adam(0.01).tuning("lr") / SGD(1e-4),
    "replay": Adam(0.01) / SGD(1e-4),
    "own": SGD(0.01, momentum=0.9).per_tensor("lr", "momentum") / SGD(1e-4),
}


WAYS = {
    "pieces": {"packs.LARGE": 100, "slabs.PIECE": 128},
    "stacks": {"packs.MANY": 1},
    "short stacks": {"packs.MANY": 1, "slabs.PIECE": 2},
}


@pytest.mark.parametrize("name", TOWERS)
@pytest.mark.parametrize("way", WAYS)
def test_what_a_tensor_lies_in_does_not_change_where_it_goes(name, way, monkeypatch):
    shapes = [(40, 30), (7,), (33, 11), (), (5, 5), (0, 3), (7,), (33, 11), (), (7,), (0, 3)]
    packed = tensors(shapes)
    opt = untuned.Optimizer(packed, TOWERS[name])
    walk(packed, opt)
    for place, size in WAYS[way].items():
        monkeypatch.setattr(f"untuned.{place}", size)
    others = tensors(shapes)
    other = untuned.Optimizer(others, TOWERS[name])
    walk(others, other)
    torch.testing.assert_close(others, packed, rtol=1e-12, atol=1e-12)
    for one, same in zip(packed, others, strict=True):
        torch.testing.assert_close(other.state[same], opt.state[one], rtol=1e-12, atol=1e-12)
    assert other.hyperparameters()[0][0] == pytest.approx(opt.hyperparameters()[0][0], rel=1e-9)


@pytest.mark.parametrize("name", TOWERS)
def test_memory_that_is_not_in_order_changes_nothing(name):
    def strided():
        params = tensors([(LARGE // 64, 8, 3, 3), (6, 4)], torch.float32)
        with torch.no_grad():
            params[0].data = params[0].data.to(memory_format=torch.channels_last)
            params[1].data = params[1].data.t().contiguous().t()
        return params

    plain, other = tensors([(LARGE // 64, 8, 3, 3), (6, 4)], torch.float32), strided()
    assert not other[0].is_contiguous()
    walk(plain, untuned.Optimizer(plain, TOWERS[name]))
    walk(other, untuned.Optimizer(other, TOWERS[name]))
    torch.testing.assert_close(other, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-11)])
@pytest.mark.parametrize("rule", TOWERS.values(), ids=TOWERS)
def test_compiled_kernels_compute_the_same(rule, dtype, bound):
    shapes = [(LARGE + 17,), (LARGE,), (300, 500), (9,)]  # the first has a rest that fills no row
    assert LARGE % ROW == 0
    eager, compiled = tensors(shapes, dtype), tensors(shapes, dtype)
    slow = untuned.Optimizer(eager, rule, compile=False)
    fast = untuned.Optimizer(compiled, rule, compile=True)
    walk(eager, slow, 4)
    walk(compiled, fast, 4)  # a failure to compile would warn, which fails the test
    torch.testing.assert_close(compiled, eager, rtol=10 * bound, atol=bound)
    for one, other in zip(eager, compiled, strict=True):
        torch.testing.assert_close(fast.state[other], slow.state[one], rtol=10 * bound, atol=bound)
    assert fast.hyperparameters()[0][0] == pytest.approx(slow.hyperparameters()[0][0], rel=bound)


def test_many_small_tensors_are_compiled_as_one():
    shapes = [(300, 100)] * 5 + [(70,)]
    eager, compiled = tensors(shapes, torch.float32), tensors(shapes, torch.float32)
    slow = untuned.Optimizer(eager, TOWERS["replay"], compile=False)
    fast = untuned.Optimizer(compiled, TOWERS["replay"], compile=True)
    assert sum(p.numel() for p in compiled) > LARGE
    walk(eager, slow, 4)
    walk(compiled, fast, 4)
    torch.testing.assert_close(compiled, eager, rtol=1e-4, atol=1e-5)
    assert fast.hyperparameters()[0][0] == pytest.approx(slow.hyperparameters()[0][0], rel=1e-5)


def test_without_a_compiler_it_runs_and_says_so_once(monkeypatch):
    def missing(*args, **kwargs):
        raise RuntimeError("no g++")

    monkeypatch.setattr(torch, "compile", missing)
    monkeypatch.setattr(Compiled, "warned", False)
    from untuned import compilation

    compilation.compiled.cache_clear()
    params, plain = tensors([(LARGE,)], torch.float32), tensors([(LARGE,)], torch.float32)
    with pytest.warns(SlowExecutionWarning, match="several times as long.*no g") as caught:
        walk(params, untuned.Optimizer(params, SGD(0.1) / SGD(0.01), compile=True))
    assert len(caught) == 1
    walk(plain, untuned.Optimizer(plain, SGD(0.1) / SGD(0.01), compile=False))
    torch.testing.assert_close(params, plain)
    compilation.compiled.cache_clear()


def test_half_precision_weights_move_by_a_32_bit_rule():
    short, full = tensors([(50, 40)], torch.bfloat16), tensors([(50, 40)], torch.float32)
    with torch.no_grad():
        full[0].copy_(short[0])
    for params in (short, full):
        opt = untuned.Optimizer(params, Adam(0.1) / SGD(1e-3))
        for _ in range(3):
            params[0].grad = torch.linspace(-1, 1, 2000).view(50, 40).to(params[0].dtype)
            opt.step()
        states = [v.dtype for v in opt.state[params[0]].values()]
        assert set(states) == {torch.float32}
    torch.testing.assert_close(short[0].float(), full[0], rtol=2e-2, atol=2e-2)
    assert PIECE > LARGE


@pytest.mark.parametrize("name", ["lr", "beta1", "beta2", "eps"])
@pytest.mark.parametrize("shapes", [[(4,)], [(4,), (5, 2)], [(LARGE + 5,)]])
def test_any_one_hyperparameter_can_be_tuned_alone(name, shapes):
    """By its tangent; as one of all, replayed, it moves alike while the others hardly do."""
    rule = Adam(0.01, eps=1e-2)
    alone, all_four = tensors(shapes), tensors(shapes)
    moved = []
    for params, floor in ((alone, rule.tuning(name)), (all_four, rule)):
        opt = untuned.Optimizer(params, floor / SGD(1e-5 / sum(p.numel() for p in params)))
        raw = opt.param_groups[0][f"floor0.{name}"]
        start = float(raw)
        walk(params, opt, 4)
        moved.append(float(raw) - start)
    assert abs(moved[0]) > 1e-12
    assert moved[0] == pytest.approx(moved[1], rel=1e-3)


@pytest.mark.parametrize("rule", TOWERS.values())
def test_gradients_are_read_only(rule):
    """They may be expanded, or belong to a graph; and they are the user's."""
    params = tensors([(4,), (3,), (2, 2)], torch.float32)
    opt = untuned.Optimizer(params, rule)
    for _ in range(3):
        for param in params:
            param.grad = torch.ones(()).expand(param.shape)
        versions = [param.grad._version for param in params]
        opt.step()
        assert [param.grad._version for param in params] == versions


@pytest.mark.parametrize("rule", TOWERS.values())
def test_state_of_another_memory_format_is_still_written(rule):
    shape = (LARGE // 64, 8, 3, 3)
    source, target = (tensors([shape], torch.float32) for _ in range(2))
    with torch.no_grad():
        source[0].data = source[0].data.to(memory_format=torch.channels_last)
    plain = tensors([shape], torch.float32)
    opt, same = untuned.Optimizer(source, rule), untuned.Optimizer(plain, rule)
    walk(source, opt, 2)
    walk(plain, same, 2)
    with torch.no_grad():
        target[0].copy_(source[0])
    other = untuned.Optimizer(target, rule, compile=True)
    other.load_state_dict(opt.state_dict())
    walk(target, other, 4)
    walk(plain, same, 4)
    torch.testing.assert_close(target, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rule", TOWERS.values())
def test_an_empty_tensor_alone_is_no_trouble(rule):
    params = tensors([(0, 3)])
    walk(params, untuned.Optimizer(params, rule))


def test_each_weight_is_moved_in_its_own_precision():
    short, long = tensors([(4,)], torch.float32)[0], tensors([(3,)], torch.float64)[0]
    plain = tensors([(3,)], torch.float64)
    walk([short, long], untuned.Optimizer([short, long], Adam(0.01)))
    opt = torch.optim.Adam(plain, 0.01)
    for step in range(6):
        plain[0].grad = torch.sin(plain[0].detach() * (1 + step + 1)) + 1.5
        opt.step()
    torch.testing.assert_close(long, plain[0], rtol=1e-12, atol=0)


def test_an_eps_below_what_32_bits_square_is_kept():
    ours, theirs = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(3))
    for param, opt in (
        (ours, untuned.Optimizer([ours], Adam(eps=1e-20))),
        (theirs, torch.optim.Adam([theirs], eps=1e-20)),
    ):
        for _ in range(3):
            param.grad = torch.full((3,), 1e-15)
            opt.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=0)


@pytest.mark.filterwarnings("ignore::untuned.errors.NonFiniteGradientWarning")
@pytest.mark.parametrize("rule", TOWERS.values())
@pytest.mark.parametrize("shapes", [[(4,)], [(4,), (5,)], [(LARGE + 5,)]])
@pytest.mark.parametrize("compile", [False, True])
def test_one_bad_number_is_seen_wherever_it_lies(rule, shapes, compile):
    params = tensors(shapes, torch.float32)
    opt = untuned.Optimizer(params, rule, compile=compile)
    walk(params, opt, 3)
    before = [p.detach().clone() for p in params], opt.hyperparameters()
    for bad in (float("nan"), float("inf")):
        for param in params:
            param.grad = torch.ones_like(param)
        params[-1].grad[-1] = bad
        opt.step()
    assert opt.skipped_steps == 2
    torch.testing.assert_close([p.detach() for p in params], before[0], rtol=0, atol=0)
    assert opt.hyperparameters() == before[1]
