"""Compiled solves with the factors of band matrices against LAPACK's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import lapack

from deepcd.solvers.kernels.bands import solve_banded, solve_tridiagonal


@pytest.mark.parametrize("n", [1, 2, 7])
@pytest.mark.parametrize("k", [1, 3])
def test_tridiagonal(n: int, k: int) -> None:
    rng = np.random.default_rng(n)
    D, below, B = rng.uniform(1, 2, n), rng.standard_normal(n - 1), rng.standard_normal((n, k))
    L = np.eye(n) + np.diag(below, -1)
    np.testing.assert_allclose(L * D @ L.T @ solve_tridiagonal(D, below, B), B, atol=1e-12)


@pytest.mark.parametrize("n", [1, 4, 9])
@pytest.mark.parametrize("width", [0, 1, 4])
def test_banded(n: int, width: int) -> None:
    rng = np.random.default_rng(n)
    band, B = rng.standard_normal((n, width + 1)), rng.standard_normal((n, 3))
    band[:, 0] = width + 1.0
    np.testing.assert_allclose(solve_banded(band, B), lapack.dpbtrs(band.T, B, lower=True)[0], atol=1e-12)
