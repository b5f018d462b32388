"""The pressure Poisson matrix: every entry against a plain loop, its spectrum, its pockets, its order of accuracy."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.linalg import cg

from deepcd.pde import Cell, Grid, ball, box, domain, poisson

SIZES = [(7, 5), (1, 9), (6, 1), (7, 5, 3), (9, 1, 4), (1, 1, 6), (1, 1, 1), (4, 4, 5)]
AirAt = Literal["center", "face"]


def random_grid(shape: tuple[int, ...], seed: int, air_at: AirAt = "center", air: float = 0.1) -> Grid:
    """Draw the type of every cell and wall independently: the worst of domains."""
    rng = np.random.default_rng(seed)
    cells = rng.choice([Cell.FLUID, Cell.SOLID, Cell.AIR], size=shape, p=[0.65, 0.35 - air, air])
    walls = [tuple(rng.choice(["solid", "air"], size=2, p=[1 - air, air])) for _ in shape]
    return Grid(cells, walls=walls, spacing=0.5, air_at=air_at)


def plain_laplacian(grid: Grid) -> tuple[NDArray[np.float64], list[int], list[int]]:
    """Return the dense matrix, its unknowns and the isolated cells by one loop over cells and neighbours."""
    rows: dict[tuple[int, ...], dict[tuple[int, ...], float]] = {}
    isolated = []
    for cell in np.ndindex(*grid.shape):
        if grid.cells[cell] != Cell.FLUID:
            continue
        row = {cell: 0.0}
        for axis in range(len(grid.shape)):
            for end, step in enumerate((-1, 1)):
                other = tuple(i + step * (d == axis) for d, i in enumerate(cell))
                if 0 <= other[axis] < grid.shape[axis]:
                    kind = Cell(grid.cells[other])
                else:
                    kind = Cell[grid.walls[axis][end].upper()]
                if kind == Cell.FLUID:
                    row[cell] += 1
                    row[other] = -1.0
                elif kind == Cell.AIR:
                    row[cell] += 2 if grid.air_at == "face" else 1
        flat = int(np.ravel_multi_index(cell, grid.shape))
        if row[cell]:
            rows[cell] = row
        else:
            isolated.append(flat)
    number = {cell: i for i, cell in enumerate(rows)}
    dense = np.zeros((len(rows), len(rows)))
    for cell, row in rows.items():
        for other, value in row.items():
            dense[number[cell], number[other]] = value
    return dense / grid.spacing**2, [int(np.ravel_multi_index(c, grid.shape)) for c in rows], isolated


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("air_at", ["center", "face"])
@pytest.mark.parametrize("seed", range(3))
def test_every_entry(shape: tuple[int, ...], air_at: AirAt, seed: int) -> None:
    grid = random_grid(shape, seed, air_at)
    system = poisson(grid)
    dense, cells, isolated = plain_laplacian(grid)
    np.testing.assert_allclose(system.A.toarray(), dense, rtol=1e-15)
    np.testing.assert_array_equal(system.cells, cells)
    np.testing.assert_array_equal(system.isolated, isolated)


def test_is_a_canonical_csr_array_of_small_indices() -> None:
    A = poisson(random_grid((6, 5, 4), 0)).A
    assert isinstance(A, csr_array)
    assert (A.dtype, A.indices.dtype, A.indptr.dtype) == (np.float64, np.int32, np.int32)
    fresh = csr_array((A.data, A.indices, A.indptr), shape=A.shape)  # without the flags that were set
    assert fresh.has_canonical_format
    assert np.count_nonzero(A.data) == A.nnz


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("air", [0.0, 0.03, 0.1])
def test_is_symmetric_and_its_null_space_is_the_sealed_chambers(shape: tuple[int, ...], air: float) -> None:
    for seed in range(4):
        system = poisson(random_grid(shape, seed, air=air))
        A = system.A.toarray()
        np.testing.assert_array_equal(A, A.T)
        eigenvalues = np.linalg.eigvalsh(A) if A.size else np.zeros(0)
        assert (eigenvalues > -1e-12).all()
        assert np.count_nonzero(eigenvalues < 1e-9) == system.sealed.sum()
        inside = system.sealed[system.component]
        np.testing.assert_allclose(A[inside].sum(axis=1), 0.0, atol=1e-13)


@pytest.mark.parametrize("walls", ["air", ["air", "solid", "solid"], [("solid", "air"), "solid", "air"]])
@pytest.mark.parametrize("air_at", ["center", "face"])
def test_smallest_eigenvalue_of_a_box(walls: Any, air_at: AirAt) -> None:
    """On a box the matrix is a sum of chains, whose eigenvalues are known (Strang, SIAM Review 41, 1999)."""
    shape = (4, 5, 3)
    grid = Grid(np.zeros(shape), walls=walls, spacing=0.1, air_at=air_at)
    angle = {
        ("center", 2): lambda n: 1 / (n + 1),
        ("face", 2): lambda n: 1 / n,
        ("center", 1): lambda n: 1 / (2 * n + 1),
        ("face", 1): lambda n: 1 / (2 * n),
        ("center", 0): lambda n: 0.0,
        ("face", 0): lambda n: 0.0,
    }
    expected = sum(
        2 - 2 * np.cos(np.pi * angle[air_at, pair.count("air")](n)) for n, pair in zip(shape, grid.walls, strict=True)
    )
    assert np.linalg.eigvalsh(poisson(grid).A.toarray())[0] == pytest.approx(100 * expected, rel=1e-10)


def test_diagonals_from_seven_to_twelve() -> None:
    """With air at the face a cell with k air neighbours and 6 - k fluid ones has the diagonal 6 + k."""
    found = set()
    for seed in range(3):
        system = poisson(random_grid((8, 8, 8), seed, "face", air=0.34))
        found |= set(np.rint(system.A.diagonal() * system.grid.spacing**2).astype(int).tolist())
    assert found >= set(range(7, 13))
    assert max(found) == 12
    alone = domain((3, 3, 3), air=~box((1, 1, 1), (2, 2, 2)), air_at="face")
    np.testing.assert_array_equal(poisson(alone).A.toarray(), [[12.0]])
    np.testing.assert_array_equal(poisson(Grid(alone.cells)).A.toarray(), [[6.0]])


def test_isolated_cells_and_chambers_are_named() -> None:
    """A tank with an open top, in it a hollow block of 2 x 2 x 3 cells, a hollow block of one and a corner cut off."""
    chamber = box((1, 1, 1), (5, 5, 6)) - box((2, 2, 2), (4, 4, 5))
    single = box((6, 1, 1), (9, 4, 4)) - box((7, 2, 2), (8, 3, 3))
    corner = box((9, 9, 0), (10, 10, 2)) - box((9, 9, 0), (10, 10, 1))
    corner |= box((8, 9, 0), (9, 10, 1)) | box((9, 8, 0), (10, 9, 1))
    grid = domain((10, 10, 8), solid=chamber | single | corner, walls=["solid", "solid", ("solid", "air")])
    system = poisson(grid)
    assert np.array(np.unravel_index(system.isolated, grid.shape)).T.tolist() == [[7, 2, 2], [9, 9, 0]]
    assert len(system.cells) == grid.unknowns - 2
    np.testing.assert_array_equal(system.sealed, [False, True])
    np.testing.assert_array_equal(np.bincount(system.component), [grid.unknowns - 14, 12])
    assert str(system) == (
        f"{grid.unknowns - 2} unknowns in 2 connected regions of 10 x 10 x 8 cells\n"
        "1 sealed chamber without air, each fixed up to a constant: 12 cells at (2, 2, 2)\n"
        "2 isolated fluid cells left out: (7, 2, 2), (9, 9, 0)"
    )
    assert repr(system) == f"<PoissonSystem: {grid.unknowns - 2} unknowns of 10 x 10 x 8 cells>"


def test_a_cell_among_air_is_an_unknown_of_its_own() -> None:
    system = poisson(domain((5, 5), air=~box((2, 2), (3, 3))))
    assert system.isolated.size == 0
    np.testing.assert_array_equal(system.A.toarray(), [[4.0]])
    np.testing.assert_array_equal(system.sealed, [False])


def test_many_findings_are_counted() -> None:
    cells = np.ones((2, 40), dtype=np.uint8)
    cells[0, ::2] = Cell.FLUID  # twenty single cells
    cells[0, 30:] = Cell.FLUID  # five of them in one chamber
    text = str(poisson(Grid(cells)))
    assert "1 sealed chamber without air, each fixed up to a constant: 10 cells at (0, 30)" in text
    assert "15 isolated fluid cells left out: (0, 0), (0, 2), (0, 4), (0, 6), (0, 8) and 10 more" in text


def test_chambers_are_listed_by_size() -> None:
    cells = np.zeros((3, 9), dtype=np.uint8)
    cells[:, [2, 6]] = Cell.SOLID
    cells[0, 7] = Cell.SOLID
    text = str(poisson(Grid(cells)))
    assert "3 sealed chambers without air, each fixed up to a constant: 9 cells at (0, 3), 6 cells at (0, 0), 5" in text


@pytest.mark.parametrize("kind", [Cell.SOLID, Cell.AIR])
def test_no_fluid_is_an_empty_system(kind: Cell) -> None:
    system = poisson(Grid(np.full((3, 4, 2), kind)))
    assert system.A.shape == (0, 0)
    assert (system.component.size, system.sealed.size) == (0, 0)
    assert str(system) == "0 unknowns in 0 connected regions of 3 x 4 x 2 cells"


def test_components_are_numbered_by_their_first_cells() -> None:
    for seed in range(5):
        system = poisson(random_grid((9, 8, 3), seed, air=0.1))
        first = np.unique(system.component, return_index=True)[1]
        assert (np.diff(first) > 0).all()
        rows, columns = system.A.nonzero()
        np.testing.assert_array_equal(system.component[rows], system.component[columns])


def test_fields_and_vectors() -> None:
    system = poisson(domain((6, 5, 4), solid=ball((3, 2, 2), 1.2), walls="air"))
    x = np.random.default_rng(0).standard_normal(len(system.cells))
    field = system.to_field(x, fill=np.nan)
    assert field.shape == (6, 5, 4)
    np.testing.assert_array_equal(np.isnan(field), ~system.grid.fluid)
    np.testing.assert_array_equal(field[system.grid.fluid], x)
    np.testing.assert_array_equal(system.from_field(field), x)
    assert system.to_field(x)[3, 2, 2] == 0.0
    with pytest.raises(ValueError, match=rf"one number per unknown, shape \({len(x)},\), got \({len(x) - 1},\)"):
        system.to_field(x[1:])
    with pytest.raises(ValueError, match=r"shape of the grid, \(6, 5, 4\), got \(6, 5\)"):
        system.from_field(field[..., 0])


# Manufactured solutions u = g(x) g(y) ... on the unit box, none of them an eigenfunction. Each g comes with g''.


def dirichlet(x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return g = exp(x) sin(2 pi x): zero at 0, 1/2 and 1."""
    k = 2 * np.pi
    return np.exp(x) * np.sin(k * x), np.exp(x) * ((1 - k**2) * np.sin(k * x) + 2 * k * np.cos(k * x))


