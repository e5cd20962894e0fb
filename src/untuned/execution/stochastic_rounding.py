"""Stochastic rounding of 16-bit weights, so that steps too small for them are not lost.

Next to a weight of 1 bfloat16 resolves 0.004, and float16 0.0005: rounded to nearest, steps of
less than half of that leave a weight unchanged, always. Rounded up or down at random, with the odds
that make it right on average, they add up (Croci et al. 2022, "Stochastic rounding:
implementation, error analysis and applications").

The random bits are a hash of the entry's position and of a key that changes with every step: the
same on every rank that holds a copy of the weight, and after a resume.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

SHORT = (torch.float16, torch.bfloat16)
SPARE = {torch.float16: 13, torch.bfloat16: 16}  # bits of float32's mantissa that they lack
SUBNORMAL = 2.0**-14  # below which float16's numbers are equally far apart

# Odd constants whose bits look random: multiplying by them spreads what is in the low bits upwards
MIX = (0x2C1B3C6D, 0x297A2D39, 0x1B56C4E9)


def key_of(*numbers: Tensor | int) -> Tensor:
    """A key, 0-d int32, from several integers, of which the first is a tensor."""
    key = fold_in(*numbers)
    assert isinstance(key, Tensor)
    return key.to(torch.int32)


def fold_in(*numbers: Tensor | int) -> Tensor | int:
    """Hash several integers into one below 2**31 (as `jax.random.fold_in` does)."""
    mix: Tensor | int = 0
    for number in numbers:
        mix = ((mix ^ number) * MIX[0] + MIX[1]) % 2**31
        mix = mix ^ (mix >> 15)
    return mix


def dithered(exact: Tensor, dtype: torch.dtype, key: Tensor) -> Tensor:
    """`exact`, float32, rounded to a type of 16 bits, up or down: right on average.

    Values that the dtype can represent are unchanged; larger ones become its maximum.
    """
    largest = torch.finfo(dtype).max
    exact = exact.clamp(-largest, largest)
    if dtype == torch.float16:  # lift small numbers to where float32's are as far apart, too
        lift = torch.where(exact.abs() < SUBNORMAL, torch.copysign(exact * 0 + SUBNORMAL, exact), 0)
        return (_cut(exact + lift, SPARE[dtype], key) - lift).to(dtype)
    return _cut(exact, SPARE[dtype], key).to(dtype)


def _cut(exact: Tensor, spare: int, key: Tensor) -> Tensor:
    """Cut off the last bits of float32, after adding random ones to them: a carry rounds away."""
    last = 2**spare - 1
    bits = _random_bits(exact, key) >> (32 - spare)
    bits &= last
    bits += exact.view(torch.int32)
    bits &= ~last
    return bits.view(torch.float32)


def _random_bits(like: Tensor, key: Tensor) -> Tensor:
    """Random bits for each entry, int32: a hash of its position and the key; products wrap."""
    bits = torch.arange(like.numel(), dtype=torch.int32, device=like.device).view(like.shape)
    bits *= MIX[2]
    bits += key
    for factor in MIX[:2]:
        bits ^= bits >> 15
        bits *= factor
    return bits


class Write(NamedTuple):
    """The terms on which a step writes weights and states.

    finite: whether the step is taken at all; 0-d on the device where the host must not read it.
    key: 0-d int32, of the stochastic rounding of 16-bit weights; None: there are none.
    """

    finite: bool | Tensor = True
    key: Tensor | None = None

    def fold_in(self, *numbers: int) -> Write:
        """The same with a key for one of many pieces, identified by its numbers."""
        return self if self.key is None else self._replace(key=self.key + fold_in(*numbers))

    def over(self, old: Tensor, new: Tensor) -> Tensor:
        """The value to write over `old`: `new` if the step is taken."""
        return torch.where(self.finite, new, old) if isinstance(self.finite, Tensor) else new

    def sane(self, direction: Tensor) -> Tensor:
        """The direction, or zeros where the step is not taken: it may hold inf or NaN then."""
        if not isinstance(self.finite, Tensor):
            return direction
        return torch.where(self.finite, direction, 0.0)

    def rounded(self, exact: Tensor, dtype: torch.dtype) -> Tensor:
        """A weight's new value in its own dtype."""
        return exact if self.key is None or dtype not in SHORT else dithered(exact, dtype, self.key)
