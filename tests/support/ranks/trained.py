"""What `spread.py` and `saved.py` train: networks, and tensors of every geometry."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

import untuned
from untuned.geometry import Conv, Dense, Embedding, Stack, Vector

STEPS = 4  # the highest of three floors moves from the third on

# Of each geometry tensors that two and four processes share unevenly, or have too little of
TENSORS = (
    (Dense(), (7, 6)),
    (Dense(), (6, 1)),
    (Dense(), (1, 5)),
    (Dense(parts=3), (12, 5)),
    (Dense(parts=4), (20, 3)),
    (Dense(parts=3, transposed=True), (5, 12)),
    (Embedding(), (9, 4)),
    (Vector(), (7,)),
    (Vector(parts=3), (9,)),
    (Conv(), (5, 3, 3, 2)),
    (Conv(groups=3), (6, 2, 2, 2)),
    (Conv(groups=5), (5, 1, 3)),
    (Conv(transposed=True), (3, 5, 2, 2)),
    (Conv(groups=2, transposed=True, stride=4), (6, 4, 2, 2)),
    (Stack(), (3, 4, 5)),
)


class Result(NamedTuple):
    """What came of a case."""

    weights: list[Tensor]
    hyperparameters: list[list[dict[str, float]]]
    collectives: int


def rule_of(text: str):
    """A rule or tower by its text."""
    if text == "free_nero":
        return untuned.rules.nero.FreeNero()
    return untuned.rules.AGD().as_published() if text == "agd.published" else text


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor."""
    full = getattr(tensor, "full_tensor", None)
    return tensor.detach().clone() if full is None else full().detach()


def counted(step: Callable[[], None], number: int) -> int:
    """How many collectives one of the first two steps takes: the first, and one like all others."""
    if not dist.is_initialized() or number > 1:
        step()
        return 0
    from torch.distributed.tensor.debug import CommDebugMode

    with CommDebugMode() as seen:
        step()
    return sum(seen.get_comm_counts().values())


def tensors(rule: str, place: Callable[[Tensor], Tensor] = Tensor.clone) -> Result:
    """Steps along random gradients, on tensors of every geometry."""
    random = torch.Generator().manual_seed(1)

    def draw(shape):
        return torch.randn(shape, generator=random, dtype=torch.float64)

    groups = [
        {"params": [nn.Parameter(place(draw(shape)))], "layer": layer} for layer, shape in TENSORS
    ]
    if rule == "agd.published":  # a vector goes with the weight before it, all by shape
        weights = [draw((6, 5)), draw((6,)), draw((4, 3, 2, 2)), draw((4,))]
        groups = [{"params": [nn.Parameter(place(weight)) for weight in weights]}]
    opt = untuned.Optimizer(groups, rule_of(rule))
    params = [param for group in groups for param in group["params"]]
    most = 0
    for step in range(STEPS):
        for param in params:
            param.grad = place(draw(param.shape))
        most = max(most, counted(opt.step, step))
    return Result([whole(p) for p in params], opt.hyperparameters(), most)


class Network(nn.Module):
    """Layers of many kinds; two and four processes cannot share them evenly."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 6)
        self.conv = nn.Conv1d(6, 5, 3, padding=1)
        self.norm = nn.LayerNorm(5)
        self.lstm = nn.LSTM(5, 3, batch_first=True)
        self.up = nn.Linear(3, 9)
        self.down = nn.Linear(9, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.conv(self.table(tokens).mT).mT
        x = self.lstm(self.norm(x))[0]
        return self.down(torch.tanh(self.up(x)))[..., 0]


def train(
    rule: str,
    build: Callable[[], nn.Module],
    shard: Callable[[nn.Module], nn.Module | None] | None,
    parts=1,
) -> Result:
    """Steps of a network, each process of `parts` on its own share of the batch.

    `shard` changes it in place, or wraps it.
    """
    torch.manual_seed(0)
    model = build().double()
    net = (shard(model) if shard is not None else None) or model
    opt = untuned.Optimizer(model, rule_of(rule))
    mine = dist.get_rank() % parts if dist.is_initialized() else 0
    most = 0
    for step in range(STEPS):
        random = torch.Generator().manual_seed(step)
        tokens = torch.randint(7, (8, 6), generator=random)[mine::parts]
        opt.zero_grad()
        F.mse_loss(net(tokens), tokens.double() / 7).backward()
        most = max(most, counted(opt.step, step))
    return Result([whole(p) for p in model.parameters()], opt.hyperparameters(), most)


class Chain(nn.Module):
    """Two layers, for tensor parallelism."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 4)
        self.norm = nn.LayerNorm(4)
        self.up = nn.Linear(4, 12)
        self.down = nn.Linear(12, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.down(torch.tanh(self.up(self.norm(self.table(tokens)))))[..., 0]