def neumann(x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return g = exp(cos(2 pi x)): flat at 0, 1/2 and 1."""
    k = 2 * np.pi
    g = np.exp(np.cos(k * x))
    return g, g * k**2 * (np.sin(k * x) ** 2 - np.cos(k * x))


def mixed(x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return g = cos(pi x / 2) exp(x^2): flat at 0, zero at 1."""
    k = np.pi / 2
    c, s, e = np.cos(k * x), np.sin(k * x), np.exp(x**2)
    return c * e, ((2 + 4 * x**2 - k**2) * c - 4 * k * x * s) * e


CASES = {
    "Dirichlet at the face": ((dirichlet,) * 3, "air", "face", None),
    "Dirichlet at the centre": ((dirichlet,) * 3, "air", "center", None),
    "Dirichlet at the face, air pocket": ((dirichlet,) * 3, "air", "face", Cell.AIR),
    "Dirichlet at the centre, air pocket": ((dirichlet,) * 3, "air", "center", Cell.AIR),
    "Neumann": ((neumann,) * 3, "solid", "face", None),
    "Neumann, solid block": ((neumann,) * 3, "solid", "face", Cell.SOLID),
    "mixed axes": ((neumann, dirichlet, neumann), ["solid", "air", "solid"], "face", None),
    "mixed ends": ((mixed,) * 3, [("solid", "air")] * 3, "face", None),
}


def largest_error(case: str, ndim: int, intervals: int) -> float:
    """Largest error over the unknowns with cells of 1 / intervals (constants aside where nothing fixes them)."""
    factors, walls, air_at, block = CASES[case]
    walls = walls if isinstance(walls, str) else walls[:ndim]
    h = 1 / intervals
    # The edge of the unit box runs through the faces of the outermost cells, or through the centres of those beyond.
    x: NDArray[np.float64] = h * np.arange(0.5, intervals) if air_at == "face" else h * np.arange(1.0, intervals)
    values, seconds = zip(*(g(x) for g in factors[:ndim]), strict=True)
    u = np.ones((len(x),) * ndim)
    for factor in np.ix_(*values):
        u = u * factor
    f = np.zeros_like(u)
    for axis in range(ndim):
        term = np.ones_like(u)
        for factor in np.ix_(*(seconds[d] if d == axis else values[d] for d in range(ndim))):
            term = term * factor
        f -= term
    cells = np.zeros(u.shape, dtype=np.uint8)
    if block is not None:
        cells[(slice(int(np.searchsorted(x, 0.5)), None),) * ndim] = block
    system = poisson(Grid(cells, walls=walls, spacing=h, air_at=air_at))  # type: ignore[arg-type]
    exact, b = system.from_field(u), system.from_field(f)
    if system.sealed.all():
        exact, b = exact - exact.mean(), b - b.mean()
    p, info = cg(system.A, b, rtol=1e-9)
    assert info == 0
    return float(np.abs(p - exact).max())


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("ndim", "intervals"), [(2, 64), (3, 24)])
def test_second_order(case: str, ndim: int, intervals: int) -> None:
    coarse, fine = largest_error(case, ndim, intervals), largest_error(case, ndim, 2 * intervals)
    assert np.log2(coarse / fine) == pytest.approx(2.0, abs=0.1)
