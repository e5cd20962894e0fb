"""How elementwise rules run: memory, kernels and towers change nothing of where tensors go."""

import copy
import io
import random

import pytest
import torch

import untuned
from support.walks import tensors, walk
from untuned.errors import SlowExecutionWarning
from untuned.execution.buckets import LARGE, ROW
from untuned.execution.compilation import Compiled
from untuned.rules import SGD, Adam

TOWERS = {
    "lone": Adam(0.01),
    "tangent": Adam(0.01).tuning("lr") / SGD(1e-4),
    "replay": Adam(0.01) / SGD(1e-4),
    "own": SGD(0.01, momentum=0.9).per_tensor("lr", "momentum") / SGD(1e-4),
}


WAYS = {
    "pieces": {"execution.buckets.LARGE": 100, "execution.buckets.CHUNK": 128},
    "stacks": {"execution.buckets.MANY": 1},
    "short stacks": {"execution.buckets.MANY": 1, "execution.buckets.CHUNK": 2},
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
    from untuned.execution import compilation

    compilation.compiled.cache_clear()
    params, plain = tensors([(LARGE,)], torch.float32), tensors([(LARGE,)], torch.float32)
    with pytest.warns(SlowExecutionWarning, match="several times as long.*no g") as caught:
        walk(params, untuned.Optimizer(params, SGD(0.1) / SGD(0.01), compile=True))
    assert len(caught) == 1
    walk(plain, untuned.Optimizer(plain, SGD(0.1) / SGD(0.01), compile=False))
    torch.testing.assert_close(params, plain)
    compilation.compiled.cache_clear()


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


@pytest.mark.parametrize("seed", range(4))
def test_states_side_by_side_go_torchs_way_through_loads_copies_and_idle_tensors(seed):
    choose = random.Random(seed)
    shapes = [*[(64, 64)] * 9, *[(64,)] * 7, (3, 5), (), (0, 4)]
    ours = tensors(shapes)
    theirs = [weight.detach().clone().requires_grad_() for weight in ours]
    opt = untuned.Optimizer(ours, Adam(0.01))
    torchs = torch.optim.Adam(theirs, lr=0.01)
    for _ in range(25):
        idle = choose.random() < 0.5
        for weight, same in zip(ours, theirs, strict=True):
            weight.grad = None if idle and choose.random() < 0.3 else torch.randn_like(weight)
            same.grad = None if weight.grad is None else weight.grad.clone()
        opt.step()
        torchs.step()
        change = choose.random()
        if change < 0.15:
            file = io.BytesIO()
            torch.save(opt.state_dict(), file)
            file.seek(0)
            opt.load_state_dict(torch.load(file))
        elif change < 0.3:
            opt, ours = copy.deepcopy((opt, ours))
        elif change < 0.45:  # somebody puts other tensors into one of the states
            state = opt.state[choose.choice(list(opt.state))]
            state.update({name: value.clone() for name, value in state.items()})
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_states_of_small_tensors_of_one_shape_share_a_buffer():
    weights = tensors([(64, 64)] * 9)
    opt = untuned.Optimizer(weights, Adam(0.01))
    walk(weights, opt, 2)
    places = {opt.state[weight]["m"].untyped_storage().data_ptr() for weight in weights}
    assert len(places) == 1
