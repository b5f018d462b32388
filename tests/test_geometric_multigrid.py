"""The classical cycle against its definition; symmetry, definiteness, convergence, threads."""

from __future__ import annotations

import copy
import pickle
import tracemalloc
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from deepcd.data import random_grid
from deepcd.pde import Grid, box, domain
from deepcd.solvers.grid_discovery import Embedding, embed
from deepcd.solvers.kernels import reference, team
from deepcd.solvers.operators.stencil import StencilOperator, geometry
from deepcd.solvers.preconditioners import multigrid
from deepcd.solvers.preconditioners.geometric_multigrid import GeometricMultigrid


def chambers(shape: tuple[int, ...]) -> Grid:
    """A wall across the first axis: a sealed chamber and one under air at the face."""
    wall = box((2,) + (0,) * (len(shape) - 1), (3, *shape[1:]))
    return domain(shape, solid=wall, walls=[("solid", "air")] + ["solid"] * (len(shape) - 1), air_at="face")


def some_grids() -> dict[str, Grid]:
    grids = {
        f"{family} {shape}": random_grid(family, shape, np.random.default_rng(3))
        for family, shape in [
            ("mixed-walls", (5, 4, 6)),
            ("pure-neumann", (4, 5, 3)),
            ("porous", (3, 6, 5)),
            ("baffles", (6, 7)),
            ("closed-cube", (2, 5, 4)),
            ("free-surface", (7, 9)),
            ("closed-cube", (1, 7)),
            ("pure-neumann", (2, 2)),
        ]
    }
    return grids | {
        "chambers 3D": chambers((6, 3, 4)),
        "chambers 2D": chambers((7, 6)),
        "3 x 1 x 5": domain((3, 1, 5), walls="air"),
    }


GRIDS = some_grids()


def dense(M: Any, embedding: Embedding) -> NDArray[np.float64]:
    """Return M on the unknowns, one application per column, and check the inner products that come with them."""
    size = embedding.diagonal.size
    columns, rng = [], np.random.default_rng(0)
    for p in embedding.position:
        r, q, z = np.zeros(size), np.zeros(size), M.zeros()
        r[p], q[embedding.position] = 1, rng.standard_normal(len(embedding.position))
        products = M.apply(r, q, z)
        np.testing.assert_allclose(products, [r @ z, q @ z], atol=1e-12)
        assert not z[embedding.diagonal.ravel() == 0].any()
        columns.append(z[embedding.position].astype(float))
    return np.stack(columns, axis=1)


def definition(embedding: Embedding) -> tuple[NDArray[np.uint8], NDArray[np.intp]]:
    """Return the operator over the cells of the box and which of them are unknowns."""
    diagonal = reference.unpad(embedding.diagonal.ravel(), geometry(embedding.shape)[0], len(embedding.shape) == 2)
    return diagonal, np.flatnonzero(diagonal)


def iterations(M: Any, embedding: Embedding, tol: float = 1e-6) -> int:
    """Solve with a random right-hand side by preconditioned conjugate gradients."""
    operator = StencilOperator(embedding)
    r = operator.embed(np.random.default_rng(1).standard_normal(len(embedding.position)))
    operator.project(r)
    x, p, q, z = operator.zeros(), operator.zeros(), operator.zeros(), M.zeros()
    first, energy = operator.dot(r, r), 0.0
    for k in range(60):
        rz, qz = M.apply(r, q, z)
        operator.project(z)
        operator.direction(z, -qz / energy if k else 0.0, p)
        energy = operator.apply(p, q)
        if operator.update(rz / energy, p, q, x, r) <= tol**2 * first:
            return k + 1
    return 60


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("sweeps", [1, 2])
def test_cycle_is_the_one_defined_symmetric_and_positive_definite(
    name: str, sweeps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multigrid, "COARSEST", 8)
    embedding = embed(GRIDS[name])
    M = dense(GeometricMultigrid(embedding, sweeps), embedding)
    diagonal, cells = definition(embedding)
    expected = reference.cycle(reference.geometric_levels(diagonal, sweeps, 8))[np.ix_(cells, cells)]
    size = np.abs(expected).max()
    np.testing.assert_allclose(M, expected, atol=1e-5 * size)
    np.testing.assert_allclose(M, M.T, atol=1e-5 * size)
    assert np.linalg.eigvalsh((M + M.T) / 2)[0] > 0


@pytest.mark.parametrize(("sweeps", "most"), [(1, 11), (2, 9)])
@pytest.mark.parametrize("family", ["open-top", "pure-neumann", "closed-cube"])
@pytest.mark.parametrize("shape", [(9, 8, 8), (13, 17)], ids=str)
def test_convergence(
    family: str, shape: tuple[int, ...], sweeps: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multigrid, "COARSEST", 30)
    embedding = embed(random_grid(family, shape, np.random.default_rng(0)))
    assert iterations(GeometricMultigrid(embedding, sweeps), embedding) <= most


