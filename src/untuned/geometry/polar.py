"""U V^T of matrices G = U S V^T: two iterations by which singular values become one.

Each applies odd functions of the singular values x, first scaled to at most one, and leaves U and V
as they are. Values far below the largest, which rounding has disturbed, stay below one.

`halley`: two steps of the rational function that lifts all of [l, 1] the most,

    x <- x (a + b x^2) / (1 + c x^2),

the dynamically weighted Halley iteration (Nakatsukasa, Bai and Gygi 2010, doi:10.1137/090774999),
with l = LEAST at first. Values above LEAST end in [0.96, 1]. All is done on the Gram matrix
R = G G^H, of the smaller side: with W = (I + c R)^-1 the product R W is a sum of I and W. In 32
bits rounding moves eigenvalues of R by about 1e-7, far less than 1 / c = 6e-5, so that I + c R
stays positive; values of G below 3e-4 of the largest are hidden by it, and lifted 1,700 times at
most.

`newton_schulz`: five steps of the polynomial that Jordan et al. found by search
(2024, kellerjordan.github.io/posts/muon),

    X <- a X + (b A + c A^2) X,   A = X X^T.

Products alone, that bear 16 bits; values end in [0.7, 1.2].
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

LEAST = 1e-3
LEAF = 64  # rows of a half from which a matrix is inverted by halves
QUINTIC = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


class Weights(NamedTuple):
    """Of one Halley step on [l, 1], in partial fractions: x (near + far / (1 + c x^2))."""

    near: float
    far: float
    c: float
    least: float  # where it takes l


def weights(l: float) -> Weights:  # noqa: E741 - the paper's name
    """The weights that lift [l, 1] the most while no value passes one."""
    d = (4 * (1 - l**2) / l**4) ** (1 / 3)
    root = math.sqrt(1 + d)
    a = root + math.sqrt(8 - 4 * d + 8 * (2 - l**2) / (l**2 * root)) / 2
    b = (a - 1) ** 2 / 4
    c = a + b - 1
    return Weights(b / c, a - b / c, c, l * (a + b * l**2) / (1 + c * l**2))


FIRST_STEP = weights(LEAST)
SECOND_STEP = weights(FIRST_STEP.least)


def halley(G: Tensor) -> Tensor:
    """U V^T of (count, rows, columns), rows <= columns, of entries up to one; zero of zero.

    In place wherever it can be: new memory for large matrices costs more than a pass over them.
    """
    R = G @ G.mH
    size = torch.linalg.matrix_norm(R, keepdim=True).clamp_min(torch.finfo(G.dtype).tiny)
    R /= size  # the fourth powers of all values add up to one
    near, far, c, _ = FIRST_STEP
    W = _by_cholesky(_add_diagonal(c * R, 1.0))  # of condition c, 16,000
    # of R (near I + far W)^2, by R W = (I - W) / c
    R.mul_(near**2).add_(W, alpha=(far**2 - 2 * near * far) / c)
    _add_diagonal(R, 2 * near * far / c).baddbmm_(W, W, alpha=-(far**2) / c)
    lift = _add_diagonal(W.mul_(far), near)
    near, far, c, _ = SECOND_STEP
    W = _by_halves(_add_diagonal(R.mul_(c), 1.0))  # c is 14
    lift = torch.baddbmm(lift, W, lift, beta=near, alpha=far)
    directions: Tensor = lift.div_(size.sqrt_()) @ G
    return directions


def _add_diagonal(matrices: Tensor, number: float) -> Tensor:
    """In place."""
    matrices.diagonal(dim1=1, dim2=2).add_(number)
    return matrices


def _by_cholesky(R: Tensor) -> Tensor:
    """R^-1 of positive definite matrices (count, n, n)."""
    triangle, _ = torch.linalg.cholesky_ex(R)
    inverse: Tensor = torch.cholesky_inverse(triangle)
    return inverse


def _by_halves(R: Tensor) -> Tensor:
    """R^-1 of well-conditioned ones, in products: large ones in half of LAPACK's time.

    Of R = (A B; B^H D) it is (A^-1 + E S^-1 E^H, -E S^-1; -S^-1 E^H, S^-1), with E = A^-1 B and the
    Schur complement S = D - B^H E, which loses as many digits as the square of R's condition has.
    """
    half = R.shape[-1] // 2
    if half < LEAF:
        return _by_cholesky(R)
    A, B, D = R[:, :half, :half], R[:, :half, half:], R[:, half:, half:]
    inverse = torch.empty_like(R)
    upper = _by_halves(A)
    E = upper @ B
    lower = _by_halves(torch.baddbmm(D, B.mH, E, alpha=-1))
    across = E @ lower
    inverse[:, :half, :half] = upper.baddbmm_(across, E.mH)
    inverse[:, :half, half:] = across.neg_()
    inverse[:, half:, :half] = across.mH
    inverse[:, half:, half:] = lower
    return inverse


def newton_schulz(G: Tensor) -> Tensor:
    """As `halley`, roughly."""
    a, b, c = QUINTIC
    X: Tensor = G / torch.linalg.matrix_norm(G, keepdim=True).clamp_min(torch.finfo(G.dtype).tiny)
    if X.is_cuda and not X.is_complex():
        X = X.bfloat16()
    for _ in range(ITERATIONS):
        S = torch.bmm(X, X.mH)
        X = torch.baddbmm(X, torch.baddbmm(S, S, S, beta=b, alpha=c), X, beta=a)
    return X
