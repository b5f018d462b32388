"""Faces with weights of their own: the grid behind a matrix is found, every entry checked, or refused with a reason."""

from __future__ import annotations

import contextlib
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from deepcd.solvers.grids.embedding import Embedding, NotAGrid
from deepcd.solvers.grids.faces import discover_faces
from deepcd.solvers.grids.stencils import FaceStencil

NO_WRAP = (False, False, False)


def assemble(
    shape: tuple[int, ...],
    rng: np.random.Generator,
    *,
    contrast: float = 1.0,
    periodic: tuple[int, ...] = (),
    fluid: np.ndarray | None = None,
    walls: float = 0.0,
    open_share: float = 0.3,
) -> csr_array:
    """Return the matrix of a whole box with random weights of faces, 10 to some power between -contrast and 0.

    Rows of cells that are not `fluid` are those of the identity. `walls` is the share of faces without a weight, and
    `open_share` that of cells whose diagonal exceeds the couplings.
    """
    number = np.arange(math.prod(shape)).reshape(shape)
    fluid = np.ones(shape, dtype=bool) if fluid is None else fluid
    first, last = [], []
    for axis, size in enumerate(shape):
        first.append(np.take(number, range(size - 1), axis).ravel())
        last.append(np.take(number, range(1, size), axis).ravel())
        if axis in periodic:
            first.append(np.take(number, size - 1, axis).ravel())
            last.append(np.take(number, 0, axis).ravel())
    i, j = np.concatenate(first), np.concatenate(last)
    kept = fluid.ravel()[i] & fluid.ravel()[j] & (rng.random(i.size) >= walls)
    i, j = i[kept], j[kept]
    w = 10.0 ** rng.uniform(-contrast, 0, i.size)
    n = number.size
    sums = np.bincount(i, w, n) + np.bincount(j, w, n)
    extra = np.where(rng.random(n) < open_share, rng.random(n), 0.0) * np.where(sums > 0, sums, 1.0)
    diagonal = np.where(fluid.ravel(), sums + extra, 1.0)
    at = np.arange(n)
    entries = np.concatenate((-w, -w, diagonal)), (np.concatenate((i, j, at)), np.concatenate((j, i, at)))
    A = csr_array(coo_array(entries, shape=(n, n)))
    A.sort_indices()
    return A


def compact(A: csr_array, fluid: np.ndarray) -> csr_array:
    """Leave out the rows of cells that are not fluid, and those without couplings."""
    cells = np.flatnonzero(fluid & (np.diff(A.indptr).reshape(fluid.shape) > 1))
    return csr_array(A[cells][:, cells])


def expected_faces(A: np.ndarray, found: Embedding, stencil: FaceStencil) -> list[np.ndarray]:
    """Return what the fields of `Faces` are by definition: a loop over the entries of A, a dense matrix."""
    strides, sizes = (*found.s, 1), found.n
    cells = math.prod(size + 2 for size in found.shape)
    w, extra, inverse = np.zeros((3, cells)), np.zeros(cells), np.zeros(cells)
    rows = np.arange(len(A))[found.rows]
    for i, p in zip(rows, found.position, strict=True):
        for j, q in zip(rows, found.position, strict=True):
            if j == i or A[i, j] == 0:
                continue
            for axis in range(3):
                if strides[axis] == 0:
                    continue
                if q - p == strides[axis]:
                    w[axis, p] = -A[i, j]
                if stencil.wrap[axis] and p - q == (sizes[axis] - 1) * strides[axis] and sizes[axis] > 2:
                    w[axis, p] = w[axis, q - strides[axis]] = -A[i, j]
        rest = A[i, rows].sum()
        extra[p] = rest if rest > 1e-14 * A[i, i] else 0.0
        inverse[p] = 1 / A[i, i]
    scale = stencil.scale
    return [w[0] / scale, w[1 if strides[1] else 0] / scale, w[2] / scale, extra / scale, inverse * scale]


def assert_found(A: csr_array, shape: tuple[int, ...] | None = None) -> tuple[Embedding, FaceStencil]:
    """Discover, and compare all fields with the definition and with each other."""
    before = A.data.copy(), A.indices.copy()
    found, stencil = discover_faces(A)
    np.testing.assert_array_equal(A.data, before[0])
    np.testing.assert_array_equal(A.indices, before[1])
    assert shape is None or found.shape == shape
    dense = A.toarray().astype(np.float64)
    off = dense - np.diag(np.diag(dense))
    rows = np.arange(len(dense))[found.rows]
    np.testing.assert_array_equal(rows, np.flatnonzero(off.any(axis=1)))
    assert isinstance(found.rows, slice) == (rows.size == len(dense))
    single = A.dtype == np.float32
    for name, wanted in zip(stencil.faces._fields, expected_faces(dense, found, stencil), strict=True):
        field = getattr(stencil.faces, name)
        assert field.dtype == np.float32
        atol = 3e-5 * (dense.max() / stencil.scale if name == "extra" and single else 0.0)
        np.testing.assert_allclose(field, wanted, rtol=1e-4 if single else 2e-7, atol=atol, err_msg=name)
    if len(found.shape) == 2:
        assert stencil.faces.w1 is stencil.faces.w0
    coupled = dense[np.ix_(rows, rows)]
    np.testing.assert_allclose(stencil.entries(found).toarray(), coupled, rtol=3e-7, atol=1e-5 * coupled.max() * single)
    assert not stencil.exact
    assert abs(coupled).sum(axis=1).max() <= stencil.row_bound * stencil.scale
    assert 1 / 64 <= coupled.max() / stencil.scale <= 64
    assert math.frexp(stencil.scale)[0] == 0.5
    count, label = connected_components(csr_array(off[np.ix_(rows, rows)]), directed=False)
    assert stencil.sealed.size == count
    first = [found.component[label == c] for c in range(count)]
    assert all((own == own[0]).all() for own in first)
    assert [own[0] for own in first] == list(range(count))
    assert found.component.dtype == np.int32
    tolerance = 1e-5 if single else 1e-13
    assert [
        bool((abs(coupled[label == c].sum(axis=1)) <= tolerance * dense.max()).all()) for c in range(count)
    ] == list(stencil.sealed)
    assert np.unique(found.position).size == rows.size
    if count == 1:
        assert (np.diff(found.position) > 0).all()
    return found, stencil


