"""Faces with weights of their own: the grid behind a matrix is found, every entry checked, or refused with a reason."""

from __future__ import annotations

import contextlib
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import block_diag, coo_array, csr_array, diags_array
from scipy.sparse.csgraph import connected_components

from deepcd.pde import Grid, poisson
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
    balanced = abs(coupled.sum(axis=1)) <= (1e-5 if single else 1e-14) * np.diag(coupled)
    assert [bool(balanced[label == c].all()) for c in range(count)] == list(stencil.sealed)
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


def test_components_and_runs_that_are_linked_across_the_box() -> None:
    rng = np.random.default_rng(5)
    for axis in range(3):
        fluid = np.zeros((7, 8, 9), dtype=bool)
        fluid[1:-1, 1:-1, 1:3] = fluid[2:3, :3] = fluid[:3, 6:7] = True
        cut = np.moveaxis(fluid, axis, 0)
        cut[3] = False
        A = assemble(fluid.shape, rng, fluid=fluid, periodic=(axis,), open_share=0.0)
        _, stencil = assert_found(A)
        assert stencil.sealed.all()
    chambers = np.ones((9, 5, 4), dtype=bool)
    chambers[4] = False
    A = assemble(chambers.shape, rng, fluid=chambers, open_share=0.0)
    A = csr_array(A + diags_array(np.where(np.arange(180) == 3, 0.5, 0.0)))
    for B in (A, compact(A, chambers)):
        assert list(assert_found(B)[1].sealed) == [False, True]


@pytest.mark.parametrize("filler", [0.0, 1.0, -2.0, 1e30])
def test_rows_on_their_own(filler: float) -> None:
    rng = np.random.default_rng(6)
    fluid = rng.random((6, 5, 7)) < 0.7
    A = assemble(fluid.shape, rng, fluid=fluid)
    solid = np.flatnonzero(~fluid)
    A = A.tolil()
    A[solid, solid] = filler
    found, stencil = assert_found(csr_array(A))
    assert found.shape == fluid.shape
    assert isinstance(found.rows, np.ndarray)
    assert found.rows.dtype == np.int64
    assert stencil.scale < 64
    number = np.flatnonzero(fluid)
    B = csr_array(A)[number][:, number]
    lone = block_diag([np.eye(2) * filler, csr_array(B), np.eye(3)])
    assert_found(csr_array(lone))


def test_equal_couplings_have_equal_weights() -> None:
    for dtype in (np.float64, np.float32, np.int64):
        A = csr_array(poisson(Grid(np.zeros((5, 4, 6)), walls="air")).A.astype(dtype))
        _, stencil = discover_faces(A)
        assert set(np.unique(stencil.faces.w1)) == {0.0, 1 / stencil.scale}


@pytest.mark.parametrize("factor", [1e-290, 1e-20, 1 / 3, 1e20, 1e290])
def test_scales(factor: float) -> None:
    A = assemble((4, 5, 6), np.random.default_rng(8), contrast=12.0)
    found, stencil = assert_found(csr_array(A * factor))
    assert found.shape == (4, 5, 6)
    assert math.isclose(math.log2(stencil.scale), math.log2(discover_faces(A)[1].scale * factor), abs_tol=1)


def test_the_scale_is_found_though_the_sample_does_not_show_it() -> None:
    A = assemble((20, 20, 20), np.random.default_rng(9), contrast=0.0)
    entries = coo_array(A)
    beyond = np.minimum(entries.row, entries.col) == 3333  # the faces of a cell towards those behind it
    assert beyond.sum() == 7
    data = np.where(beyond, 1e9 * entries.data, entries.data)
    data[(entries.row == entries.col)] = 0
    sums = np.bincount(entries.row, data, A.shape[0])
    A = csr_array(coo_array((data, (entries.row, entries.col)), shape=A.shape) + diags_array(-sums))
    found, stencil = discover_faces(A)
    assert found.shape == (20, 20, 20)
    assert 2**30 <= stencil.scale <= 2**32
    assert stencil.sealed.all()


SHAPE = (5, 4, 3)


