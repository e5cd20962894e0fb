"""Auto: spectral steps in a ball whose radius follows from the network's degree.

Ours: what AGD (arXiv:2304.05187) and Nero (arXiv:2102.07227) leave apart, joined; `docs/auto.md`
derives it. With g_l = gradient of layer l, m_l = its momentum (Nesterov's), W_1 ... the matrices,
W_h the last of them, the head:

    D    = sum_l <g_l, W_l> / <g_h, W_h>                       (the degree, averaged over steps)
    s    = q min(STEP, TRUST / D) / (1 + N / PATIENCE)^power   (how far)
    W_l <- (1 - s c_l / R) W_l - s c_l r_l dual(m_l),   R = min(REACH, GAIN^(1 / D))

Legend: r_l = radius of the unit step (`geometry`), over (kx ky)^(1/4) where that counts a kernel's
offsets as unrelated, which steps are not, and over the size of the layer's inputs where those are
data; dual(m) = U V^T of m = U S V^T (`geometry.orthogonal`); N = how many steps were turned back,
in the mean over blocks: a block's is where its momentum is shorter than pure noise leaves it, and
c_l = the ratio of the two lengths there, 1 elsewhere. What moves by entry is turned back where
<g_l, m_l> < 0; with no matrix but the head N is the mean over these blocks.

Several heads, the last matrices of their branches, count as one: <g_h, W_h> is their sum. If no
head moves, the l of the largest |<g_l, W_l>| stands for h. A matrix of degree one (any of a chain,
so the last that moves before a frozen head) gives D exactly. If all have a lower degree, as in
residual branches, D comes out too large, and steps too short.

So time runs only where steps undo each other, which is Kesten's rule (Ann. Math. Stat. 29, 1958).
Who states the horizon T has s fall along the line 1 - t / T instead, and stay at 1 / T beyond it.
Where weights are averaged (`averaging`) the power is 1/2: the average removes noise, and steps must
go on travelling (Polyak and Juditsky 1992); without an average it is 1 (Robbins and Monro 1951).

q is how far the first steps may be believed. It starts at FIRST and then, up to 1,

    q <- q 2^(4 clip(a, 0, 1/4) - 2 clip(-a - 1/2, 0, 1/4)),
    a = mean of clip(<g_l, m_l> / <m_l, m_l>, -1, 1)

over matrices, where m_l is the momentum before the gradient, its bias removed: a is how much of it
the gradient confirms, whatever noise the gradient has besides. q doubles while steps agree, and
falls where they undo the last ones. Random weights agree for many steps; pretrained ones, which lie
in a valley already, stop agreeing as soon as steps cross it, as do those whose function moves much
further than they do (sines of high frequency). Once it is 1, q stays: the clock shortens steps.
With no matrix but the head q is 1: rows of tables are too noisy to agree, and entries move by less
than a step's size whatever gradients are.

STEP is for layers that move together. A head that moves alone, with its bias, has all of TRUST:
outputs are linear in it, so no layer's step makes another's gradient wrong.

Matrices stay in the ball of radius R r_l: a step goes a share s c_l / R of the way to its surface.
If all matrices grow by a factor, the function grows by that factor to the power D, so D layers in
their balls amplify by GAIN at most, whatever their number; a layer before a norm does not count,
for <g_l, W_l> is zero, and a chain's layers count one each. Entries whose gradients have always
been zero stay where they are.

Where the passes do not pay for duals (`turns`), matrices take turns after PATIENCE steps: each
moves in every k-th step, k times as far. All together they go as far in a step as before.

Vectors, embeddings and the head move along Adam's direction (arXiv:1412.6980), whose entries are
about one, by `Layer.by_entry`. The head's ball is a cube of R such steps; the others are free.
"""

import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, compress, count
from typing import ClassVar

import torch
from torch import Tensor, nn