@pytest.mark.parametrize(
    "shape",
    [
        (2, 2), (2, 3), (3, 2), (2, 7), (7, 2), (3, 3), (5, 8), (2, 2, 2), (3, 3, 2), (2, 3, 3), (3, 2, 3), (2, 2, 5),
        (5, 2, 2), (2, 5, 2), (4, 4, 4), (3, 4, 5), (7, 6, 5),
    ],
)  # fmt: skip
def test_whole_boxes(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    found, stencil = assert_found(assemble(shape, rng), shape)
    assert isinstance(found.rows, slice)
    assert stencil.wrap == NO_WRAP
    assert_found(assemble(shape, rng, open_share=0.0), shape)


def test_any_order_of_axes() -> None:
    shape, rng = (4, 5, 6), np.random.default_rng(1)
    A, number = assemble(shape, rng), np.arange(120).reshape(shape)
    for order in itertools.permutations(range(3)):
        for flips in itertools.product((1, -1), repeat=3):
            rows = number.transpose(order)[tuple(slice(None, None, flip) for flip in flips)].ravel()
            assert_found(csr_array(A[rows][:, rows]), tuple(shape[axis] for axis in order))
    fluid = rng.random(shape) < 0.8
    for order in itertools.permutations(range(3)):
        rows = number.transpose(order).ravel()
        B = csr_array(assemble(shape, rng, fluid=fluid)[rows][:, rows])
        assert_found(compact(B, fluid.transpose(order)))


@pytest.mark.parametrize("shape", [(3, 3), (4, 5), (6, 3), (3, 3, 3), (3, 4, 5), (5, 4, 3), (4, 3, 2), (2, 4, 3)])
def test_axes_that_repeat(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(2)
    long = [axis for axis, size in enumerate(shape) if size > 2]
    for k in range(1, len(long) + 1):
        for axes in itertools.combinations(long, k):
            _, stencil = assert_found(assemble(shape, rng, periodic=axes), shape)
            wanted = [axis in axes for axis in range(len(shape))]
            assert list(stencil.wrap) == (wanted if len(shape) == 3 else [wanted[0], False, wanted[1]])


def test_an_axis_of_two_cells_that_repeats_has_faces_that_add_up() -> None:
    A = assemble((4, 2, 5), np.random.default_rng(3), periodic=(1,))
    _, stencil = assert_found(A, (4, 2, 5))
    assert stencil.wrap == NO_WRAP


def test_links_that_the_sample_does_not_show() -> None:
    rng = np.random.default_rng(4)
    fluid = np.zeros((24, 30, 3), dtype=bool)
    fluid[1:-1, 1:-1] = True
    fluid[:, 17, 1] = True  # the only cells that touch the faces of the box
    A = assemble(fluid.shape, rng, fluid=fluid, periodic=(0,))
    found, stencil = discover_faces(A)
    assert found.shape == fluid.shape
    assert stencil.wrap == (True, False, False)
    expected = A.toarray()[found.rows][:, found.rows]
    np.testing.assert_allclose(stencil.entries(found).toarray(), expected, rtol=3e-7)


boxes = st.tuples(
    st.lists(st.integers(2, 6), min_size=2, max_size=3).map(tuple),
    st.integers(0, 10**6),
    st.sampled_from([0.0, 0.1, 0.4]),
    st.sampled_from([0.0, 0.1, 0.3]),
    st.sampled_from([0.0, 0.02, 1.0]),
)


def random_system(
    shape: tuple[int, ...], seed: int, solid: float, walls: float, open_share: float
) -> tuple[csr_array, np.ndarray]:
    rng = np.random.default_rng(seed)
    fluid = rng.random(shape) >= solid
    periodic = tuple(axis for axis in range(len(shape)) if rng.random() < 0.3 and shape[axis] > 2)
    options = {"walls": walls, "open_share": open_share, "contrast": float(rng.choice([0, 1, 12]))}
    return assemble(shape, rng, fluid=fluid, periodic=periodic, **options), fluid


def assert_found_but_for_chains(A: csr_array) -> None:
    """Make sure that a grid is found, unless no row couples to more than two others."""
    couplings = np.count_nonzero(A.toarray() * (1 - np.eye(A.shape[0])), axis=1)
    if couplings.max(initial=0) > 2:
        assert_found(A)
        return
    with contextlib.suppress(NotAGrid):
        assert_found(A)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(boxes)
def test_random_whole_boxes(box: tuple[tuple[int, ...], int, float, float, float]) -> None:
    A, _ = random_system(*box)
    assert_found_but_for_chains(A)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(boxes)
def test_random_compact_numbering(box: tuple[tuple[int, ...], int, float, float, float]) -> None:
    shape, seed, solid, walls, open_share = box
    rng = np.random.default_rng(seed)
    fluid = rng.random(shape) >= max(solid, 0.1)
    A = compact(assemble(shape, rng, fluid=fluid, walls=walls, open_share=open_share), fluid)
    assert_found_but_for_chains(A)
