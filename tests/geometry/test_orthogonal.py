"""Directions: matrices are turned nowhere, and their singular values become about one."""

import pytest
import torch

from untuned.geometry.orthogonal import orthogonalise


@pytest.mark.parametrize("shape", [(1, 5, 5), (1, 3, 17), (1, 17, 3), (2, 1, 9), (4, 6, 7)])
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


@pytest.mark.parametrize("size", [1e-44, 1e-25, 1e-10, 1e25])
def test_how_large_matrices_are_does_not_matter(size):
    """In 32 bits the squares of the outer three vanish or overflow."""
    torch.manual_seed(0)
    matrices = torch.randn(3, 4, 7)
    expected = orthogonalise(matrices)
    rtol = 0.5 if size < torch.finfo().tiny else 1e-4
    torch.testing.assert_close(orthogonalise(size * matrices), expected, rtol=rtol, atol=rtol)