from untuned._tensors import integers
from untuned.blockwise import Blockwise, Leaves, NetworkStep, Step
from untuned.charts import Chart
from untuned.domain import NON_NEGATIVE, hyperparameter
from untuned.geometry import assignment
from untuned.geometry.block_vector import BlockVector
from untuned.geometry.layer import Layer, Shape
from untuned.rule import State
from untuned.rules.degree import Counted, alone, counted, degree, every_and_head, is_spectral

STEP = 0.06  # of a unit step
TRUST = math.log((1 + math.sqrt(5)) / 2)  # AGD's eta at G = 1: how far all layers go together
PATIENCE = 40  # steps turned back until they are half as long
FIRST = 2.0**-8  # of a step: the first one
AGREED = 0.25  # the share of the momentum that is confirmed when first steps double
OPPOSED = 0.5  # the share that gradients undo from which first steps are halved, every second one
GAIN = 2000.0  # how large a function is wanted
REACH = 30.0  # the largest ball
ENTRY = 0.4  # of a step's size, for what moves by entry
MOMENTUM, SQUARES, DEGREE = 0.9, 0.98, 0.95  # how much of each average is kept in a step
# The norm of the momentum's weights: what it makes of gradients of norm one that are all noise
NOISE = math.sqrt((1 - MOMENTUM**2) ** 2 + (1 - MOMENTUM) ** 2 * MOMENTUM**4 / (1 - MOMENTUM**2))

REVERSALS = "reversals"  # in the state of a tensor: how often each block was turned back
INPUT = "auto.input"  # in the state of a tensor: the size of its data; 0: not known


