"""Multigrid on grids with face weights: passes against their definition, and what a preconditioner has to be."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import scipy.sparse as sp

from deepcd import DeepCD, Status
from deepcd.data import random_coefficients
from deepcd.solvers.kernels.faces import levels, reference, waves
from deepcd.solvers.kernels.faces.reference import Weights
from deepcd.solvers.preconditioners.multigrid.face_cycle import FaceCycle, chebyshev, exact_inverse
from deepcd.solvers.preconditioners.multigrid.face_levels import FaceLevel, coarsen
from tests.faces import BOXES, Shape, Wrap, compiled, cropped, padded, random_weights

IDS = ["x".join(map(str, n)) + "".join(" r"[w] for w in wrap).rstrip() for n, wrap in BOXES]


@pytest.mark.parametrize(("n", "wrap"), BOXES, ids=IDS)
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_the_way_down_and_up_is_smoothing_and_transfer(n: Shape, wrap: Wrap, steps: int) -> None:
    rng = np.random.default_rng(1)
    op = random_weights(n, wrap, rng, decades=1.0)
    grid, faces = compiled(op)
    level = FaceLevel.of(grid, faces)
    coarser = coarsen(level)
    A, (_, P) = reference.matrix(op), reference.coarsen(op, level.strong_axes())
    omegas = chebyshev(steps, 0.2, 2.0)
    exactly = omegas.astype(np.float64)
    unknown = A.diagonal() > 0
    r = rng.standard_normal(A.shape[0]) * unknown
    rings = np.zeros((3 * steps + levels.SPARE) * grid.s[0], dtype=np.float32)
    z, below = np.zeros_like(faces.extra), np.zeros_like(coarser.level.diagonal)
    box, m = coarser.level.grid, coarser.level.grid.n
    waves.descend(grid, faces, omegas, padded(r.reshape(n)), z, coarser.codes, box, below, rings, 0, m[0])
    expected = reference.smooth(A, exactly, r, 0 * r)
    np.testing.assert_allclose(cropped(z, n).ravel(), expected, atol=3e-5 * abs(expected).max())
    left = P.T @ (r - A @ expected)
    np.testing.assert_allclose(cropped(below, m).ravel(), left, atol=3e-5 * abs(left).max())
    e, out = rng.standard_normal(m), np.zeros_like(z)
    rz = waves.ascend(grid, faces, omegas, padded(r.reshape(n)), z, out, coarser.codes, box, padded(e), rings, 0, n[0])
    expected = reference.smooth(A, exactly, r, expected + P @ e.ravel()) * unknown
    np.testing.assert_allclose(cropped(out, n).ravel() * unknown, expected, atol=1e-4 * abs(expected).max())
    assert rz == pytest.approx(r @ expected, rel=1e-3, abs=1e-4 * abs(r).sum())


def _dense(cycle: FaceCycle, n: tuple[int, int, int]) -> np.ndarray:
    """Return M as a matrix on the cells of the box."""
    columns = []
    for unit in np.eye(int(np.prod(n))):
        z = cycle.zeros()
        cycle.apply(padded(unit.reshape(n)), z)
        columns.append(cropped(z, n).ravel().astype(float))
    return np.stack(columns, axis=1)


@pytest.mark.parametrize(("n", "wrap"), BOXES, ids=IDS)
@pytest.mark.parametrize("decades", [0.0, 2.0, 6.0])
def test_the_cycle_is_symmetric_and_positive_definite(n: Shape, wrap: Wrap, decades: float) -> None:
    op = random_weights(n, wrap, np.random.default_rng(2), decades=decades, walls=0.1)
    A = reference.matrix(op).toarray()
    unknown = np.diag(A) > 0
    M = _dense(FaceCycle(*compiled(op), coarsest=8), n)[np.ix_(unknown, unknown)]
    A = A[np.ix_(unknown, unknown)]
    root = np.sqrt(np.diag(A))
    M = M * root * root[:, None]  # of the matrix with unit diagonal: contrasts would hide everything else
    assert abs(M - M.T).max() <= 2e-5 * abs(M).max()
    scaled = A / root / root[:, None]
    values, vectors = np.linalg.eigh(scaled)
    range_of = vectors[:, values > 1e-6] * np.sqrt(values[values > 1e-6])
    preconditioned = np.linalg.eigvalsh(range_of.T @ ((M + M.T) / 2) @ range_of)
    assert preconditioned.min() > 0.0
    assert preconditioned.max() < 2.0
    if decades <= 2:
        assert preconditioned.min() > 0.1


def _solve(op: Weights, tol: float = 1e-6, coarsest: int = 600) -> int:
    """Return the iterations that conjugate gradients take for a random right-hand side."""
    n, A = op.extra.shape, reference_matrix(op)
    cycle, unknown = FaceCycle(*compiled(op), coarsest=coarsest), A.diagonal() > 0
    b = np.random.default_rng(0).standard_normal(A.shape[0]) * unknown
    if not op.extra.any():
        b -= b[unknown].mean() * unknown
    iterations = 0

    def precondition(r: np.ndarray) -> np.ndarray:
        nonlocal iterations
        iterations += 1
        z = cycle.zeros()
        size = np.linalg.norm(r)
        cycle.apply(padded((r / size).reshape(n)), z)
        return size * cropped(z, n).ravel().astype(float) * unknown

    M = sp.linalg.LinearOperator(A.shape, matvec=precondition, dtype=float)
    x, info = sp.linalg.cg(A, b, rtol=tol, M=M, maxiter=60)
    assert info == 0
    assert np.linalg.norm(b - A @ x) <= 1.1 * tol * np.linalg.norm(b)
    return iterations


def reference_matrix(op: Weights) -> sp.csr_array:
    """Return the matrix of an operator, faster than its definition."""
    n = op.extra.shape
    number, diagonal = np.arange(op.extra.size).reshape(n), op.extra.copy()
    entries = []
    for axis, w in enumerate(op.w):
        other = np.roll(number, -1, axis)
        diagonal += w + np.roll(w, 1, axis)
        i, j = number.ravel(), other.ravel()
        entries += [(i, j, -w.ravel()), (j, i, -w.ravel())]
    entries.append((number.ravel(), number.ravel(), diagonal.ravel()))
    i, j, values = (np.concatenate(parts) for parts in zip(*entries, strict=True))
    return sp.csr_array(sp.coo_array((values, (i, j)), shape=(op.extra.size,) * 2))


def _smooth_field(n: tuple[int, int, int], variance: float, rng: np.random.Generator) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    v = gaussian_filter(rng.standard_normal(n), [2.0 if k > 1 else 0.0 for k in n])
    return np.exp(np.sqrt(variance) * v / v.std())


def _harmonic(k: np.ndarray, wrap: Wrap = (False, False, False)) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    w = []
    for axis in range(3):
        own = 2 / (1 / k + 1 / np.roll(k, -1, axis))
        if not wrap[axis] or k.shape[axis] == 1:
            own[(slice(None),) * axis + (slice(-1, None),)] = 0
        w.append(own)
    return w[0], w[1], w[2]


@pytest.mark.parametrize(
    ("n", "wrap"),
    [
        ((30, 31, 29), (False,) * 3),
        ((31, 26, 30), (True, True, True)),
        ((97, 1, 90), (False,) * 3),
        ((64, 1, 75), (True, False, True)),
    ],
)
@pytest.mark.parametrize("sealed", [False, True])
def test_few_iterations_on_log_normal_coefficients(n: Shape, wrap: Wrap, sealed: bool) -> None:
    rng = np.random.default_rng(3)
    w, extra = _harmonic(_smooth_field(n, 2.0, rng), wrap), np.zeros(n)
    if not sealed:
        extra[0] = 1.0
    assert _solve(Weights(w, extra, wrap)) <= 11


def test_contrasts_of_many_decades_do_no_harm() -> None:
    """Bodies that do not touch conduct a hundred million times as well as what is between them."""
    inside = np.arange(36) % 12 > 5
    k = np.where(inside[:, None, None] & inside[:, None] & inside, 1.0, 1e-8)
    extra = np.zeros(k.shape)
    extra[..., 0] = 1e-8
    assert _solve(Weights(_harmonic(k), extra)) <= 10


def test_anisotropy_takes_no_more() -> None:
    n = (40, 41, 42)
    w = _harmonic(np.ones(n))
    extra = np.zeros(n)
    extra[0] = 1.0
    assert _solve(Weights((w[0], 0.01 * w[1], 1e-4 * w[2]), extra)) <= 8


@pytest.mark.parametrize("wrap", [(False,) * 3, (True, False, True)])
def test_threads_change_nothing_but_rounding(wrap: Wrap) -> None:
    rng = np.random.default_rng(5)
    n = (61, 44, 50)
    op = Weights(_harmonic(_smooth_field(n, 1.0, rng), wrap), np.full(n, 1e-3), wrap)
    r, answers = padded(rng.standard_normal(n)), []
    for threads in (1, 3):
        cycle = FaceCycle(*compiled(op), threads)
        z = cycle.zeros()
        answers.append((cropped(z, n), cycle.apply(r, z), cycle._team.threads))
    (first, rz, one), (second, rz_shared, three) = answers
    assert (one, three) == (1, 3)
    np.testing.assert_allclose(second, first, atol=1e-6 * abs(first).max())
    assert rz_shared == pytest.approx(rz, rel=1e-5)


def test_twins_copies_and_pickles_are_the_same() -> None:
    op = random_weights((9, 10, 11), (False,) * 3, np.random.default_rng(6), walls=0.3)
    cycle, r = FaceCycle(*compiled(op), coarsest=30), padded(np.random.default_rng(7).standard_normal((9, 10, 11)))
    z = cycle.zeros()
    cycle.apply(r, z)
    for other in (cycle.twin(1), copy.deepcopy(cycle), pickle.loads(pickle.dumps(cycle))):
        own = other.zeros()
        other.apply(r, own)
        np.testing.assert_array_equal(own, z)
        assert other.memory_map.pool is not cycle.memory_map.pool
        assert str(other) == str(cycle)
    assert "9x10x11, 5x5x6, 3x3x3" in str(cycle)
    assert cycle.memory() > sum(a.nbytes for a in cycle.fields)


def test_second_visits_count_for_less_where_they_would_do_harm() -> None:
    """Layers of six decades with weak links: a cycle there has an eigenvalue above two (see `_second_visit`)."""
    rng = np.random.default_rng(8)
    n = (96, 1, 96)
    k = np.repeat(np.exp(1.5 * rng.standard_normal((32, 1, 1))), 3, axis=0) * _smooth_field(n, 4.0, rng)
    w = _harmonic(np.clip(k / k.max(), 1e-6, 1))
    op = Weights((1e-4 * w[0], w[1], w[2]), np.where(np.arange(96) == 0, 1e-2, 0.0) * np.ones(n))
    cycle = FaceCycle(*compiled(op), coarsest=100)
    assert (cycle.memory_map.weights <= 1).all()
    assert (cycle.memory_map.weights >= 0).all()
    assert _solve(op, coarsest=100) <= 30


@pytest.mark.parametrize("walls", [0.0, 0.3])
def test_the_last_level_is_solved_exactly(walls: float) -> None:
    rng = np.random.default_rng(9)
    op = random_weights((3, 4, 5), (False, True, False), rng, decades=6.0, walls=walls, holes=0.3)
    A = reference.matrix(op).toarray()
    cells, inverse = exact_inverse(FaceLevel.of(*compiled(op)))
    assert len(cells) == np.count_nonzero(np.diag(A))
    A = A[np.ix_(np.diag(A) > 0, np.diag(A) > 0)]
    b = A @ rng.standard_normal(len(A))
    x = inverse.astype(float) @ b
    root = np.sqrt(np.diag(A))
    assert np.linalg.norm((A @ x - b) / root) <= 2e-4 * np.linalg.norm(b / root)


def test_a_level_without_unknowns_is_solved_too() -> None:
    cells, inverse = exact_inverse(FaceLevel.of(*compiled(Weights((np.zeros((2, 2, 2)),) * 3, np.zeros((2, 2, 2))))))
    assert cells.size == 0
    assert inverse.shape == (0, 0)


def test_chebyshev_steps_reduce_their_range_most() -> None:
    omegas, eigenvalues = chebyshev(4, 0.2, 2.0), np.linspace(0.2, 2.0, 200)
    left = abs(np.prod(1 - omegas[:, None] * eigenvalues, axis=0))
    theta = (2.0 + 0.2) / (2.0 - 0.2)
    assert left.max() == pytest.approx(1 / np.cosh(4 * np.arccosh(theta)), rel=1e-3)


@pytest.mark.parametrize("n", [(80, 1, 80), (24, 20, 22)], ids=str)
def test_levels_that_are_as_good_as_the_next_are_visited_once(n: Shape) -> None:
    """Cells much longer along one axis: the first levels have half as many cells each, and two visits gain nothing."""
    w = [np.ones(n) for _ in range(3)]
    w[0] *= 1e-3
    for axis in range(3):
        w[axis][(slice(None),) * axis + (slice(-1, None),)] = 0
    op = Weights((w[0], w[1], w[2]), np.where(np.arange(n[2]) == 0, 2.0, 0.0) * np.ones(n))
    cycle = FaceCycle(*compiled(op), coarsest=50)
    once = cycle.memory_map.weights == 0
    assert once.any() == (n[1] == 1)
    fewest = _solve(op, coarsest=50)
    assert fewest <= 6
    if once.any():
        cycle.memory_map.weights[:] = 1
        r = padded(np.random.default_rng(0).standard_normal(n))
        z, twice = cycle.zeros(), cycle.zeros()
        cycle.apply(r, twice)
        cycle.memory_map.weights[once] = 0
        assert cycle.apply(r, z) == pytest.approx(float(r.astype(float) @ z), rel=1e-5)
        assert not np.array_equal(z, twice)


@pytest.mark.compiled
@pytest.mark.parametrize("numbering", ["compact", "whole box"])
@pytest.mark.parametrize("seed", [0, 2, 3])
def test_sealed_pockets_beside_other_components(numbering: str, seed: int) -> None:
    """On coarse levels components may share cells, and what is left between them there must not decide on constants."""
    weights = random_coefficients("cut cells", (250, 250), np.random.default_rng((31_337, seed)))
    A, cells = weights.matrix(), weights.cells()
    assert sp.csgraph.connected_components(A)[0] > 2
    if numbering == "whole box":
        place = sp.csr_array((np.ones(cells.size), (cells, np.arange(cells.size))), shape=(250**2, cells.size))
        A = sp.csr_array(place @ A @ place.T + sp.diags_array(1.0 - place.sum(axis=1)))
    b = A @ np.random.default_rng(seed).standard_normal(A.shape[0])
    solution = DeepCD(preconditioner="geometric-multigrid").solve(A, b, 1e-8)
    assert solution.status is Status.CONVERGED
    assert solution.iterations <= 9
