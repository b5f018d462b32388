"""Boxes whose cells are coupled to all around them: found, compared entry by entry, and close to their faces."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.sparse import csr_array

from deepcd.solvers.grids.embedding import Embedding, NotAGrid
from deepcd.solvers.grids.stencils import FaceStencil
from deepcd.solvers.grids.wide import discover_wide
from tests.test_face_discovery import assemble
from tests.test_face_refusals import changed, geometric, laplacian, mesh, named, power, tree


def elements(shape: tuple[int, ...], widths: tuple[float, ...], closed: bool) -> csr_array:
    """Return the matrix of (multi)linear elements by tensor products, with nothing or zeros beyond the box."""
    stiffness, mass = [], []
    for size, width in zip(shape, widths, strict=True):
        beside = np.eye(size, k=1) + np.eye(size, k=-1)
        ends = np.zeros(size)
        ends[[0, -1]] = closed
        stiffness.append((np.diag(2.0 - ends) - beside) / width)
        mass.append((np.diag(4.0 - 2.0 * ends) + beside) * width / 6)
    total: NDArray[np.float64] = np.zeros((1, 1))
    for axis in range(len(shape)):
        product: NDArray[np.float64] = np.ones((1, 1))
        for other in range(len(shape)):
            factor = stiffness[other] if other == axis else mass[other]
            product = np.kron(product, factor).astype(np.float64)
        total = total + product
    return csr_array(total)


def neighbours(shape: tuple[int, ...], seed: int | None = None, corners: bool = True) -> csr_array:
    """Return the Laplacian of the graph of all cells that touch, with weights of one or random ones."""
    cells = np.indices(shape).reshape(len(shape), -1).T
    apart = np.abs(cells[:, None] - cells)
    w = ((apart.max(axis=-1) == 1) & (corners | (apart.sum(axis=-1) < 3))).astype(float)
    if seed is not None:
        random = np.random.default_rng(seed).random(w.shape)
        w *= random + random.T
    return csr_array(np.diag(w.sum(axis=1)) - w)


def expected_faces(A: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the matrix of the faces by definition: every coupling goes along all of its shortest paths."""
    n = len(A)
    coupled = (A - np.diag(np.diag(A))).any(axis=1)
    W = np.zeros((n, n))
    for i, j in itertools.combinations(range(n), 2):
        if A[i, j] == 0:
            continue
        here, there = (np.array(np.unravel_index(k, shape)) for k in (i, j))
        paths = []
        for order in itertools.permutations(np.flatnonzero(here != there)):
            path, at = [i], here.copy()
            for axis in order:
                at[axis] = there[axis]
                path.append(int(np.ravel_multi_index(tuple(at), shape)))
            if coupled[path].all():
                paths.append(path)
        for path in paths:
            for a, b in itertools.pairwise(path):
                W[a, b] -= A[i, j] / len(paths)
                W[b, a] -= A[i, j] / len(paths)
    W = np.maximum(W, 0)
    return np.diag(W.sum(axis=1) + coupled * A.sum(axis=1)) - W


def assert_found(A: csr_array, shape: tuple[int, ...]) -> tuple[Embedding, FaceStencil]:
    found, stencil = discover_wide(A)
    assert found.shape == shape
    dense = A.toarray()
    coupled = (dense - np.diag(np.diag(dense))).any(axis=1)
    rows = np.arange(len(dense))[found.rows]
    np.testing.assert_array_equal(rows, np.flatnonzero(coupled))
    entries, expected = stencil.entries(found).toarray(), expected_faces(dense, shape)[np.ix_(rows, rows)]
    np.testing.assert_allclose(entries, expected, rtol=3e-7, atol=1e-6 * expected.max())
    diagonal = np.diag(expected) / stencil.scale
    np.testing.assert_allclose(stencil.faces.inverse[found.position], 1 / diagonal, rtol=1e-6)
    assert np.count_nonzero(stencil.faces.inverse) == rows.size
    assert np.abs(expected).sum(axis=1).max() <= stencil.row_bound * stencil.scale
    assert list(stencil.sealed) == [bool(np.abs(dense[rows].sum(axis=1)).max() < 1e-12 * dense.max())]
    assert not stencil.compact
    return found, stencil


def bounds(A: csr_array) -> tuple[float, float]:
    """Return the extreme eigenvalues of faces^-1 A outside of the null space."""
    found, stencil = discover_wide(A)
    faces, dense = stencil.entries(found).toarray(), A.toarray()
    if stencil.sealed.all():
        n = len(dense)
        Q = np.linalg.qr(np.column_stack((np.ones(n), np.eye(n)[:, 1:])))[0][:, 1:]
        faces, dense = Q.T @ faces @ Q, Q.T @ dense @ Q
    values = eigh(dense, faces, eigvals_only=True)
    return float(values[0]), float(values[-1])


@pytest.mark.parametrize(
    "shape", [(3, 3), (3, 4), (5, 9), (9, 5), (3, 3, 3), (2, 3, 4), (4, 2, 3), (4, 3, 2), (5, 4, 6)]
)
def test_elements_graphs_and_their_faces(shape: tuple[int, ...]) -> None:
    for closed in (False, True) if min(shape) > 2 else (True,):
        _, stencil = assert_found(elements(shape, (1.0, 0.5, 2.0)[: len(shape)], closed), shape)
        assert list(stencil.sealed) == [closed]
    assert_found(neighbours(shape), shape)
    assert_found(neighbours(shape, seed=0), shape)
    assert_found(neighbours(shape, seed=1) + csr_array(np.eye(int(np.prod(shape)))), shape)


