"""The compiled passes that look for face weights, each against its plain definition."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from deepcd.solvers.grids.embedding import geometry, padded
from deepcd.solvers.kernels import face_places, face_values
from deepcd.solvers.kernels.faces.records import Faces
from tests.test_face_discovery import assemble, compact

EPS = float(np.finfo(np.float64).eps)


def random_rows(seed: int, zeros: float = 0.2) -> csr_array:
    """Return a matrix of no particular kind: couplings of both signs, zeros, rows without entries."""
    rng = np.random.default_rng(seed)
    dense = rng.normal(size=(12, 12)) * (rng.random((12, 12)) < 0.3) * (rng.random(12) < 0.8)[:, None]
    i, j = np.nonzero(dense)
    data = dense[i, j] * (rng.random(i.size) >= zeros)
    return csr_array(coo_array((data, (i, j)), shape=dense.shape))


@pytest.mark.parametrize("seed", range(5))
def test_look(seed: int) -> None:
    A, rows = random_rows(seed), np.array([0, 3, 4, 7, 11])
    expected = [(i, j) for i in rows.tolist() for j in range(12) if i != j and A[i, j] != 0]
    pairs = np.empty((2, 100), dtype=np.int64)
    count, largest = face_values.look(A.indptr, A.indices, A.data, rows, pairs)
    assert list(map(tuple, pairs[:, :count].T.tolist())) == expected
    assert largest == max([A[i, i] for i, _ in expected if A[i, i] > 0], default=0.0)
    if expected:
        assert face_values.look(A.indptr, A.indices, A.data, rows, pairs[:, : len(expected) - 1])[0] == -1


@pytest.mark.parametrize("seed", range(5))
def test_first_coupled(seed: int) -> None:
    A = random_rows(seed)
    off = A.toarray() * (1 - np.eye(12))
    expected = np.flatnonzero(off.any(axis=1))
    for most in (0, 2, 12):
        rows = np.empty(most, dtype=np.int64)
        count = face_values.first_coupled(A.indptr, A.indices, A.data, rows)
        np.testing.assert_array_equal(rows[:count], expected[:most])


@pytest.mark.parametrize(
    ("total", "diagonal", "expected"),
    [
        (1.0, 1.5, (0, 0.5)),
        (1.0, 1.0 + EPS, (0, 0.0)),
        (1.0, 1.0 - 4 * EPS, (0, 0.0)),
        (1.0, 0.9, (face_values.DOMINANCE, None)),
        (1.0, 0.0, (face_values.DIAGONAL, None)),
        (1.0, -1.0, (face_values.DIAGONAL, None)),
        (1.0, np.nan, (face_values.FINITE, None)),
        (1.0, np.inf, (face_values.FINITE, None)),
        (np.inf, 1.0, (face_values.FINITE, None)),
    ],
)
def test_remainder(total: float, diagonal: float, expected: tuple[int, float | None]) -> None:
    reason, rest = face_values.remainder(total, diagonal, EPS)
    assert reason == expected[0]
    assert expected[1] is None or rest == expected[1]


def crosses(rows: list[int], columns: list[int]) -> int:
    """Return the first coupling with which those so far, but for links to the next row, need three ascending sets."""
    kept: list[int] = []
    for k, (i, j) in enumerate(zip(rows, columns, strict=True)):
        if j != i + 1:
            kept.append(j)
            if any(a >= b >= c for a, b, c in itertools.combinations(kept, 3)):
                return k
    return -1


def test_crossing() -> None:
    rng, seen = np.random.default_rng(0), set()
    for _ in range(300):
        rows = np.sort(rng.integers(0, 6, 7))
        columns = rows + rng.integers(1, 6, 7)
        order = np.lexsort((-columns, rows))
        rows, columns = rows[order], columns[order]
        k = face_places.crossing(rows, columns)
        assert k == crosses(rows.tolist(), columns.tolist())
        seen.add(k >= 0)
    assert seen == {True, False}


def cut_box(seed: int) -> tuple[csr_array, np.ndarray]:
    rng = np.random.default_rng(seed)
    fluid = rng.random((4, 5, 6)) < 0.7
    A = assemble(fluid.shape, rng, fluid=fluid, walls=0.1)
    A.eliminate_zeros()
    return A, fluid


@pytest.mark.parametrize("seed", range(3))
def test_census_and_compress(seed: int) -> None:
    A, _ = cut_box(seed)
    off = A.toarray() * (1 - np.eye(A.shape[0])) != 0
    degree, tally = np.empty(A.shape[0], dtype=np.uint8), np.zeros(4, dtype=np.int64)
    assert face_places.census(A.indptr, A.indices, A.data, degree, tally) == (0, -1, False, False)
    np.testing.assert_array_equal(degree, off.sum(axis=1))
    zeroed = A.copy()
    e = int(np.flatnonzero(A.data < 0)[3])
    zeroed.data[e] = 0.0
    reason, _, zeros, _ = face_places.census(zeroed.indptr, zeroed.indices, zeroed.data, degree, tally)
    assert (reason, zeros) == (0, True)
    index = np.where(degree > 0, np.cumsum(degree > 0) - 1, -1).astype(np.int32)
    rows = np.flatnonzero(degree)
    indptr = np.empty(rows.size + 1, dtype=np.int32)
    indices = np.empty(int(degree.sum()) + rows.size, dtype=np.int32)
    got = face_places.compress(zeroed.indptr, zeroed.indices, zeroed.data, index, indptr, indices)
    assert got == (-1, -1)
    expected = zeroed.toarray()[np.ix_(rows, rows)] != 0
    pattern = csr_array((np.ones(indices.size), indices, indptr), shape=expected.shape)
    np.testing.assert_array_equal(pattern.toarray() != 0, expected)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [(1.0, face_values.POSITIVE), (np.nan, face_values.FINITE), (-np.inf, face_values.FINITE)],
)
def test_census_names_the_first_entry_of_another_kind(entry: float, reason: int) -> None:
    A, _ = cut_box(0)
    degree, tally = np.empty(A.shape[0], dtype=np.uint8), np.zeros(4, dtype=np.int64)
    for e in np.flatnonzero(A.data < 0)[[0, 7, -1]]:
        data = A.data.copy()
        data[e] = entry
        row = int(np.searchsorted(A.indptr, e, side="right")) - 1
        assert face_places.census(A.indptr, A.indices, data, degree, tally)[:2] == (reason, row)
        assert tally[face_values.COLUMN] == A.indices[e]
        indices = A.indices.copy()
        indices[e] = A.shape[0]
        assert face_places.census(A.indptr, indices, A.data, degree, tally)[:2] == (face_values.UNSORTED, row)


def test_placed_and_stray() -> None:
    A, fluid = cut_box(1)
    B = compact(A, fluid)
    cells = np.flatnonzero(fluid & (np.diff(A.indptr).reshape(fluid.shape) > 1))
    s, size = (*geometry(fluid.shape)[1], 1), np.prod(padded(fluid.shape))
    x, y, z = np.unravel_index(cells, fluid.shape)
    position = ((x + 1) * s[0] + (y + 1) * s[1] + z + 1).astype(np.int32)

    def read(at: np.ndarray) -> tuple[int, Faces]:
        faces = Faces(*(np.zeros(size, dtype=np.float32) for _ in range(5)))
        following, tally = np.empty(B.shape[0], dtype=np.int32), np.zeros(4, dtype=np.int64)
        index = np.empty(0, dtype=np.int32)
        reason, _, largest = face_places.placed(
            B.indptr, B.indices, B.data, index, at, s, 1.0, EPS, faces, following, tally
        )
        if not reason:
            assert largest == B.diagonal().max()
            assert tally[face_values.COUNT] == B.shape[0]
        return reason, faces

    reason, faces = read(position)
    assert reason == 0
    dense = B.toarray()
    for w, stride in zip(faces[:3], s, strict=True):
        expected = np.zeros(size)
        for i, j in itertools.product(range(len(dense)), repeat=2):
            if i != j and position[j] - position[i] == stride:
                expected[position[i]] = -dense[i, j]
        np.testing.assert_allclose(w, expected, rtol=1e-6)
    np.testing.assert_allclose(faces.extra[position], dense.sum(axis=1), rtol=1e-5, atol=1e-14)
    component, wrong = np.zeros(B.shape[0], dtype=np.int32), np.zeros(1, dtype=bool)
    face_places.stray(B.indptr, B.indices, position, component, s, wrong)
    assert not wrong[0]
    moved = position.copy()
    moved[-1] += 1
    assert read(moved)[0] == face_values.APART
    face_places.stray(B.indptr, B.indices, moved, component, s, wrong)
    assert wrong[0]


@pytest.mark.parametrize("wrap", [(), (0,), (1,), (2,), (0, 1, 2)])
@pytest.mark.parametrize("seed", range(3))
def test_components_of_runs(seed: int, wrap: tuple[int, ...]) -> None:
    rng = np.random.default_rng(seed)
    shape = (4, 3, 5)
    n, s = geometry(shape)
    fluid = rng.random(shape) < 0.6
    A = assemble(shape, rng, fluid=fluid, walls=0.4, periodic=wrap)
    w = np.zeros((3, *padded(shape)), dtype=np.float32)
    number = np.arange(fluid.size).reshape(shape)
    inner = (slice(1, -1),) * 3
    off = A.toarray() * (1 - np.eye(fluid.size))
    for axis in range(3):
        w[axis][inner] = -off[number, np.roll(number, -1, axis)]
    coupled = off.any(axis=1).reshape(shape)
    inverse = np.pad(coupled, 1).astype(np.float32).ravel()
    faces = Faces(w[0].ravel(), w[1].ravel(), w[2].ravel(), np.zeros_like(inverse), inverse)
    starts, ends = face_places.runs(faces)
    cells = np.flatnonzero(inverse)
    np.testing.assert_array_equal(np.concatenate([np.arange(a, b) for a, b in zip(starts, ends, strict=True)]), cells)
    label = np.empty(starts.size, dtype=np.int32)
    count = face_places.label_runs(starts, ends, faces, n, s, label)
    rows = np.flatnonzero(coupled)
    expected_count, expected = connected_components(csr_array(off[np.ix_(rows, rows)]), directed=False)
    assert count == expected_count
    np.testing.assert_array_equal(np.repeat(label, ends - starts), expected)
