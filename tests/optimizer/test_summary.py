"""`print(opt)` says in a few lines what was made of the parameters."""

import pytest
import torch
from torch import nn

import untuned
from support.spies import HostReads


class Backwards(nn.Module):
    """Declares the head before the body."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(8, 2)
        self.body = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 8), nn.ReLU())

    def forward(self, tokens):
        return self.head(self.body(tokens))


def lines_of(opt):
    return dict(line.strip().split(": ", 1) for line in str(opt).splitlines()[1:])


def test_autos_lines_name_layers_head_horizon_and_average():
    net = Backwards()
    opt = untuned.Auto(net, horizon=2000)
    assert str(opt).splitlines()[0] == "Auto"
    assert len(str(opt).splitlines()) < 10
    lines = lines_of(opt)
    count = sum(param.numel() for param in net.parameters())
    assert lines["parameters"] == f"5 tensors, {count} entries"
    assert {"2 Dense", "1 Embedding"} <= set(lines["geometry"].split(", "))
    assert lines["head"].startswith("body.1.weight (declared last")
    assert (lines["lr"], lines["horizon"]) == ("1", "2000")
    assert lines["average"] == "the module holds it"


def test_the_head_is_the_one_of_the_pass_after_the_first_step():
    net = Backwards()
    opt = untuned.Auto(net, average=False)
    net(torch.tensor([1, 2])).sum().backward()
    opt.step()
    lines = lines_of(opt)
    assert (lines["head"], lines["average"]) == ("head.weight", "none")
    assert lines["horizon"].startswith("none")


def test_others_show_their_options_and_what_is_frozen():
    net = Backwards()
    net.head.requires_grad_(False)
    groups = [{"params": net.body, "lr": 0.5}, {"params": net.head}]
    lines = lines_of(untuned.AGD(groups, gain=2.0))
    assert (lines["lr"], lines["gain"]) == ("0.5, 1", "2")
    assert "5 tensors (2 frozen)" in lines["parameters"]
    assert str(untuned.Optimizer(net, "adam / sgd")).splitlines()[0] == "Optimizer, Adam / SGD"


@pytest.mark.parametrize("build", [untuned.Auto, untuned.AGD, untuned.Nero])
def test_nothing_is_read_from_the_device(build):
    opt = build(Backwards())
    with HostReads() as reads:
        assert "geometry" in repr(opt)
    assert reads.count == 0
