"""Ritz pairs against dense eigenvectors and Krylov spaces, and the distribution of their mixtures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.sparse.linalg import aslinearoperator

from deepcd.data.ritz_vectors import Ritz, mixtures, ritz_pairs
from deepcd.pde import box, domain, poisson

from .systems import line as chain


def closed_chains(*lengths: int) -> sp.csr_array:
    """Paths without Dirichlet data, side by side: constants on each are in the null space."""
    blocks = []
    for n in lengths:
        block = chain(n).toarray()
        block[0, 0] = block[-1, -1] = 1.0
        blocks.append(block)
    return sp.block_diag(blocks, format="csr")


def assert_orthonormal(vectors: np.ndarray) -> None:
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(len(vectors)), atol=1e-12)


def off_the_krylov_space(A: Any, start: np.ndarray, vectors: np.ndarray) -> float:
    """Return the largest part of the vectors outside the span of start, A start, A^2 start, ..."""
    powers = [start]
    while len(powers) < len(vectors):
        powers.append(A @ powers[-1])
    basis = np.linalg.qr(np.array(powers).T)[0]
    return float(np.abs(vectors - vectors @ basis @ basis.T).max())


def test_of_the_whole_space_they_are_all_eigenpairs() -> None:
    A = chain(40)
    values, vectors = ritz_pairs(A, 40, np.random.default_rng(0))
    np.testing.assert_allclose(values, np.linalg.eigvalsh(A.toarray()), atol=1e-12)
    assert vectors.shape == (40, 40)
    assert_orthonormal(vectors)
    np.testing.assert_allclose(A @ vectors.T, vectors.T * values, atol=1e-12)


def test_of_a_smaller_space_they_are_those_of_the_projected_matrix() -> None:
    A = poisson(domain((7, 6), walls="air")).A
    values, vectors = ritz_pairs(A, 6, np.random.default_rng(5))
    assert_orthonormal(vectors)
    np.testing.assert_allclose(vectors @ (A @ vectors.T), np.diag(values), atol=1e-11 * values[-1])
    assert (np.diff(values) > 0).all()
    assert off_the_krylov_space(A, A @ np.random.default_rng(5).standard_normal(42), vectors) < 1e-8
    assert np.abs(A @ vectors[3] - values[3] * vectors[3]).max() > 1e-3 * values[-1]  # they are no eigenvectors yet


def test_the_lowest_come_from_the_noise_itself() -> None:
    A = chain(50)
    values, vectors = ritz_pairs(A, 8, np.random.default_rng(2), lowest=3)
    noise = np.random.default_rng(2).standard_normal(50)
    basis = np.linalg.qr(np.array([np.linalg.matrix_power(A.toarray(), k) @ noise for k in range(8)]).T)[0]
    np.testing.assert_allclose(values, np.linalg.eigvalsh(basis.T @ (A @ basis))[:3], rtol=1e-7)
    assert vectors.shape == (3, 50)
    assert np.abs(vectors - vectors @ basis @ basis.T).max() < 1e-8
    whole = ritz_pairs(A, 50, np.random.default_rng(2), lowest=4)
    np.testing.assert_allclose(whole.values, np.linalg.eigvalsh(A.toarray())[:4], rtol=1e-10)


@pytest.mark.parametrize("lowest", [None, 100, 3])
def test_the_null_space_is_left_out(lowest: int | None) -> None:
    A = closed_chains(9, 14)
    values, vectors = ritz_pairs(A, 23, np.random.default_rng(0), lowest=lowest)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(A.toarray())[2:][:lowest], atol=1e-10)
    sides = np.repeat(np.eye(2), (9, 14), axis=1)
    assert np.abs(vectors @ sides.T).max() < 1e-7


def test_a_space_that_is_invariant_ends_it() -> None:
    """Of a multiple eigenvalue, a Krylov space holds one eigenvector."""
    A = sp.diags_array([1.0, 2.0, 1.0, 5.0, 2.0, 1.0], format="csr")
    values, vectors = ritz_pairs(A, 6, np.random.default_rng(0))
    np.testing.assert_allclose(values, [1, 2, 5], rtol=1e-12)
    np.testing.assert_allclose(A @ vectors.T, vectors.T * values, atol=1e-12)
    assert_orthonormal(vectors)


def test_more_steps_than_rows_are_not_taken() -> None:
    A = chain(12)
    np.testing.assert_array_equal(
        ritz_pairs(A, 500, np.random.default_rng(0)).values, ritz_pairs(A, 12, np.random.default_rng(0)).values
    )


def test_what_multiplies_is_enough_and_the_seed_decides() -> None:
    A = poisson(domain((6, 5), solid=box((2, 1), (3, 3)))).A
    first, again, other = (ritz_pairs(aslinearoperator(A), 10, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.vectors, again.vectors)
    np.testing.assert_allclose(first.values, ritz_pairs(A, 10, np.random.default_rng(1)).values, rtol=1e-10)
    assert not np.allclose(first.values, other.values)


@pytest.mark.parametrize(("count", "lowest"), [(0, None), (-2, None), (5, 0)])
def test_numbers_below_one_are_refused(count: int, lowest: int | None) -> None:
    with pytest.raises(ValueError, match=f"must be at least 1, got {count} and {lowest}"):
        ritz_pairs(chain(5), count, np.random.default_rng(0), lowest)


@pytest.mark.parametrize("lowest", [None, 2])
def test_zero_has_none(lowest: int | None) -> None:
    with pytest.raises(ValueError, match="A is zero"):
        ritz_pairs(sp.csr_array((5, 5)), 3, np.random.default_rng(0), lowest)


@pytest.fixture
def ritz() -> Ritz:
    return ritz_pairs(chain(60), 20, np.random.default_rng(0))


class TestMixtures:
    def test_have_length_one_and_lie_in_the_span(self, ritz: Ritz) -> None:
        b = mixtures(ritz, 7, np.random.default_rng(0))
        assert b.shape == (7, 60)
        assert b.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(b, axis=1), 1, atol=1e-6)
        np.testing.assert_allclose(b @ ritz.vectors.T @ ritz.vectors, b, atol=1e-6)

    @pytest.mark.parametrize(
        ("options", "low", "amplitude"), [({}, 11, 9.0), ({"low": 0.25, "amplitude": 3.0}, 5, 3.0)]
    )
    def test_the_low_part_is_larger_by_the_amplitude(
        self, ritz: Ritz, options: dict[str, float], low: int, amplitude: float
    ) -> None:
        coefficients = mixtures(ritz, 4000, np.random.default_rng(0), **options) @ ritz.vectors.T
        # The length of a mixture cancels in quotients, whose magnitudes have the median one for equal amplitudes.
        quotients = np.median(np.abs(coefficients / coefficients[:, -1:]), axis=0)
        np.testing.assert_allclose(quotients[:low], amplitude, rtol=0.12)
        np.testing.assert_allclose(quotients[low:], 1, rtol=0.12)
        np.testing.assert_allclose(quotients[:low].mean(), amplitude, rtol=0.06)
        assert 0.47 < (coefficients > 0).mean() < 0.53
        assert np.abs(np.corrcoef(coefficients.T) - np.eye(20)).max() < 0.1

    def test_the_seed_decides(self, ritz: Ritz) -> None:
        first, again, other = (mixtures(ritz, 3, np.random.default_rng(seed)) for seed in (4, 4, 5))
        np.testing.assert_array_equal(first, again)
        assert np.abs(first - other).max() > 0.1
