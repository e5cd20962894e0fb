"""A small network that Auto looks at, its training, and what was inferred."""

from torch import nn

from untuned.rules.auto import INPUT


def network():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


def hooks(net):
    """How many hooks there are."""
    return sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in net.modules())


def train(opt, loss, steps=1):
    for _ in range(steps):
        opt.zero_grad()
        loss().backward()
        opt.step()


def size(opt, weight):
    return float(opt.state[weight][INPUT])
