"""Running statistics of batch norms fit the average of the weights, not the iterate."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.swa_utils import update_bn

import untuned
from support.averages import averages, iterates
from support.networks import equal

XS = torch.randn(512, 6, generator=torch.Generator().manual_seed(0)) + 1.0
NOISE = torch.randint(3, (512,), generator=torch.Generator().manual_seed(1))
LABELS = torch.where(XS[:, 0] > 1, (XS[:, 1] * XS[:, 2] > 1).long(), NOISE)  # steps keep turning


def network(dropout=0.0):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(dropout),
        nn.Linear(16, 16), nn.BatchNorm1d(16, affine=False), nn.ReLU(), nn.Linear(16, 3),
    )  # fmt: skip


def rows_of(step):
    return torch.randint(512, (256,), generator=torch.Generator().manual_seed(step))


def backward(model, step, call=None):
    rows = rows_of(step)
    F.cross_entropy((call or model)(XS[rows]), LABELS[rows]).backward()


def train(model, opt, steps, call=None):
    for step in steps:
        opt.zero_grad()
        backward(model, step, call)
        opt.step()


def statistics(model):
    return {n: b.clone() for n, b in model.named_buffers() if n.endswith(("_mean", "_var"))}


def over_the_training_set(model, weights):
    """The statistics of a pass over the training set with some weights."""
    twin = copy.deepcopy(model)
    twin.load_state_dict(weights, strict=False)
    update_bn(XS.split(64), twin.train())
    return statistics(twin)


def far(one, other):
    """How far statistics are apart, in standard deviations, and as a ratio of variances."""
    apart = [
        (one[name] - other[name]).abs() / other[name.replace("mean", "var")].sqrt()
        if name.endswith("mean")
        else (one[name] / other[name]).log().abs()
        for name in one
    ]
    return float(torch.cat(apart).mean())


def usual(model):
    """What the running statistics would be of the passes in training, with torch's momentum."""
    found = statistics(model)

    def see(name, norm, inputs):
        if torch.is_grad_enabled():
            x = inputs[0].detach()
            for kind, value in (("mean", x.mean(0)), ("var", x.var(0))):
                found[f"{name}.running_{kind}"].lerp_(value, 0.1)

    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm1d):
            module.register_forward_pre_hook(lambda *call, name=name: see(name, *call))
    return found


@pytest.mark.parametrize(("steps", "share"), [(10, 0.4), (300, 2.0)])
def test_statistics_in_evaluation_are_near_those_of_the_average(steps, share):
    model = network()
    opt = untuned.Auto(model)
    of_iterates = usual(model)
    train(model, opt, range(steps))
    reference = over_the_training_set(model, averages(model))
    assert far(statistics(model), reference) < 0.12
    assert far(statistics(model), reference) < share * far(of_iterates, reference)


