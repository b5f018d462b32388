"""What is nearly the matrix of a grid is refused with the entry that is none, and other matrices at a glance."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array, kron, lil_array
from scipy.spatial import Delaunay, cKDTree

from deepcd.solvers.grids import faces
from deepcd.solvers.grids.embedding import NotAGrid
from deepcd.solvers.grids.faces import discover_faces
from deepcd.solvers.kernels import face_places, face_values
from tests.test_face_discovery import assemble, assert_found, compact

SHAPE = (5, 4, 6)
Edges = Callable[[int, np.random.Generator], NDArray[np.int64]]


def whole(periodic: tuple[int, ...] = ()) -> csr_array:
    return assemble(SHAPE, np.random.default_rng(0), periodic=periodic)


def cut() -> csr_array:
    """Return a matrix in compact numbering, which no whole box explains."""
    rng = np.random.default_rng(1)
    fluid = rng.random(SHAPE) < 0.85
    return compact(assemble(SHAPE, rng, fluid=fluid), fluid)


MATRICES = {"whole": whole, "compact": cut, "periodic": lambda: whole((0, 1, 2))}


def changed(A: csr_array, *entries: tuple[int, int, float]) -> csr_array:
    B = lil_array(A)
    for i, j, value in entries:
        B[i, j] = value
    B = csr_array(B)
    B.sort_indices()
    return B


def couplings(A: csr_array) -> list[tuple[int, int]]:
    """Return some couplings all over a matrix, row < column."""
    i, j = coo_array(A).coords
    pairs = [(int(a), int(b)) for a, b in zip(i, j, strict=True) if a < b]
    return [*pairs[:3], *pairs[3:-3:9], *pairs[-3:]]


def refusal(A: csr_array) -> str:
    with pytest.raises(NotAGrid) as error:
        discover_faces(A)
    return str(error.value)


def named(message: str) -> set[int]:
    """Return the numbers of rows and columns in a message."""
    return {int(number) for number in re.findall(r"\d+", message)}


@pytest.mark.parametrize("kind", MATRICES)
def test_an_asymmetric_entry_is_named(kind: str) -> None:
    A = MATRICES[kind]()
    for i, j in couplings(A):
        for row, column in ((i, j), (j, i)):
            for factor in (1 - 1e-9, 0.0):
                message = refusal(changed(A, (row, column, A[row, column] * factor)))
                if kind != "compact" or factor:  # without the entry, the pattern alone fits nowhere
                    assert "differ" in message
                    assert named(message) == {i, j}, message


@pytest.mark.parametrize("kind", MATRICES)
@pytest.mark.parametrize(
    ("value", "words"), [(0.5, "is positive"), (np.nan, "not finite"), (-np.inf, "not finite"), (-1e-200, "too small")]
)
def test_a_coupling_of_another_kind_is_named(kind: str, value: float, words: str) -> None:
    A = MATRICES[kind]()
    for i, j in couplings(A):
        message = refusal(changed(A, (i, j, value), (j, i, value)))
        assert words in message
        assert {i, j} <= named(message), message


@pytest.mark.parametrize("kind", MATRICES)
@pytest.mark.parametrize(
    ("factor", "words"),
    [(0.0, "not positive"), (-1.0, "not positive"), (0.3, "smaller"), (np.nan, "not finite"), (np.inf, "not finite")],
)
def test_a_diagonal_entry_of_another_kind_is_named(kind: str, factor: float, words: str) -> None:
    A = MATRICES[kind]()
    for i in (0, 1, 17, A.shape[0] - 1):
        message = refusal(changed(A, (i, i, A[i, i] * factor)))
        assert words in message
        assert i in named(message)


def test_rounding_is_no_difference() -> None:
    A = assemble(SHAPE, np.random.default_rng(0), open_share=0.0)
    i, j = couplings(A)[10]
    assert_found(changed(A, (i, j, A[i, j] * (1 + 1e-15)), (i, i, A[i, i] * (1 - 1e-15))), SHAPE)


def test_one_coupling_too_many_is_named() -> None:
    A = whole()
    for i, j in ((0, 119), (3, 60), (29, 31), (5, 6), (50, 57), (23, 24)):  # also from the end of a line to the next
        message = refusal(changed(A, (i, j, -0.5), (j, i, -0.5), (i, i, A[i, i] + 0.5), (j, j, A[j, j] + 0.5)))
        assert {i, j} <= named(message), message


@pytest.mark.parametrize("kind", MATRICES)
@pytest.mark.parametrize("column", [-1, -7, 120, 10**6, 2**31 - 1, -(2**31)])
def test_columns_out_of_range_are_never_read(kind: str, column: int) -> None:
    A = MATRICES[kind]()
    for e in (0, 3, 200, A.nnz - 1):
        indices = A.indices.copy()
        indices[e] = column
        message = refusal(csr_array((A.data, indices, A.indptr), shape=A.shape))
        assert message
    for e in (0, 200):  # with a value of zero they count as absent, or are refused
        indices, data = A.indices.copy(), A.data.copy()
        indices[e], data[e] = column, 0.0
        with pytest.raises(NotAGrid):
            discover_faces(csr_array((data, indices, A.indptr), shape=A.shape))


@pytest.mark.parametrize("kind", MATRICES)
def test_unsorted_rows_duplicates_and_zeros(kind: str) -> None:
    A, rng = MATRICES[kind](), np.random.default_rng(2)
    expected, _ = assert_found(A)
    order = np.concatenate([rng.permutation(np.arange(*ends)) for ends in itertools.pairwise(A.indptr)])
    shuffled = csr_array((A.data[order], A.indices[order], A.indptr), shape=A.shape)
    i, j = coo_array(A).coords
    halves = coo_array((np.repeat(A.data / 2, 2), (np.repeat(i, 2), np.repeat(j, 2))), shape=A.shape)
    doubled = csr_array((halves.data, np.repeat(A.indices, 2), 2 * A.indptr), shape=A.shape)
    at = rng.integers(0, A.shape[0], (2, 300))
    zero = lil_array(A)
    stored = [(a, b) for a, b in at.T.tolist() if A[a, b] == 0]
    zero = coo_array(
        (
            np.concatenate((A.data, np.zeros(len(stored)))),
            (np.concatenate((i, [a for a, _ in stored])), np.concatenate((j, [b for _, b in stored]))),
        ),
        shape=A.shape,
    ).tocsr()
    zero.sum_duplicates()
    assert zero.nnz > A.nnz
    for B in (shuffled, doubled, csr_array(zero)):
        found, _ = discover_faces(B)
        assert found.shape == expected.shape
        np.testing.assert_array_equal(found.position, expected.position)


def test_eliminated_rows_with_stored_zeros_are_holes() -> None:
    fluid = np.random.default_rng(3).random(SHAPE) < 0.8
    A = whole()
    solid = ~fluid.ravel()
    i, j = coo_array(A).coords
    A.data[(solid[i] | solid[j]) & (i != j)] = 0.0
    assert_found(A, SHAPE)
    without = A.copy()
    without.eliminate_zeros()
    assert_found(without, SHAPE)
    empty = csr_array(without.multiply(fluid.ravel()[:, None]))  # rows without entries at all
    empty.eliminate_zeros()
    found, _ = discover_faces(empty)
    assert found.shape == SHAPE


@pytest.mark.parametrize("periodic", [(), (0,), (0, 1, 2)])
def test_single_precision(periodic: tuple[int, ...]) -> None:
    A = assemble(SHAPE, np.random.default_rng(4), periodic=periodic)
    _, stencil = assert_found(A.astype(np.float32), SHAPE)
    assert not stencil.sealed.any()
    assert_found(cut().astype(np.float32))
    singular = assemble(SHAPE, np.random.default_rng(4), periodic=periodic, open_share=0.0)
    assert discover_faces(singular.astype(np.float32))[1].sealed.all()


@pytest.mark.parametrize("kind", MATRICES)
def test_singular_matrices_have_no_extra(kind: str) -> None:
    A = MATRICES[kind]()
    off = A - csr_array(np.diag(A.diagonal()))
    A = csr_array(np.diag(-off.sum(axis=1)) + off.toarray())
    found, stencil = assert_found(A)
    assert not stencil.faces.extra.any()
    assert stencil.sealed.all()
    assert np.isfinite(stencil.faces.inverse).all()
    assert found.position.size == A.shape[0]


def test_contrast_of_twelve_decades() -> None:
    for periodic in ((), (1,)):
        A = assemble(SHAPE, np.random.default_rng(5), contrast=12.0, periodic=periodic, open_share=0.0)
        assert_found(A, SHAPE)
    fluid = np.random.default_rng(6).random(SHAPE) < 0.9
    assert_found(compact(assemble(SHAPE, np.random.default_rng(5), contrast=12.0, fluid=fluid), fluid))


def test_the_scale_of_a_matrix_is_of_no_consequence() -> None:
    for factor in (1e-150, 1e-30, 1e30, 1e150):
        found, stencil = discover_faces(whole() * factor)
        assert found.shape == SHAPE
        _, plain = discover_faces(whole())
        ratio = stencil.scale / plain.scale / factor
        np.testing.assert_allclose(stencil.faces.w0 * ratio, plain.faces.w0, rtol=1e-6)


def test_several_components() -> None:
    fluid = np.ones((5, 9, 4), dtype=bool)
    fluid[:, 4] = False
    A = assemble(fluid.shape, np.random.default_rng(7), fluid=fluid, open_share=0.0)
    A[0, 0] = A[0, 0] * 2
    for B in (A, compact(A, fluid)):
        _, stencil = assert_found(csr_array(B))
        assert list(stencil.sealed) == [False, True]


@pytest.mark.parametrize(
    "shape", [(2, 2), (2, 3), (3, 2), (3, 3), (2, 2, 2), (3, 3, 2), (2, 3, 2), (3, 2, 2), (3, 3, 3)]
)
def test_tiny_boxes_that_repeat_are_resolved_or_refused(shape: tuple[int, ...]) -> None:
    axes = [axis for axis in range(len(shape)) if shape[axis] > 1]
    for k in range(1, len(axes) + 1):
        for periodic in itertools.combinations(axes, k):
            A = assemble(shape, np.random.default_rng(8), periodic=periodic)
            assert_found(A)


def mesh(m: int, rng: np.random.Generator) -> NDArray[np.int64]:
    triangles = Delaunay(rng.random((m, 2))).simplices
    return np.concatenate((triangles[:, :2], triangles[:, 1:], triangles[:, ::2])).astype(np.int64)


def geometric(m: int, rng: np.random.Generator) -> NDArray[np.int64]:
    points = rng.random((m, 2))
    tree = cKDTree(points[np.argsort(points[:, 0])])
    return tree.query_pairs(np.sqrt(2 / m), output_type="ndarray").astype(np.int64)


def shuffled(m: int, rng: np.random.Generator) -> NDArray[np.int64]:
    side = round(m**0.5)
    number = rng.permutation(side * side).reshape(side, side)
    along = np.column_stack((number[:-1].ravel(), number[1:].ravel()))
    return np.concatenate((along, np.column_stack((number[:, :-1].ravel(), number[:, 1:].ravel()))))


def triangles_in_rows(m: int, rng: np.random.Generator) -> NDArray[np.int64]:
    side = round(m**0.5)
    number = np.arange(side * side).reshape(side, side)
    pairs = (number[:-1], number[1:]), (number[:, :-1], number[:, 1:]), (number[:-1, :-1], number[1:, 1:])
    return np.concatenate([np.column_stack((a.ravel(), b.ravel())) for a, b in pairs])


def tree(m: int, rng: np.random.Generator) -> NDArray[np.int64]:
    child = np.arange(1, m)
    return np.column_stack((child // 2, child))


def power(m: int, rng: np.random.Generator) -> NDArray[np.int64]:
    child = np.arange(1, m)
    parent = np.minimum((child * (1 - 0.01 * rng.random(m - 1) ** 2)).astype(np.int64), child - 1)
    return np.concatenate((np.column_stack((parent, child)), rng.integers(0, m, (m // 4, 2))))


def laplacian(edges: NDArray[np.int64], rng: np.random.Generator) -> csr_array:
    n = int(edges.max()) + 1
    low, high = edges.min(axis=1), edges.max(axis=1)
    edge = np.unique(low * n + high)
    i, j = (edge // n).astype(np.int32), (edge % n).astype(np.int32)
    i, j = i[i != j], j[i != j]
    w, at = rng.random(i.size), np.arange(n, dtype=np.int32)
    diagonal = np.bincount(i, w, n) + np.bincount(j, w, n) + 0.1
    A = csr_array(coo_array((np.concatenate((-w, -w, diagonal)), (np.r_[i, j, at], np.r_[j, i, at])), shape=(n, n)))
    A.sort_indices()
    return A


def nine_points(m: int, rng: np.random.Generator) -> csr_array:
    side = round(m**0.5)
    K = csr_array(np.diag(np.full(side, 2.0)) - np.eye(side, k=1) - np.eye(side, k=-1))
    M = csr_array(np.diag(np.full(side, 4.0)) + np.eye(side, k=1) + np.eye(side, k=-1)) / 6
    return csr_array(kron(K, M, format="csr") + kron(M, K, format="csr"))


@pytest.mark.parametrize("edges", [mesh, geometric, shuffled, triangles_in_rows, tree, power])
def test_other_graphs_are_refused_after_a_look_at_few_rows(edges: Edges, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(9)
    assert_refused_at_a_glance(laplacian(edges(20_000, rng), rng), monkeypatch)


def test_nine_points_are_refused_after_a_look_at_few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    assert_refused_at_a_glance(nine_points(20_000, np.random.default_rng(9)), monkeypatch)


def assert_refused_at_a_glance(A: csr_array, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []

    def counting(kernel: Callable[..., Any], count: Callable[[Any], int]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            rows.append(count(arguments))
            return kernel(*arguments)

        return call

    monkeypatch.setattr(face_values, "look", counting(face_values.look, lambda given: given[3].size))
    monkeypatch.setattr(face_places, "census", counting(face_places.census, lambda given: given[0].size - 1))
    monkeypatch.setattr(face_values, "whole", counting(face_values.whole, lambda given: given[0].size - 1))
    refusal(A)
    assert sum(rows) <= 2 * faces.ROWS + faces.BEGINNING < A.shape[0] / 8