@dataclass(frozen=True)
class Auto(Blockwise):
    """No learning rate, nothing to tune: see above.

    Args:
        horizon: the total number of optimizer steps, beyond which they stay as short as the last;
            0: not known.
        power: of the clock, by which steps fall: 1/2 where weights are averaged.
        turns: k, of matrices that take turns, each k times as far; 0: not known, each moves always.
    """

    horizon: float = hyperparameter(0.0, NON_NEGATIVE)
    power: float = hyperparameter(1.0, NON_NEGATIVE)
    turns: float = hyperparameter(0.0, NON_NEGATIVE)

    charts: ClassVar[Mapping[str, Chart] | None] = {}
    measures_radial: ClassVar[bool] = True
    counter: ClassVar[str | None] = REVERSALS
    measures_along: ClassVar[str | None] = "momentum"

    def state_like_weight(self, layer: Layer, shape: Shape) -> tuple[str, ...]:
        return ("momentum",) if layer.by_entry(shape) is None else ("momentum", "square")

    def assign(self, module: nn.Module) -> Iterator[assignment.Assigned]:
        return assignment.with_head(module)

    def init(self, blocks: BlockVector, norms: Tensor) -> list[State]:
        number, each = norms.new_zeros(()), blocks.spread(torch.zeros_like(norms))
        return [
            {"step": number.clone(), INPUT: number.clone(), "v": v.clone(), REVERSALS: v.clone()}
            for v in each
        ]

    def plan_step(
        self, groups: Sequence[Leaves], L: int, network_state: Mapping[str, Tensor]
    ) -> NetworkStep:
        """How far, and the degree in the place of the depth."""
        every, head = every_and_head(groups)
        zero = torch.zeros_like(every)
        before = {name: value.to(every) for name, value in network_state.items()}
        product = torch.lerp(every * head, before.get("product", zero), DEGREE)
        square = torch.lerp(head * head, before.get("square", zero), DEGREE)
        D = degree(product, square)
        t = before.get("steps", zero)
        blocks = counted(groups)
        q = _believed(blocks, [leaves.along for leaves in groups], before.get("believed", zero), t)
        N = blocks.mean([leaves.counter for leaves in groups])
        longest = TRUST / D if alone(groups) else (TRUST / D).clamp(max=STEP)
        eta = q * longest * self._shorter(N, t)
        new = {"product": product, "square": square, "steps": t + 1, "believed": q}
        return NetworkStep(eta, D, new)

    def _shorter(self, N: Tensor, t: Tensor) -> Tensor:
        """Than at first, by so much are steps after `t` of them, `N` of which were turned back."""
        T = torch.zeros_like(t) + self.horizon  # which may be a tensor, anywhere
        shorter = (1 + N / PATIENCE) ** -self.power
        return torch.where(T > 0, (T - t).clamp(min=1.0) / T, shorter)

    def update(self, leaves: Leaves, eta: Tensor | float, L: Tensor | int) -> Step:
        """`eta` is how far, `L` the degree."""
        blocks, states = leaves.blocks, leaves.states
        owner = blocks.owner(leaves.sizes.device)
        t = torch.stack(list(map(operator.itemgetter("step"), states))).to(leaves.sizes) + 1
        turn = self._turns(leaves)
        new, directions, norms = self._directions(leaves, turn)
        unbiased = (torch.sqrt(1 - SQUARES**t) / (1 - MOMENTUM ** (t + 1)))[owner]
        v = blocks.gather(list(map(operator.itemgetter("v"), states))).to(t)
        v = torch.lerp(leaves.sizes**2, v, SQUARES)
        certain = torch.where(v > 0, norms * unbiased / (NOISE * v.sqrt()), 0.0).clamp(max=1.0)
        reversals = blocks.gather(list(map(operator.itemgetter(REVERSALS), states))).to(t)
        by_entry = blocks.of_layers(_by_entry, t)
        assert leaves.along is not None
        turned = torch.where(by_entry > 0, leaves.along < 0, (certain < 1) & (v > 0))
        k = integers(turn, t.device).to(t)[owner]
        reversals = reversals + k * turned
        spectral = blocks.of_layers(_radius, t) * certain * k
        units = torch.where(by_entry > 0, ENTRY * by_entry * unbiased, spectral)
        inputs = torch.stack(list(map(operator.itemgetter(INPUT), states))).to(t)[owner]
        inputs = torch.where(inputs > 0, inputs, 1.0)
        radius = ball(torch.as_tensor(L))
        share = blocks.of_layers(_in_ball, t) * torch.where(by_entry > 0, 1.0, certain * k) / radius
        keep = 1 - torch.as_tensor(eta).abs() * share
        kept = zip(new, t, blocks.spread(v), blocks.spread(reversals), strict=True)
        for state, step, size, number in kept:
            state |= {"step": step, "v": size, REVERSALS: number}
        held = map(operator.and_, blocks.layers_with(_in_ball), map(bool, turn))
        pairs = zip(held, new, strict=True)
        moving = [s.get("square", s["momentum"]) if inside else None for inside, s in pairs]
        return Step(-eta * units / inputs, directions, new, keep, moving)

    def _turns(self, leaves: Leaves) -> list[int]:
        """For each tensor how many steps it takes in one: 1, or k and 0 in turns."""
        k = round(float(self.turns))
        if k <= 1 or leaves.turn < PATIENCE:
            return [1] * len(leaves.states)
        matrices = leaves.blocks.layers_with(is_spectral)
        numbers = accumulate(matrices, initial=leaves.turn)  # biases between them take no turns
        return [k * (i % k == 0) if own else 1 for i, own in zip(numbers, matrices, strict=False)]

    def _directions(
        self, leaves: Leaves, turn: Sequence[int]
    ) -> tuple[list[State], list[Tensor | None], Tensor]:
        """The new momentum and mean squares, the directions that follow from them, and norms.

        Norms, (blocks,), are those of the matrices before they are orthogonalised; one elsewhere.
        """
        before = list(map(operator.itemgetter("momentum"), leaves.states))
        grads = list(map(Tensor.to, leaves.grads, before))
        momentum = torch._foreach_lerp(before, grads, 1 - MOMENTUM)
        new: list[State] = [{"momentum": m} for m in momentum]
        moving = list(compress(count(), turn))
        m, g = list(map(momentum.__getitem__, moving)), list(map(grads.__getitem__, moving))
        nesterov = torch._foreach_lerp(m, g, 1 - MOMENTUM) if moving else ()
        ahead = dict(zip(moving, nesterov, strict=True))
        matrices = leaves.blocks.layers_with(is_spectral)
        spectral = list(filter(matrices.__getitem__, moving))
        if not all(matrices):
            _by_roots_(grads, ahead, leaves.states, new)
        assert leaves.orthogonalise is not None
        found = leaves.orthogonalise(spectral, list(map(ahead.__getitem__, spectral)))
        norms = list(map(operator.itemgetter("v"), leaves.states))  # to be replaced, all of them
        for i, direction, norm in zip(spectral, *found, strict=True):
            ahead[i], norms[i] = direction, norm
        sizes = leaves.blocks.gather(norms).to(leaves.sizes)
        known = leaves.blocks.of_layers(is_spectral, sizes) > 0
        return new, list(map(ahead.get, range(len(turn)))), torch.where(known, sizes, 1.0)