def test_statistics_are_those_of_batches_passed_with_the_average():
    model = network()
    opt = untuned.Auto(model)
    mean, var = torch.zeros(16).double(), torch.ones(16).double()
    for step in range(150):
        if step % max(1, step // 60) == 0:
            found = XS[rows_of(step)].double() @ model[0].weight.detach().double().T
            found = found + model[0].bias.detach().double()
            recent = max(0.4, 1 / (step + 1))
            mean = mean + recent * (found.mean(0) - mean)
            var = var + recent * (found.var(0) - var)
        train(model, opt, [step])
        torch.testing.assert_close(model[1].running_mean.double(), mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(model[1].running_var.double(), var, rtol=1e-4, atol=1e-5)


def test_an_evaluation_amid_a_pass_has_them_too():
    model = network()
    opt = untuned.Auto(model)
    train(model, opt, range(121))  # the next step renews nothing
    expected = model.eval()(XS)
    before = statistics(model)
    W = iterates(model, opt)
    rows = rows_of(121)
    opt.zero_grad()
    loss = F.cross_entropy(model.train()(XS[rows]), LABELS[rows])
    assert torch.equal(model.eval()(XS), expected)
    loss.backward()  # through norms whose statistics were others in between
    leaves = {name: w.clone().requires_grad_() for name, w in W.items()}
    again = F.cross_entropy(
        torch.func.functional_call(copy.deepcopy(model.train()), leaves, (XS[rows],)), LABELS[rows]
    )
    for grad, p in zip(
        torch.autograd.grad(again, list(leaves.values())), model.parameters(), strict=True
    ):
        assert torch.equal(p.grad, grad)
    opt.step()
    assert equal(statistics(model), before)


@pytest.mark.parametrize("half", [20, 100, 101])
def test_what_is_loaded_goes_on_bit_for_bit(half):
    model = network(dropout=0.1)
    opt = untuned.Auto(model)
    train(model, opt, range(half))
    other = network(dropout=0.1)
    its = untuned.Auto(other)
    other.load_state_dict(model.state_dict())
    its.load_state_dict(opt.state_dict())
    for each, optimizer in ((model, opt), (other, its)):
        torch.manual_seed(1)
        train(each, optimizer, range(half, half + 5))
        torch.manual_seed(2)
    assert equal(dict(model.state_dict()), dict(other.state_dict()))


def test_frozen_norms_are_left_alone():
    model = network()
    opt = untuned.Auto(model)
    train(model, opt, range(5))
    model[1].eval()
    before = statistics(model)
    counted = [int(model[i].num_batches_tracked) for i in (1, 5)]
    train(model, opt, range(5, 10))
    after = statistics(model)
    assert equal(
        [after[n] for n in after if n[0] == "1"], [before[n] for n in before if n[0] == "1"]
    )
    assert not equal(after["5.running_mean"], before["5.running_mean"])
    assert [int(model[i].num_batches_tracked) for i in (1, 5)] == [counted[0], counted[1] + 5]


def test_a_network_whose_norms_are_all_frozen_takes_no_extra_passes():
    model = network()
    calls = []
    model[0].register_forward_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    opt = untuned.Auto(model)
    train(model, opt, range(3))
    assert calls == [False, True] * 3
    calls.clear()
    model[1].eval(), model[5].eval()
    train(model, opt, range(3))
    assert calls == [True] * 3


class Counting(nn.Module):
    """Passes in training, counted by a module of somebody else's."""

    def __init__(self):
        super().__init__()
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, x):
        self.passes += self.training
        return x


def test_the_extra_passes_are_unseen():
    """Dropout's random numbers, and buffers, are those of a training without them."""
    masks, states = [], []
    for average in (True, False):
        model = network(dropout=0.5).append(Counting())
        opt = untuned.Auto(model, average=average)
        seen = []

        def see(_, inputs, found, seen=seen):
            if torch.is_grad_enabled():
                seen.append((found != 0)[inputs[0] != 0])

        model[3].register_forward_hook(see)
        torch.manual_seed(3)
        for _ in range(5):
            model(XS[:8])
        backward(model, 0)
        opt.step()
        masks.append(seen)
        states.append(torch.get_rng_state())
        assert model[-1].passes == 6
        assert model[1].num_batches_tracked == 6
        assert model[1].momentum == 0.1
    assert equal(*masks)
    assert torch.equal(*states)


class Root(nn.Module):
    """A root that is never called."""

    def __init__(self):
        super().__init__()
        self.net = network()

    def layer_by_layer(self, x):
        for layer in self.net:
            x = layer(x)
        return x


def test_the_root_need_not_be_called():
    model, other = network(), Root()
    opt, its = untuned.Auto(model), untuned.Auto(other)
    train(model, opt, range(20))
    train(other, its, range(20), call=other.net)
    assert equal(dict(model.state_dict()), dict(other.net.state_dict()))


def test_norms_may_be_called_one_by_one():
    """A pass of each with the average, where all before it are the iterate's."""
    model = Root()
    opt = untuned.Auto(model)
    train(model, opt, range(200), call=model.layer_by_layer)
    net = model.net
    reference = over_the_training_set(net, averages(net))
    assert far(statistics(net), reference) < 0.2
    W = {name[4:]: w for name, w in iterates(model, opt).items()}
    before = statistics(net)
    opt.zero_grad()
    backward(model, 200, model.layer_by_layer)
    found = {name: p.grad for name, p in net.named_parameters()}
    rows = rows_of(200)
    leaves = {name: w.clone().requires_grad_() for name, w in W.items()}
    twin = copy.deepcopy(net)
    loss = F.cross_entropy(torch.func.functional_call(twin, leaves, (XS[rows],)), LABELS[rows])
    grads = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
    assert equal(found, grads)
    opt.step()
    train(model, opt, range(201, 207), call=model.layer_by_layer)  # one in six renews them
    assert not equal(statistics(net), before)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_norms_within_a_compiled_part_have_them_too():
    torch._dynamo.reset()
    model = Root()
    model.table = nn.Linear(6, 6)
    model.net.compile(backend="eager")
    opt = untuned.Auto(model)
    train(model, opt, range(100), call=lambda x: model.net(model.table(x)))
    net = copy.deepcopy(nn.Sequential(model.table, *model.net))
    reference = over_the_training_set(net, {})
    assert far(statistics(net), reference) < 0.12


def test_momentum_of_none_stays_none():
    model = network()
    model[1].momentum = None
    opt = untuned.Auto(model)
    train(model, opt, range(5))
    assert model[1].momentum is None
    assert model[1].num_batches_tracked == 5
