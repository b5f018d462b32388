"""Operators given by face weights: every entry against a plain loop, periodic axes, and cells without couplings."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_array

from deepcd.pde import FaceWeights


def random_weights(shape: tuple[int, ...], seed: int, periodic: bool = False) -> FaceWeights:
    """Draw weights and an extra diagonal, both 0 in two of three places, over twelve decades."""
    rng = np.random.default_rng(seed)

    def sparse() -> NDArray[np.float64]:
        return 10 ** rng.uniform(-6, 6, shape) * (rng.random(shape) < 0.33)

    faces = tuple(sparse() for _ in shape)
    if not periodic:
        for axis, weight in enumerate(faces):
            np.moveaxis(weight, axis, 0)[-1] = 0.0
    return FaceWeights(faces, sparse())


def plain_matrix(weights: FaceWeights) -> NDArray[np.float64]:
    """Return the matrix over all cells by one loop over faces."""
    number = np.arange(weights.extra.size).reshape(weights.extra.shape)
    A = np.diag(weights.extra.ravel())
    for axis, faces in enumerate(weights.faces):
        for i, j, w in zip(number.flat, np.roll(number, -1, axis).flat, faces.flat, strict=True):
            A[i, i] += w
            A[j, j] += w
            A[i, j] -= w
            A[j, i] -= w
    return A


@pytest.mark.parametrize("shape", [(5, 4), (1, 6), (7, 1), (4, 3, 5), (1, 1, 1), (3, 1, 4), (2, 2, 2)], ids=str)
@pytest.mark.parametrize("periodic", [False, True])
def test_every_entry(shape: tuple[int, ...], periodic: bool) -> None:
    if periodic:
        shape = tuple(max(n, 3) for n in shape)
    for seed in range(4):
        weights = random_weights(shape, seed, periodic)
        A, cells = weights.matrix(), weights.cells()
        dense = plain_matrix(weights)
        np.testing.assert_allclose(A.toarray(), dense[np.ix_(cells, cells)], rtol=1e-14)
        np.testing.assert_allclose(weights.diagonal().ravel(), np.diag(dense), rtol=1e-14)
        np.testing.assert_array_equal(cells, np.flatnonzero(np.diag(dense)))
        assert not (A - A.T).data.any()
        assert A.nnz == np.count_nonzero(dense)


def test_is_a_canonical_csr_array_of_small_indices() -> None:
    for periodic in (False, True):
        A = random_weights((6, 5, 4), 0, periodic).matrix()
        assert isinstance(A, csr_array)
        assert (A.dtype, A.indices.dtype, A.indptr.dtype) == (np.float64, np.int32, np.int32)
        fresh = csr_array((A.data, A.indices, A.indptr), shape=A.shape)  # without the flags that were set
        assert fresh.has_canonical_format


def test_a_short_periodic_axis_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at least three cells, got shape \(4, 2\)"):
        FaceWeights((np.zeros((4, 2)), np.ones((4, 2))), np.zeros((4, 2))).matrix()
