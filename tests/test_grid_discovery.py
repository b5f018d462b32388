"""Grid discovery: what is a grid is found, with every entry checked; what is none is refused with a reason."""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np
import pytest
from scipy.sparse import block_diag, coo_array, csr_array, diags_array, eye_array, kron

from deepcd.data import random_grid
from deepcd.pde import Grid, ball, domain, half_space, height_field, poisson
from deepcd.pde.grids import Walls
from deepcd.solvers.grids import places, values
from deepcd.solvers.grids.discovery import discover, embed
from deepcd.solvers.grids.embedding import Embedding, NotAGrid
from deepcd.solvers.grids.stencils import UnitStencil
from deepcd.solvers.grids.values import verify


def dense_operator(found: Embedding, stencil: UnitStencil, n: int) -> np.ndarray:
    """Return the matrix a stencil stands for, by definition: a loop over cells. Rows outside the box stay zero."""
    rows = np.arange(n)[found.rows]
    cells = np.argwhere(stencil.diagonal)
    at = {tuple(c): int(r) for c, r in zip(cells, rows[np.argsort(found.position)], strict=True)}
    A = np.zeros((n, n))
    for cell, i in at.items():
        A[i, i] = stencil.scale * int(stencil.diagonal[cell])
        for axis in range(len(cell)):
            for side in (-1, 1):
                j = at.get((*cell[:axis], cell[axis] + side, *cell[axis + 1 :]))
                if j is not None:
                    A[i, j] = -stencil.scale
    return A


def assert_found(A: csr_array) -> tuple[Embedding, UnitStencil]:
    """Discover, compare with the definition and check the fields against each other."""
    found, stencil = discover(A)
    n = A.shape[0]
    rows = np.arange(n)[found.rows]
    full = A.toarray()
    outside = np.setdiff1d(np.arange(n), rows)
    full[outside, outside] = 0
    np.testing.assert_array_equal(dense_operator(found, stencil, n), full)
    coupled = full[np.ix_(rows, rows)]
    np.testing.assert_array_equal(stencil.entries(found).toarray(), coupled)
    assert abs(coupled).sum(axis=1).max() <= stencil.row_bound * stencil.scale * (1 + 1e-15)
    assert stencil.diagonal.shape == tuple(size + 2 for size in found.shape)
    assert len(found.shape) in (2, 3)
    assert np.count_nonzero(stencil.diagonal) == rows.size == np.unique(found.position).size
    assert found.component.max() + 1 == stencil.sealed.size
    constants = np.eye(stencil.sealed.size)[:, found.component]  # one indicator vector per component
    image = coupled @ constants.T
    np.testing.assert_array_equal(np.abs(image).max(axis=0) < 1e-9 * stencil.scale, stencil.sealed)
    if stencil.sealed.size == 1:
        assert (np.diff(found.position) > 0).all()
    return found, stencil


def matrix(cells: np.ndarray, walls: Walls = "solid") -> csr_array:
    return poisson(Grid(cells, walls=walls)).A


def porous(seed: int, shape: tuple[int, ...], removed: float) -> np.ndarray:
    return (np.random.default_rng(seed).random(shape) < removed).astype(np.uint8)