def edited(*entries: tuple[int, int, float], balanced: bool = True) -> csr_array:
    """Return the matrix of a 5 x 4 x 3 box, as it is but for some entries; the diagonal is raised as well."""
    dense = assemble(SHAPE, np.random.default_rng(10)).toarray()
    for i, j, value in entries:
        dense[i, j] = value
    return csr_array(dense + 5 * balanced * np.eye(len(dense)))


STAR = 9 * np.eye(8)
STAR[0, 1:] = STAR[1:, 0] = -1
BAND = diags_array([-1.0, -1.0, 4.0, -1.0, -1.0], offsets=[-2, -1, 0, 1, 2], shape=(81, 81))
SKEW = diags_array([-1.0, -1.0, 4.0, -1.0, -1.0], offsets=[-9, -1, 0, 1, 9], shape=(81, 81))
RING = 3 * np.eye(7) - np.roll(np.eye(7), 1, 0) - np.roll(np.eye(7), -1, 0)
TRIANGLE = 4 * np.eye(3) - 1
BAD = {
    "positive coupling": (edited((3, 4, 1.0), (4, 3, 1.0)), r"A\[3, 4\] is positive"),
    "other value": (edited((16, 17, -0.3)), r"A\[17, 16\] and A\[16, 17\] differ"),
    "no mirror image": (edited((16, 17, 0.0)), r"A\[17, 16\] and A\[16, 17\] differ"),
    "no mirror image below": (edited((17, 16, 0.0)), r"A\[17, 16\] and A\[16, 17\] differ"),
    "far coupling": (edited((7, 52, -0.1), (52, 7, -0.1)), "row 7 couples to row 52, which does not lie beside it"),
    "across the end of a line": (edited((8, 9, -1.0), (9, 8, -1.0)), "row 8 couples to row 9, which does not"),
    "a diagonal coupling": (edited((16, 20, -0.1), (20, 16, -0.1)), "row 16 couples to row 20"),
    "no diagonal entry": (edited((16, 16, -5.0)), r"A\[16, 16\] is not positive"),
    "negative diagonal entry": (edited((16, 16, -6.0)), r"A\[16, 16\] is not positive"),
    "diagonal entry too small": (edited((16, 16, -4.9)), r"A\[16, 16\] is smaller"),
    "almost singular": (edited((0, 0, 0.4), balanced=False), r"A\[0, 0\] is smaller"),
    "nan": (edited((16, 17, np.nan), (17, 16, np.nan)), r"A\[16, 17\] is not finite"),
    "infinite coupling": (edited((16, 17, -np.inf), (17, 16, -np.inf)), r"\[16, 1[67]\] is not finite"),
    "infinite diagonal entry": (edited((16, 16, np.inf)), r"A\[16, 16\] is not finite"),
    "nan on the diagonal": (edited((16, 16, np.nan)), r"A\[16, 16\] is not finite"),
    "tiny coupling": (edited((16, 17, -1e-33), (17, 16, -1e-33)), r"A\[16, 17\] is too small"),
    "negative definite": (csr_array(-edited()), "is positive"),
    "complex": (edited() * 1j, "real"),
    "dense": (csr_array(60 * np.eye(60) - np.ones((60, 60))), "more than 32"),
    "star": (csr_array(STAR), "more than three"),
    "identity": (csr_array(np.eye(4)), "no off-diagonal"),
    "chain": (diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(900, 900)), "chains"),
    "ring": (csr_array(RING), "chains"),
    "rings": (block_diag([TRIANGLE] * 8), "chains"),
    "skew torus": (SKEW, "row 8 couples to row 9"),
    "band": (BAND, "row 2 of A fits nowhere"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_grid_is_refused_with_the_reason(name: str) -> None:
    A, reason = BAD[name]
    with pytest.raises(NotAGrid, match=reason):
        discover_faces(csr_array(A))


def test_rounding_is_forgiven_and_no_more() -> None:
    A = assemble((6, 7, 8), np.random.default_rng(13), open_share=0.0)
    i, j = A.nonzero()
    A.data *= np.where(i < j, 1 + 1e-15, 1.0)
    _, stencil = discover_faces(A)
    assert not stencil.faces.extra.any()
    assert stencil.sealed.all()
    shift = diags_array(np.full(A.shape[0], 1e-12))
    _, stencil = discover_faces(csr_array(A + shift))
    assert np.count_nonzero(stencil.faces.extra) == A.shape[0]
    with pytest.raises(NotAGrid, match=r"A\[0, 0\] is smaller"):
        discover_faces(csr_array(A - shift))
    A.data *= np.where(i < j, 1 - 1e-12, 1.0)
    with pytest.raises(NotAGrid, match="differ"):
        discover_faces(A)
    single = csr_array(A.astype(np.float32))
    _, stencil = discover_faces(single)
    assert stencil.sealed.all()


def test_walls_without_thickness_in_compact_numbering() -> None:
    rng = np.random.default_rng(20)
    fluid = np.ones((8, 7, 9), dtype=bool)
    fluid[3:5, 2:5, 4:6] = False
    A = coo_array(assemble(fluid.shape, rng, fluid=fluid))
    x, y, _ = np.unravel_index(np.stack((A.row, A.col)), fluid.shape)
    kept = ~((x.min(axis=0) == 5) & (x.max(axis=0) == 6) & (y[0] < 5))
    cut = csr_array(coo_array((A.data[kept], (A.row[kept], A.col[kept])), shape=A.shape))
    found, stencil = assert_found(compact(cut, fluid))
    assert found.shape == fluid.shape
    w0 = stencil.faces.w0.reshape(10, 9, 11)[1:-1, 1:-1, 1:-1]
    assert not w0[5, :5].any()
    assert w0[5, 5:].all()


def test_sparse_couplings_in_large_holes_are_found() -> None:
    fluid = np.zeros((12, 30, 30), dtype=bool)
    fluid[6:8, 11:14, 17:20] = True
    found, _ = discover_faces(assemble(fluid.shape, np.random.default_rng(21), fluid=fluid))
    assert found.shape == fluid.shape
    assert found.position.size == 18


@pytest.mark.parametrize("shape", [(60, 60), (20, 24, 28)], ids=str)
def test_components_stay_apart_on_coarser_grids(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(5)
    fluid = np.ones(shape, dtype=bool)
    fluid[10], fluid[:, 9], fluid[13:, 15] = False, False, False  # rooms side by side, one cell between them
    A = assemble(shape, rng, fluid=fluid)
    cells = np.flatnonzero(fluid.ravel())
    embedding, _ = discover_faces(csr_array(A[cells][:, cells]))
    assert embedding.component.max() == 3
    place = np.stack(np.unravel_index(embedding.position, tuple(n + 2 for n in embedding.shape))) - 1
    for halvings in range(1, 6):
        coarse = place >> halvings
        for one, other in itertools.combinations(range(embedding.component.max() + 1), 2):
            own, others = (set(map(tuple, coarse[:, embedding.component == c].T)) for c in (one, other))
            assert not own & others


@pytest.mark.parametrize("big", [1e3, 1e5, 1e9])
def test_the_scale_follows_a_weight_that_is_met_late(big: float) -> None:
    """Only some rows are looked at before the scale is chosen; here the largest weight is in none of them."""
    A = assemble((90, 95), np.random.default_rng(0)).tolil()
    at = 90 * 95 // 3
    A[at, at + 1] *= big
    A[at + 1, at] *= big
    A.setdiag(0)
    A = csr_array(A)
    A += diags_array(1.0 - A.sum(axis=1))
    embedding, stencil = discover_faces(A)
    diagonal, weights = A.diagonal(), stencil.faces.w2[embedding.position].astype(float) * stencil.scale
    assert 1 / 64 <= diagonal.max() / stencil.scale <= 64
    np.testing.assert_allclose(stencil.scale / stencil.faces.inverse[embedding.position], diagonal, rtol=3e-7)
    np.testing.assert_allclose(weights[:-1], -A.diagonal(1), rtol=3e-7)
