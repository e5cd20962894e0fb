"""Directions: matrices are turned nowhere, and their singular values become about one."""

import math

import pytest
import torch

from untuned.geometry.orthogonal import orthogonalise
from untuned.geometry.polar import halley, newton_schulz

SHAPES = [(1, 5, 5), (1, 3, 17), (1, 17, 3), (2, 1, 9), (4, 6, 7), (2, 130, 140), (1, 1024, 16)]


def spectrum(values, columns, dtype=torch.float64):
    """A matrix of given singular values, and its left and right vectors."""
    torch.manual_seed(0)
    rows = len(values)
    U, V = (torch.linalg.qr(torch.randn(n, rows, dtype=torch.float64))[0] for n in (rows, columns))
    return (U @ torch.diag(torch.as_tensor(values).double()) @ V.T).to(dtype)[None], U, V


def halley_step(x, least):
    """The paper's equations: x (a + b x^2) / (1 + c x^2), and where its `least` goes."""
    d = (4 * (1 - least**2) / least**4) ** (1 / 3)
    a = math.sqrt(1 + d)
    a += math.sqrt(8 - 4 * d + 8 * (2 - least**2) / (least**2 * math.sqrt(1 + d))) / 2
    b = (a - 1) ** 2 / 4
    c = a + b - 1
    return x * (a + b * x**2) / (1 + c * x**2), least * (a + b * least**2) / (1 + c * least**2)


@pytest.mark.parametrize("shape", SHAPES)
def test_singular_values_become_about_one_and_directions_stay(shape):
    torch.manual_seed(0)
    matrices = torch.randn(shape, dtype=torch.float64)
    U, _, V = torch.linalg.svd(matrices, full_matrices=False)
    made = orthogonalise(matrices)
    turned = U.mT @ made @ V.mT
    values = torch.diagonal(turned, dim1=-2, dim2=-1)
    torch.testing.assert_close(torch.diag_embed(values), turned, rtol=0, atol=1e-9)
    assert values.min() > 0.4
    assert values.max() < 1.3
    assert not orthogonalise(torch.zeros(1, 3, 4)).any()


@pytest.mark.parametrize(("rows", "columns"), [(24, 24), (24, 60), (150, 150), (259, 300)])
def test_halley_applies_the_papers_function_to_singular_values(rows, columns):
    """Scaled so that their fourth powers add up to one; large ones are inverted by halves."""
    x = torch.logspace(0, -9, rows).double()
    G, U, V = spectrum(x, columns)
    x = x / (x**4).sum() ** 0.25
    least = 1e-3
    for _ in range(2):
        x, least = halley_step(x, least)
    torch.testing.assert_close(halley(G)[0], U @ torch.diag(x) @ V.T, rtol=0, atol=1e-9)


def test_newton_schulz_applies_the_quintic():
    x = torch.logspace(0, -9, 24).double()
    G, U, V = spectrum(x, 31)
    x = x / x.norm()
    for _ in range(5):
        x = 3.4445 * x - 4.7750 * x**3 + 2.0315 * x**5
    torch.testing.assert_close(newton_schulz(G)[0], U @ torch.diag(x) @ V.T, rtol=0, atol=1e-9)


TAILS = {
    "1 / k": 1 / torch.arange(1, 129),
    "1 / k^2": 1 / torch.arange(1, 129) ** 2,
    "a batch of 16": torch.where(torch.arange(128) < 16, 1.0, 1e-6),
    "rank one": torch.where(torch.arange(128) < 1, 1.0, 0.0),
    "flat": torch.ones(128),
}


@pytest.mark.parametrize("tail", TAILS)
def test_in_32_bits_no_value_ends_further_from_one_than_by_newton_schulz(tail):
    """Where rounding has the last word, values end below one, but no lower than by products."""
    given = TAILS[tail]
    G, U, V = spectrum(given, 300, torch.float32)
    x = (given / given.double().norm()).double()
    for _ in range(5):
        x = 3.4445 * x - 4.7750 * x**3 + 2.0315 * x**5
    values = torch.einsum("ij,ik,kj->j", U, orthogonalise(G)[0].double(), V)
    assert values.max() < 1.01
    assert (values >= torch.minimum(x, torch.tensor(0.95)) - 0.01).all()
    assert torch.linalg.matrix_norm(orthogonalise(G), 2) < 1.1  # nor in directions that G has not


@pytest.mark.parametrize("size", [1e-44, 1e-25, 1e-10, 1e25])
def test_how_large_matrices_are_does_not_matter(size):
    """In 32 bits the squares of the outer three vanish or overflow."""
    torch.manual_seed(0)
    matrices = torch.randn(3, 4, 7)
    expected = orthogonalise(matrices)
    rtol = 0.5 if size < torch.finfo().tiny else 1e-4
    torch.testing.assert_close(orthogonalise(size * matrices), expected, rtol=rtol, atol=rtol)