def baffles(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(seed)
    cells = np.zeros(shape, dtype=np.uint8)
    for axis, size in enumerate(shape):
        plane: list[slice | int] = [slice(None)] * len(shape)
        plane[axis] = int(rng.integers(size))
        cells[tuple(plane)] |= rng.random(cells[tuple(plane)].shape) < 0.9
    return cells


def stairs(shape: tuple[int, ...], height: int) -> np.ndarray:
    return (np.indices(shape).sum(axis=0) < height).astype(np.uint8)


def gyroid(shape: tuple[int, ...]) -> np.ndarray:
    x, y, z = np.indices(shape)
    return (abs(np.sin(x) * np.cos(y) + np.sin(y) * np.cos(z) + np.sin(z) * np.cos(x)) > 0.5).astype(np.uint8)


GRIDS = {
    "box": Grid(np.zeros((7, 6, 5)), walls=["solid", "air", ("solid", "air")]),
    "sealed box": Grid(np.zeros((4, 5, 6))),
    "ball": domain((10, 9, 8), solid=ball((5, 4, 4), 3)),
    "inside of a ball": domain((11, 11, 11), solid=~ball((5.5, 5.5, 5.5), 5)),
    "free surface": domain((9, 8, 10), air=~height_field(lambda x, y: 5 + np.sin(x) * np.cos(y))),
    "free surface upwards along x": domain((10, 8, 7), air=~height_field(lambda y, z: 5 + np.sin(y + z), axis=0)),
    "oblique": domain((9, 9, 9), air=half_space((4, 4, 4), (1, 2, 3))),
    "oblique the other way": domain((9, 9, 9), solid=half_space((4, 4, 4), (-3, 1, -2)), air_at="face", walls="air"),
    "stairs": Grid(stairs((7, 8, 9), 11)),
    "gyroid": Grid(gyroid((12, 12, 12))),
    "axes of two": Grid(np.zeros((2, 2, 2))),
    "slab": Grid(np.zeros((3, 9, 2))),
    "2D": domain((13, 11), solid=ball((6, 5), 3)),
    "2D porous": Grid(porous(0, (14, 15), 0.3)),
    "2D as N x 1 x M": Grid(porous(1, (9, 1, 8), 0.2)),
    "2D as 1 x N x M": Grid(porous(2, (1, 9, 8), 0.2)),
    "2D as N x M x 1": Grid(porous(3, (9, 8, 1), 0.2)),
    "two chambers": Grid(np.where(np.indices((9, 5, 4))[0] == 4, 1, 0), walls=[("air", "solid"), "solid", "solid"]),
}


@pytest.mark.parametrize("name", GRIDS)
def test_domains_are_found(name: str) -> None:
    system = poisson(GRIDS[name])
    found, read = assert_found(system.A)
    known, stencil = embed(GRIDS[name])
    verify(system.A, known, stencil)
    verify(system.A, found, read)
    np.testing.assert_array_equal(found.component, known.component)
    np.testing.assert_array_equal(read.sealed, stencil.sealed)
    assert read.scale == stencil.scale


@pytest.mark.parametrize("removed", [0.05, 0.15, 0.3, 0.45, 0.6])
def test_random_porous_media_are_found(removed: float) -> None:
    for seed in range(12):
        shape = (*np.random.default_rng(seed).integers(4, 12, size=3),)
        assert_found(matrix(porous(seed, shape, removed), walls=["solid", ("air", "solid"), "solid"]))


def test_random_baffles_and_fragments_are_found() -> None:
    rng = np.random.default_rng(7)
    for seed in range(12):
        assert_found(matrix(baffles(seed, (8, 7, 9))))
        assert_found(matrix(rng.choice(3, size=rng.integers(2, 9, size=3), p=[0.6, 0.25, 0.15])))
        assert_found(matrix(rng.choice(3, size=rng.integers(3, 16, size=2), p=[0.6, 0.25, 0.15])))


@pytest.mark.parametrize(
    "name", ["box", "ball", "inside of a ball", "free surface", "oblique", "oblique the other way", "stairs", "slab"]
)
def test_rows_are_walked_through_once_where_order_leaves_no_doubt(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the walk finds is what the links between all rows say; the walk gives up what it cannot tell."""
    A = poisson(GRIDS[name]).A
    walk, found = places.walk, []

    def watched(*args: Any) -> Any:
        found.append(walk(*args))
        return found[-1]

    monkeypatch.setattr(places, "walk", watched)
    walked, read = assert_found(A)
    monkeypatch.setattr(places, "walk", lambda *_: None)
    linked, stencil = assert_found(A)
    assert len(found) == 1
    assert found[0] is not None
    assert walked.shape == linked.shape
    np.testing.assert_array_equal(walked.position, linked.position)
    np.testing.assert_array_equal(walked.component, linked.component)
    np.testing.assert_array_equal(read.diagonal, stencil.diagonal)
    np.testing.assert_array_equal(read.sealed, stencil.sealed)
    assert walked.position.dtype == linked.position.dtype


@pytest.mark.parametrize("family", ["open-top", "free-surface", "mixed-walls", "pure-neumann", "porous", "terrain"])
def test_the_walk_hardly_ever_gives_up_on_one_component(family: str) -> None:
    """Rows that it sets aside (ceilings, overhangs, holes) get the places that the links between all rows say."""
    walked = linked = 0
    for instance in range(12):
        A = poisson(random_grid(family, (18, 16, 20), np.random.default_rng((6, instance)))).A
        scanned = values.scan(A)
        assert scanned is not None
        pattern = places.coupled(A, scanned.degree)
        pieces = places.Pieces(pattern, scanned.planar)
        if pieces.count > 1:
            continue
        linked += 1
        mark = scanned.diagonal[pattern.rows]
        found, arranged = places.walk(pattern, places.runs(pattern), mark), pieces.arrange(mark)
        assert arranged is not None
        if found is not None:
            walked += 1
            np.testing.assert_array_equal(found[0].position, arranged[0].position)
            np.testing.assert_array_equal(found[1], arranged[1])
    assert linked >= 6
    assert walked >= 0.8 * linked


@pytest.mark.parametrize("name", ["two chambers", "2D", "other order"])
def test_the_walk_is_not_for_everything(name: str) -> None:
    if name == "other order":
        A, order = poisson(GRIDS["box"]).A, np.random.default_rng(0).permutation(210)
        A = csr_array(A[order][:, order])
    else:
        A = poisson(GRIDS[name]).A
    count = (A.diagonal() / -A.data.min()).astype(np.uint8)
    pattern = places.Pattern(A.indptr, A.indices)
    assert places.walk(pattern, places.runs(pattern), count) is None


def test_a_wrong_first_guess_is_taken_back() -> None:
    # A random walk leaves few unit squares: neighbours alone do not tell the axes, first guesses contradict later rows.
    for seed in range(6):
        steps = np.random.default_rng(seed).integers(6, size=120)
        unit = np.concatenate((np.eye(3, dtype=int), -np.eye(3, dtype=int)))
        path = np.cumsum(unit[steps], axis=0)
        path -= path.min(axis=0)
        cells = np.ones(path.max(axis=0) + 1, dtype=np.uint8)
        cells[tuple(path.T)] = 0
        assert_found(matrix(cells))


def test_every_domain_of_a_small_box_is_found() -> None:
    for bits in range(1, 2**8):
        cells = 1 - np.array([bits >> k & 1 for k in range(8)]).reshape(2, 2, 2)
        A = matrix(cells, walls="air")
        if A.nnz > A.shape[0]:
            assert_found(A)


def brute_force(A: np.ndarray) -> bool:
    """Tell whether a connected pattern is an induced grid in C order, by trying every position of every row."""
    n = len(A)
    order, units = [0], [u for u in itertools.product((-1, 0, 1), repeat=3) if sum(map(abs, u)) == 1]
    while len(order) < n:
        order.append(next(j for i in order for j in range(n) if A[i, j] and j not in order))

    def fits(at: dict[int, tuple[int, ...]], i: int, p: tuple[int, ...]) -> bool:
        for j, q in at.items():
            touching = sum(abs(a - b) for a, b in zip(p, q, strict=True)) == 1
            if p == q or (p < q) != (i < j) or touching != bool(A[i, j]):
                return False
        return True

    def extend(at: dict[int, tuple[int, ...]]) -> bool:
        if len(at) == n:
            return True
        i = order[len(at)]
        j = next(j for j in at if A[i, j])
        candidates = (tuple(a + b for a, b in zip(at[j], u, strict=True)) for u in units)
        return any(fits(at, i, p) and extend(at | {i: p}) for p in candidates)

    return extend({0: (0, 0, 0)})


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6])
def test_small_graphs_are_found_exactly_when_brute_force_finds_them(n: int) -> None:
    rng = np.random.default_rng(n)
    answers = set()
    for _ in range(150 if n > 3 else 20):
        parents = [rng.integers(i) for i in range(1, n)]
        A = np.zeros((n, n))
        for i, j in [*enumerate(parents, start=1), *rng.integers(n, size=(rng.integers(n), 2))]:
            if i != j:
                A[i, j] = A[j, i] = -1
        A[np.diag_indices(n)] = 8
        if (A < 0).sum(axis=1).max() > 6:
            continue
        expected = brute_force(A < 0)
        answers.add(expected)
        if expected:
            assert_found(csr_array(A))
        else:
            with pytest.raises(NotAGrid):
                discover(csr_array(A))
    assert True in answers
    assert n < 3 or False in answers


def test_shape_and_position_of_one_component() -> None:
    cells = porous(4, (12, 11, 10), 0.1)
    A = matrix(cells, walls="air")
    (found, read), (known, stencil) = discover(A), embed(Grid(cells, walls="air"))
    assert read.sealed.size == 1  # else choose another seed
    assert found.shape == known.shape == (12, 11, 10)
    np.testing.assert_array_equal(found.position, known.position)
    np.testing.assert_array_equal(read.diagonal, stencil.diagonal)
    assert found.position.dtype == np.int32
    assert found.component.dtype == np.int32
    assert read.diagonal.dtype == np.uint8


@pytest.mark.parametrize("shape", [(5,), (1, 5), (5, 1), (1, 1, 5), (1, 5, 1), (5, 1, 1)])
def test_a_chain_is_one_line(shape: tuple[int, ...]) -> None:
    A = diags_array([-np.ones(4), 2 * np.ones(5), -np.ones(4)], offsets=[-1, 0, 1], format="csr")
    assert assert_found(A)[0].shape == (1, 5)
    if len(shape) > 1:
        assert embed(Grid(np.zeros(shape)))[0].shape == (1, 5)


@pytest.mark.parametrize("n", [1, 3])
def test_no_couplings(n: int) -> None:
    with pytest.raises(NotAGrid, match="no off-diagonal"):
        discover(csr_array(eye_array(n)))
    with pytest.raises(NotAGrid, match="no two fluid cells"):
        embed(Grid(np.zeros((1, 1))))


def test_full_box_numbering_and_rows_without_couplings() -> None:
    cells = porous(5, (7, 6, 5), 0.3)
    system = poisson(Grid(cells, walls="air"))
    for filler in (1.0, 0.0, 0.37):
        full = np.diag(np.full(cells.size, filler))
        full[np.ix_(system.cells, system.cells)] = system.A.toarray()
        found, stencil = assert_found(csr_array(full))
        assert isinstance(found.rows, np.ndarray)
        assert found.rows.dtype == np.int64
        assert set(found.rows) <= set(system.cells)
        verify(csr_array(full), found, stencil)


def test_isolated_cells_as_poisson_leaves_them_out() -> None:
    # From left to right: a pair, a lone cell with air, a lone cell without (no unknown), a pair.
    grid = Grid([[0, 0, 1, 0, 2, 1, 1, 0, 1, 0, 0]])
    A, (known, stencil) = poisson(grid).A, embed(grid)
    assert A.shape == (5, 5)
    np.testing.assert_array_equal(known.rows, [0, 1, 3, 4])
    verify(A, known, stencil)
    np.testing.assert_array_equal(assert_found(A)[0].rows, known.rows)


def test_explicit_zeros_unsorted_indices_and_index_types() -> None:
    A = matrix(porous(6, (6, 5, 7), 0.2))
    zeros = coo_array(A)
    rows, columns = np.concatenate((zeros.row, [0, 60])), np.concatenate((zeros.col, [40, 3]))
    with_zeros = csr_array((np.concatenate((zeros.data, [0, 0])), (rows, columns)), shape=A.shape)
    assert with_zeros.nnz == A.nnz + 2
    unsorted = A.copy()
    unsorted.indices = unsorted.indices.copy()
    unsorted.indices[A.indptr[5] : A.indptr[6]] = A.indices[A.indptr[5] : A.indptr[6]][::-1]
    unsorted.data[A.indptr[5] : A.indptr[6]] = A.data[A.indptr[5] : A.indptr[6]][::-1]
    unsorted.has_sorted_indices = unsorted.has_canonical_format = False
    wide = csr_array((A.data, A.indices.astype(np.int64), A.indptr.astype(np.int64)), shape=A.shape)
    for variant in (with_zeros, unsorted, wide, csr_array(A.astype(np.float32)), csr_array(A.astype(int)), A.tocoo()):
        data = variant.data.copy()
        np.testing.assert_array_equal(discover(variant)[0].position, discover(A)[0].position)
        verify(variant, *discover(A))
        np.testing.assert_array_equal(variant.data, data)


@pytest.mark.parametrize("scale", [1e-170, 1 / 3, 1e200])
def test_scales(scale: float) -> None:
    _, found = discover(matrix(porous(6, (6, 5, 7), 0.2)) * scale)
    assert found.scale == scale


def test_components_are_placed_apart_and_packed() -> None:
    box = matrix(np.zeros((10, 9, 8)))
    pair = matrix(np.zeros((2, 1)))
    found, stencil = assert_found(csr_array(block_diag([pair] * 300 + [box, matrix(np.zeros((9, 9, 9)))])))
    assert np.prod(found.shape) <= 1.5 * (10 * 9 * 8 + 9**3 + 300 * 2 * 6)
    assert stencil.sealed.all()
    assert stencil.sealed.size == 302
    long, _ = assert_found(csr_array(block_diag([matrix(np.zeros((3, 30, 3))), matrix(np.zeros((3, 28, 4)))])))
    assert np.prod(long.shape) <= 1.5 * (3 * 30 * 3 + 3 * 28 * 4)


def edit(change: object) -> csr_array:
    """Return the matrix of a 5 x 4 x 3 box with air all around, changed as a dense array."""
    dense = matrix(np.zeros((5, 4, 3)), walls="air").toarray()
    result = change(dense)  # type: ignore[operator]
    return csr_array(dense if result is None else result)


def set_entries(*entries: tuple[int, int, float]) -> object:
    def change(dense: np.ndarray) -> None:
        for i, j, value in entries:
            dense[i, j] = value

    return change


def periodic(dense: np.ndarray) -> None:
    for line in range(12):
        dense[line, line + 48] = dense[line + 48, line] = -1


BAD = {
    "zero-thickness wall": (set_entries((16, 17, 0), (17, 16, 0)), "wall without thickness"),
    "periodic links": (periodic, "periodic"),
    "unequal couplings": (set_entries((1, 2, -1.01), (2, 1, -1.01)), "differs"),
    "positive coupling": (set_entries((1, 2, 1), (2, 1, 1)), "positive off-diagonal"),
    "nonsymmetric value": (set_entries((1, 2, -2)), "differs"),
    "nonsymmetric pattern": (set_entries((16, 17, 0)), "coupled"),
    "negative definite": (np.negative, "negative definite"),
    "shifted": (lambda dense: dense + 1e-12 * np.eye(60), "not a multiple"),
    "fraction on the diagonal": (set_entries((7, 7, 6.5)), "not a multiple"),
    "diagonal too small": (set_entries((16, 16, 5)), "smaller"),
    "diagonal too large": (set_entries((16, 16, 256)), "255"),
    "no diagonal": (set_entries((16, 16, 0)), "no diagonal"),
    "coupling to an empty row": (lambda d: np.pad(d, (0, 1)) - np.outer(np.eye(61)[5], np.eye(61)[60]), "symmetric"),
    "nan": (set_entries((1, 2, np.nan)), "not finite"),
    "inf on the diagonal": (set_entries((1, 1, np.inf)), "not finite"),
    "complex": (lambda dense: dense * 1j, "real"),
    "many couplings": (lambda dense: 60 * np.eye(60) - np.ones((60, 60)), "three"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_grid_is_refused(name: str) -> None:
    change, reason = BAD[name]
    with pytest.raises(NotAGrid, match=reason):
        discover(edit(change))


def test_a_tree_and_a_ring_are_refused() -> None:
    star = np.diag(np.full(8, 9.0))
    star[0, 1:5] = star[1:5, 0] = -1  # four later neighbours
    with pytest.raises(NotAGrid, match="three"):
        discover(csr_array(star))
    odd = 4 * np.eye(5) - np.roll(np.eye(5), 1, axis=0) - np.roll(np.eye(5), -1, axis=0)
    with pytest.raises(NotAGrid):
        discover(csr_array(odd))


def test_other_orders_are_refused_or_verified() -> None:
    A = matrix(np.zeros((6, 5, 4)))
    order = np.random.default_rng(0).permutation(120)
    with pytest.raises(NotAGrid):
        discover(csr_array(A[order][:, order]))
    reverse = np.arange(120)[::-1]
    assert assert_found(csr_array(A[reverse][:, reverse]))[0].shape == (6, 5, 4)


def test_not_a_square_sparse_array() -> None:
    for wrong in (np.eye(3), csr_array(np.ones((2, 3)))):
        with pytest.raises(NotAGrid, match="square sparse"):
            discover(wrong)


def test_verify_refuses_other_matrices() -> None:
    grid = Grid(porous(8, (6, 5, 4), 0.2), walls="air")
    A, known = poisson(grid).A, embed(grid)  # place and coefficients
    with pytest.raises(NotAGrid, match="diagonal entry"):
        verify(csr_array(A + 1e-12 * eye_array(A.shape[0])), *known)
    with pytest.raises(NotAGrid, match="rows"):
        verify(matrix(np.zeros((3, 4, 5))), *known)
    with pytest.raises(NotAGrid, match="common coupling"):
        verify(csr_array(A * 2), *known)
    changed = A.tolil()
    i, j = next((i, j) for i, j in zip(*A.nonzero(), strict=True) if j > i)
    changed[i, j] = changed[j, i] = 0
    with pytest.raises(NotAGrid, match="without thickness"):
        verify(csr_array(changed), *known)
    changed = A.tolil()
    k = next(k for k in range(A.shape[0]) if k > i and A[i, k] == 0)
    changed[i, k] = changed[k, i] = -1
    with pytest.raises(NotAGrid, match="side by side"):
        verify(csr_array(changed), *known)


def test_a_winding_channel_may_be_straightened() -> None:
    n = 1200  # a diagonal staircase that would fill a box of 400^3 cells is the same matrix as a straight chain
    cells = diags_array([-np.ones(n - 1), np.full(n, 6.0), -np.ones(n - 1)], offsets=[-1, 0, 1], format="csr")
    assert discover(cells)[0].shape == (1, n)


def winding_channel(n: int) -> csr_array:
    """Return the matrix of one channel of one cell's width that winds through every plane of a cube."""
    cells = np.ones((n, n, n), dtype=np.uint8)
    cells[:, ::2, :] = 0
    cells[:, 1::4, -1] = cells[:, 3::4, 0] = 0
    return matrix(cells)


def test_a_search_that_leads_nowhere_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    A = winding_channel(12)
    monkeypatch.setattr(places, "LOOKUPS", 0)
    monkeypatch.setattr(places, "PER_ENTRY", 20)
    with pytest.raises(NotAGrid, match="given up"):
        discover(A)
    assert_found(matrix(porous(3, (9, 8, 7), 0.15)))  # what is a grid needs less


@pytest.mark.compiled
@pytest.mark.parametrize("name", ["winding channel", "torus"])
def test_no_grid_takes_no_longer_than_its_size_allows(name: str) -> None:
    """These took half a minute, and a minute."""
    ring = diags_array([-1.0, -1.0, 2.0, -1.0, -1.0], offsets=[-97, -1, 0, 1, 97], shape=(98, 98))
    line = diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(100, 100))
    torus = csr_array(kron(ring, eye_array(100)) + kron(eye_array(98), line))
    A = winding_channel(24) if name == "winding channel" else torus
    discover(matrix(np.zeros((3, 3, 3))))  # compiles
    start = time.perf_counter()
    with pytest.raises(NotAGrid, match="given up"):
        discover(A)
    assert time.perf_counter() - start < 5