@pytest.mark.parametrize(("shape", "lowest"), [((9, 12), 1 / 3), ((5, 6, 5), 1 / 9)])
@pytest.mark.parametrize("closed", [False, True])
def test_elements_are_equivalent_to_their_faces_however_stretched(
    shape: tuple[int, ...], lowest: float, closed: bool
) -> None:
    for widths in itertools.product((1.0, 3.0, 100.0), repeat=len(shape)):
        low, high = bounds(elements(shape, widths, closed))
        assert lowest * (1 - 1e-6) <= low
        assert high <= 1 + 1e-6


@pytest.mark.parametrize(("shape", "lowest"), [((9, 12), 1 / 3), ((5, 6, 5), 1 / 4)])
def test_graphs_are_equivalent_to_their_faces(shape: tuple[int, ...], lowest: float) -> None:
    low, high = bounds(neighbours(shape))
    assert lowest <= low
    assert high <= 1 + 1e-6
    for corners in (True, False):
        low, high = bounds(neighbours(shape, seed=2, corners=corners))
        assert low >= 1 / 5
        assert high <= 1.3


def test_rows_on_their_own_are_holes() -> None:
    A = elements((7, 8), (1.0, 1.0), closed=False).toarray()
    for cell in (0, 20, 21, 55):
        A[cell, :] = A[:, cell] = 0.0
        A[cell, cell] = 1.0
    found, _ = assert_found(csr_array(A), (7, 8))
    assert found.position.size == 52


def test_cells_that_touch_at_a_corner_only_are_refused() -> None:
    A = elements((7, 8), (1.0, 1.0), closed=False).toarray()
    for cell in (19, 26):  # (2, 3) and (3, 2): nothing else leads from (2, 2) to (3, 3)
        A[cell, :] = A[:, cell] = 0.0
        A[cell, cell] = 1.0
    with pytest.raises(NotAGrid, match="rows 18 and 27 are coupled, but the cells between them are not"):
        discover_wide(csr_array(A))


@pytest.mark.parametrize("shape", [(6, 7), (4, 5, 6)])
def test_what_is_no_such_matrix_is_named(shape: tuple[int, ...]) -> None:
    A = elements(shape, (1.0,) * len(shape), closed=False)
    n = A.shape[0]
    for i, j in ((0, 1), (n - 2, n - 1), (8, 9), (10, 10 + shape[-1])):
        for a, b in ((i, j), (j, i)):
            with pytest.raises(NotAGrid, match="differ") as error:
                discover_wide(changed(A, (a, b, -0.123)))
            assert named(str(error.value)) == {i, j}
        with pytest.raises(NotAGrid, match="not finite"):
            discover_wide(changed(A, (i, j, np.nan), (j, i, np.nan)))
    with pytest.raises(NotAGrid, match=f"row {n - 1} couples to row 0|row 0 couples to row {n - 1}"):
        discover_wide(changed(A, (0, n - 1, -0.1), (n - 1, 0, -0.1)))
    with pytest.raises(NotAGrid, match=r"A\[9, 9\] is not positive"):
        discover_wide(changed(A, (9, 9, 0.0)))
    with pytest.raises(NotAGrid, match=r"A\[9, 9\] is smaller"):
        discover_wide(changed(A, (9, 9, A[9, 9] * 0.5)))
    for column in (n, -1, 2**31 - 1):
        for e in (0, 50, A.nnz - 1):
            indices = A.indices.copy()
            indices[e] = column
            with pytest.raises(NotAGrid):
                discover_wide(csr_array((A.data, indices, A.indptr), shape=A.shape))


def test_zeros_that_sums_were_rounded_to_are_none() -> None:
    A = elements((4, 5, 6), (1.0, 1.0, 1.0), closed=True).toarray()  # cells that share a face are not coupled at all
    noise = np.random.default_rng(4).normal(size=A.shape) * 1e-17 * (np.abs(A) < 1e-12)
    cells = np.indices((4, 5, 6)).reshape(3, -1).T
    noise[np.abs(cells[:, None] - cells).max(axis=-1) > 1] = 0.0
    found, stencil = discover_wide(csr_array(A + noise))
    assert found.shape == (4, 5, 6)
    assert stencil.sealed.all()


def test_a_thin_open_box_whose_faces_would_be_negative_is_refused() -> None:
    with pytest.raises(NotAGrid, match="leave it in 3 parts"):
        discover_wide(elements((4, 2, 3), (1.0, 0.5, 2.0), closed=False))


def test_single_precision_and_unsorted_rows() -> None:
    A = elements((6, 9), (1.0, 2.0), closed=True)
    expected, stencil = discover_wide(A)
    backwards = csr_array((A.data[::-1], A.indices[::-1], A.nnz - A.indptr[::-1]), shape=A.shape)[::-1]
    for B in (A.astype(np.float32), csr_array(backwards)):
        found, own = discover_wide(B)
        assert found.shape == expected.shape
        assert own.sealed.all()
        np.testing.assert_allclose(own.faces.w0, stencil.faces.w0, rtol=1e-5, atol=1e-6)


def test_other_matrices_are_refused() -> None:
    rng = np.random.default_rng(3)
    for edges in (mesh, geometric, power, tree):
        with pytest.raises(NotAGrid, match=r"no whole box|more than 32"):
            discover_wide(laplacian(edges(2000, rng), rng))
    for shape in ((12, 13), (6, 7, 8)):  # 5 and 7 points
        with pytest.raises(NotAGrid, match="no whole box"):
            discover_wide(assemble(shape, rng))
    with pytest.raises(NotAGrid, match="solved one by one"):
        discover_wide(csr_array(np.eye(9)))