def _by_roots_(
    grads: Sequence[Tensor], ahead: dict[int, Tensor], states: Sequence[State], new: list[State]
) -> None:
    """Where there are mean squares: renew them, and put `ahead` in units of their roots.

    That is Adam's direction; zero of zero.
    """
    entries = [i for i, state in enumerate(states) if "square" in state]
    before = [states[i]["square"] for i in entries]
    given = list(map(grads.__getitem__, entries))
    renewed = torch._foreach_lerp(torch._foreach_mul(given, given), before, SQUARES)
    roots = torch._foreach_clamp_min(torch._foreach_sqrt(renewed), torch.finfo(torch.float32).tiny)
    scaled = torch._foreach_div(list(map(ahead.__getitem__, entries)), roots)
    moving = torch._foreach_mul(scaled, torch._foreach_sign(renewed))
    for i, square, direction in zip(entries, renewed, moving, strict=True):
        new[i]["square"], ahead[i] = square, direction


def ball(D: Tensor) -> Tensor:
    """R, 0-d: how large weights may become, in units of a unit step."""
    return (GAIN ** (1 / D)).clamp(max=REACH)


def unit_step(layer: Layer, shape: Shape) -> float:
    """The size of a unit step for inputs of size one: r_l, or that of each entry.

    Args:
        layer: the tensor's geometry.
        shape: the tensor's.
    """
    by_entry = layer.by_entry(shape)
    return _radius(layer, shape) if by_entry is None else ENTRY * by_entry


def _by_entry(layer: Layer, shape: Shape) -> float:
    return layer.by_entry(shape) or 0.0


def _radius(layer: Layer, shape: Shape) -> float:
    """Of a unit step, a kernel's offsets going partly the same way."""
    return layer.radius(shape) / math.pow(layer.offsets(shape), 0.25)


def _in_ball(layer: Layer, shape: Shape) -> float:
    """Not vectors and embeddings."""
    return float(layer.by_entry(shape) is None or layer.is_head())


def _believed(blocks: Counted, along: Sequence[Tensor | None], before: Tensor, t: Tensor) -> Tensor:
    """How much of a step is taken: q after `t` steps, the last of which took `before`."""
    unbiased = 1 - MOMENTUM**t
    agreed = blocks.mean([(unbiased * a).clamp(-1.0, 1.0) for a in along if a is not None])
    begun = torch.where(t > 0, 1.0, FIRST)  # a state without q is older than q
    doubled = agreed.clamp(0.0, AGREED) / AGREED
    halved = (-agreed - OPPOSED).clamp(0.0, AGREED) / (2 * AGREED)
    grown = before * 2 ** torch.where(before < 1, doubled - halved, 0.0)
    q = torch.where(before > 0, grown.clamp(max=1.0), begun)
    return torch.where(blocks.matrices, q, 1.0)
