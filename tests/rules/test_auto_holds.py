"""Auto leaves rows alone whose gradients have always been zero, and moves the others."""

import torch
import torch.nn.functional as F
from torch import nn

import untuned


class Table(nn.Module):
    """A bare table, of which some rows are never used, and a matrix with a masked gradient."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(12, 8))
        self.body, self.head = nn.Linear(8, 16), nn.Linear(16, 3)

    def forward(self, rows):
        return self.head(torch.tanh(self.body(self.table[rows])))


def test_rows_without_gradients_stay_to_the_bit():
    net = Table()
    net.body.weight.register_hook(lambda grad: grad * (torch.arange(16) < 10)[:, None])
    opt = untuned.Auto(net, average=False)
    table, body = net.table.detach().clone(), net.body.weight.detach().clone()
    for _ in range(100):
        opt.zero_grad()
        rows = torch.randint(7, (32,))
        F.cross_entropy(net(rows), rows % 3).backward()
        opt.step()
    assert torch.equal(net.table[7:], table[7:])
    assert torch.equal(net.body.weight[10:], body[10:])
    assert (net.table[:7] != table[:7]).all()
    assert (net.body.weight[:10] != body[:10]).all()