def test_two_threads_agree_with_one_and_with_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    embedding = embed(random_grid("mixed-walls", (7, 6, 8), np.random.default_rng(2)))
    alone = GeometricMultigrid(embedding)
    monkeypatch.setattr(team, "SMALLEST", 1)
    pair, again = GeometricMultigrid(embedding, threads=2), GeometricMultigrid(embedding, threads=2)
    assert pair.team.threads == 2
    rng = np.random.default_rng(0)
    r, q = (StencilOperator(embedding).embed(rng.standard_normal(len(embedding.position))) for _ in range(2))
    z = [M.zeros() for M in (alone, pair, again, pair)]
    products = [M.apply(r, q, v) for M, v in zip((alone, pair, again, pair), z, strict=True)]
    np.testing.assert_allclose(z[1], z[0], atol=1e-6)
    np.testing.assert_allclose(products[1], products[0], rtol=1e-5)
    for k in (2, 3):
        np.testing.assert_array_equal(z[k], z[1])
        assert products[k] == products[1]


def test_work_counts_the_passes_over_the_finest_grid() -> None:
    embedding = embed(domain((4, 4)))
    assert [GeometricMultigrid(embedding, sweeps).work for sweeps in (1, 2)] == [9, 13]
    assert GeometricMultigrid(embedding).name == "geometric-multigrid"
    assert GeometricMultigrid.symmetric


def made(name: str, threads: int = 1) -> tuple[GeometricMultigrid, StencilOperator]:
    embedding = embed(GRIDS[name])
    M = GeometricMultigrid(embedding, threads=threads)
    return M, StencilOperator(embedding, threads)


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize(("k", "threads"), [(1, 1), (3, 1), pytest.param(16, 1, marks=pytest.mark.compiled), (3, 2)])
def test_columns_are_preconditioned_as_one_by_one(
    name: str, k: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multigrid, "COARSEST", 8)
    monkeypatch.setattr(team, "SMALLEST", 1)
    M, operator = made(name, threads)
    together, columns = M.columns(k), operator.columns(k)
    m = len(operator.embedding.position)
    r, q = np.random.default_rng(0).standard_normal((2, m, k))
    z, products = together.zeros(), np.zeros(2)
    for _ in range(2):  # the second time in used scratch
        computed = together.apply(columns.embed(r), columns.embed(q), z)
    assert not z[columns.diagonal == 0].any()
    for j in range(k):
        own = M.zeros()
        products += M.apply(operator.embed(r[:, j]), operator.embed(q[:, j]), own)
        expected = operator.extract(own)
        error = columns.extract(z).reshape(m, k)[:, j] - expected
        assert np.abs(error).max() <= 1e-5 * np.abs(expected).max()
    np.testing.assert_allclose(np.array(computed), products, rtol=1e-5, atol=1e-5 * float(np.linalg.norm(r)))


def test_the_preconditioner_of_columns_is_symmetric() -> None:
    M, operator = made("mixed-walls (5, 4, 6)")
    together, columns = M.columns(3), operator.columns(3)
    u, v = (
        columns.embed(w) for w in np.random.default_rng(0).standard_normal((2, len(operator.embedding.position), 3))
    )
    z = together.zeros()
    uu, vu = together.apply(u, v, z)
    vv, uv = together.apply(v, u, z)
    assert uv == pytest.approx(vu, abs=1e-5 * (uu * vv) ** 0.5)


def test_columns_share_coefficients_and_own_their_work_vectors() -> None:
    M, _ = made("porous (3, 6, 5)")
    twin = M.columns(2)
    assert twin.levels[0].w is M.levels[0].w
    assert twin.exact is M.exact
    assert not np.shares_memory(twin.levels[0].z, M.levels[0].z)
    assert twin.zeros().size == 2 * M.zeros().size


@pytest.mark.parametrize("k", [1, 2])
def test_copies_and_pickles_compute_the_same(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(team, "SMALLEST", 1)
    M, operator = made("mixed-walls (5, 4, 6)", threads=2)
    M, operator = M.columns(k), operator.columns(k)
    r = operator.embed(np.random.default_rng(0).standard_normal((len(operator.embedding.position), k)))
    expected, z = M.zeros(), M.zeros()
    products = M.apply(r, r, expected)  # starts the threads
    for twin in (copy.deepcopy(M), pickle.loads(pickle.dumps(M))):
        assert twin.apply(r, r, z) == products
        np.testing.assert_array_equal(z, expected)
    assert M.apply(r, r, z) == products


@pytest.mark.compiled
@pytest.mark.parametrize("k", [1, 4])
def test_an_application_allocates_no_vector(k: int) -> None:
    embedding = embed(domain((24, 20, 22), walls="air"))
    M = GeometricMultigrid(embedding).columns(k)
    r, q, z = np.zeros(M.diagonal.size), np.zeros(M.diagonal.size), M.zeros()
    M.apply(r, q, z)  # compiles
    tracemalloc.start()
    M.apply(r, q, z)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < z.nbytes / 10
