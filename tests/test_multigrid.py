"""What both cycles share: box sizes, nominal weights, the pseudo-inverse, the limit on S A."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from deepcd.pde import domain
from deepcd.solvers.grids.discovery import embed
from deepcd.solvers.grids.embedding import geometry
from deepcd.solvers.kernels import cycle, reference
from deepcd.solvers.preconditioners import multigrid
from deepcd.solvers.preconditioners.geometric_multigrid import GeometricMultigrid
from deepcd.solvers.preconditioners.multigrid import (
    Box,
    CoarseLevel,
    Multigrid,
    Taps,
    coarser,
    halve_faces,
    largest_eigenvalue,
    limit_smoother,
    pseudo_inverse,
)

SHAPES = [(5, 4, 6), (3, 1, 5), (1, 1, 4), (7, 6), (1, 5), (6, 3)]


def bare_level(n: Box, s: tuple[int, int]) -> CoarseLevel:
    """Return a level whose fields are all zero and lie where they like."""
    size = (n[0] + 2) * s[0]
    volume, dirichlet, inverse = (np.zeros(size, dtype=np.float32) for _ in range(3))
    inside = np.zeros((3, size), dtype=np.float32)
    level = CoarseLevel(n, s, (1.0, 1.0, 1.0), 8.0, volume, dirichlet, inside, inverse)
    for name in cycle.FIELDS:
        setattr(level, name, np.zeros((3, size) if name in cycle.AXES else size, dtype=np.float32))
    return level


def random_level(shape: tuple[int, ...], dirichlet: float, seed: int = 0, keep: float = 0.8) -> tuple[CoarseLevel, Any]:
    """Return a level with random weights and its matrix over the cells of the box."""
    rng = np.random.default_rng(seed)
    n, s = geometry(shape)
    planar = len(shape) == 2
    faces = reference.unit_faces(rng.random(n) < keep) * rng.uniform(0.5, 2, (3, *n))
    anchors = np.where((rng.random(n) < 0.2) & (reference.row_sums(faces) > 0), dirichlet, 0.0)

    def flat(x: NDArray[Any]) -> NDArray[np.float32]:
        return reference.pad(x, planar).astype(np.float32)

    level = bare_level(n, s)
    level.w[:], level.dirichlet = np.stack([flat(w) for w in faces]), flat(anchors)
    level.finish()
    own, _ = reference.form(faces, anchors, np.ones(3))
    return level, reference.matrix(own, faces, -1.0)


def test_taps_leave_axes_of_one_cell_alone() -> None:
    taps = Taps.of(0.25, (4, 1, 7))
    assert taps.near.tolist() == [0.75, 1, 0.75]
    assert taps.far.tolist() == [0.25, 0, 0.25]
    assert taps.near.dtype == taps.far.dtype == np.float32


@pytest.mark.parametrize(
    ("shape", "coarse", "step"),
    [
        ((5, 4, 6), (3, 2, 3), (2, 2, 2)),
        ((3, 1, 5), (2, 1, 3), (2, 1, 2)),
        ((1, 1, 1), (1, 1, 1), (1, 1, 1)),
        ((7, 6), (4, 3), (2, 1, 2)),
        ((1, 5), (1, 3), (1, 1, 2)),
    ],
    ids=str,
)
def test_halved_boxes(shape: tuple[int, ...], coarse: tuple[int, ...], step: tuple[int, ...]) -> None:
    level, steps = coarser(geometry(shape)[0], (1.0, 1.0, 1.0), 1.0, planar=len(shape) == 2)
    assert (level.n, level.s) == geometry(coarse)
    assert level.size == level.volume.size == math.prod(k + 2 for k in coarse)
    assert steps == step


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_nominal_weights_are_those_of_an_undisturbed_interior(shape: tuple[int, ...]) -> None:
    n, _ = geometry(shape)
    level, step = coarser(n, (1.0, 1.0, 1.0), 1.0, planar=len(shape) == 2)
    halving = np.array(n) > 1
    _, _, _, nominal = reference.halve(np.ones((3, *n)), np.ones(n), np.ones(3), 1.0)
    np.testing.assert_allclose(level.nominal, nominal)
    assert level.capacity == 2 ** halving.sum()
    level.w, level.dirichlet = np.full((3, level.size), 8, np.float32), np.full(level.size, 10, np.float32)
    halve_faces(level, step, 0.5)
    assert [float(w[0]) for w in level.w] == [4 if h else 8 for h in halving]
    assert float(level.dirichlet[0]) == 5


def test_fields_of_all_levels_lie_in_one_array_and_do_not_overlap() -> None:
    M = GeometricMultigrid((20, 18, 24), embed(domain((20, 18, 24), walls="air"))[1].diagonal)
    M.pool[:] = 0
    owned = 0
    assert len(M.levels) > 1
    for level in M.levels:
        for name in cycle.FIELDS:
            own = getattr(level, name)
            assert np.shares_memory(own, M.pool)
            assert own.shape == ((3, level.size) if name in cycle.AXES else (level.size,))
            assert not own.any(), "a field lies over one before it"
            own[...] = 1
            owned += own.size
    assert M.pool.sum() == owned < M.pool.size  # what is left is scratch
    for row in M.table:
        assert not M.pool[row[17] : row[17] + 4].any()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dirichlet", [0.0, 0.7])
def test_pseudo_inverse_of_anchored_and_of_sealed_components(shape: tuple[int, ...], dirichlet: float) -> None:
    level, A = random_level(shape, dirichlet, seed=2)
    cells = np.flatnonzero(level.inverse)
    computed = pseudo_inverse(level, cells)
    index = np.searchsorted(np.flatnonzero(reference.pad(np.ones(level.n), len(shape) == 2)), cells)
    expected = reference.pseudo_inverse(A)[np.ix_(index, index)]
    assert computed.dtype == np.float32
    np.testing.assert_array_equal(computed, computed.T)
    np.testing.assert_allclose(computed, expected, atol=2e-5 * np.abs(expected).max(initial=1))


def test_pseudo_inverse_where_rounding_outweighs_weak_dirichlet_data() -> None:
    level, A = random_level((4, 4, 4), 1e-5, seed=3, keep=1.1)
    level.diagonal *= np.float32(1 - 1e-5)
    cells = np.flatnonzero(level.inverse)
    computed = pseudo_inverse(level, cells)
    values = np.linalg.eigvalsh(computed.astype(float))
    assert values[0] > -1e-6 * values[-1]
    expected = np.linalg.pinv(A.toarray(), rcond=1e-4, hermitian=True)
    np.testing.assert_allclose(computed, expected, atol=1e-3 * np.abs(expected).max())


def test_pseudo_inverse_of_a_level_without_unknowns() -> None:
    level, _ = random_level((3, 3, 3), 0.0, keep=-1.0)
    assert pseudo_inverse(level, np.flatnonzero(level.inverse)).shape == (0, 0)


@pytest.mark.parametrize(
    "shape", [(5, 4, 6), (3, 1, 3), (1, 1, 5), (2, 1, 3), (1, 1, 2), (7, 6), (4, 3), (1, 5)], ids=str
)
@pytest.mark.parametrize("dirichlet", [0.0, 0.7])
@pytest.mark.parametrize("factor", [0.3, 4.0])
def test_limit_smoother(shape: tuple[int, ...], dirichlet: float, factor: float) -> None:
    """Never too high but for rounding, also where constants have no energy (dirichlet = 0); a few per cent low."""
    level, A = random_level(shape, dirichlet, seed=1, keep=1.1)
    level.a, level.c = np.float32(1.1 * factor) * level.inverse, np.zeros_like(level.w)
    for axis, stride in enumerate(level.strides):
        level.c[axis] = np.float32(0.02 * factor) * level.w[axis] * level.inverse * np.roll(level.inverse, -stride)
    planar = len(shape) == 2

    def largest() -> float:
        c = np.stack([reference.unpad(w, level.n, planar) for w in level.c])
        S = reference.matrix(reference.unpad(level.a, level.n, planar), c, 1.0)
        return float(np.linalg.eigvals((S @ A).toarray()).real.max())

    before = largest()
    estimate = limit_smoother(level)
    assert 0.85 * before <= estimate <= before * (1 + 1e-4)
    after = largest()
    if estimate > multigrid.LARGEST:
        assert after == pytest.approx(before * multigrid.LARGEST / estimate, rel=1e-5)
    else:
        assert after == before
    assert after < 2
    for scratch in (level.r, level.z, level.t, level.e):
        assert not scratch.any()


def products(level: CoarseLevel, A: Any, seed: int, planar: bool) -> tuple[Callable[[Any, Any], None], NDArray[Any]]:
    """Return what sets y to B x for a random positive definite B, and the eigenvalues of B A on the unknowns."""
    cells = np.flatnonzero(level.inverse)
    index = np.searchsorted(np.flatnonzero(reference.pad(np.ones(level.n), planar)), cells)
    G = np.random.default_rng(seed).standard_normal((len(cells), len(cells)))
    B = np.eye(len(cells)) + 0.1 * G @ G.T / max(len(cells), 1)

    def apply(x: NDArray[np.float32], y: NDArray[np.float32]) -> None:
        y[:] = 0
        y[cells] = B @ x[cells]

    return apply, np.sort(np.linalg.eigvals(B @ A.toarray()[np.ix_(index, index)]).real)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dirichlet", [0.0, 0.7])
def test_largest_eigenvalue(shape: tuple[int, ...], dirichlet: float) -> None:
    """From below, closer with every step, and by no more products than steps."""
    level, A = random_level(shape, dirichlet, seed=3)
    apply, values = products(level, A, 4, len(shape) == 2)
    calls: list[int] = []

    def counted(x: NDArray[np.float32], y: NDArray[np.float32]) -> None:
        calls.append(1)
        apply(x, y)

    estimates = []
    for steps in (1, 4, 30):
        calls.clear()
        estimates.append(largest_eigenvalue(level, counted, steps))
        assert len(calls) <= steps
        assert estimates[-1] <= values[-1] * (1 + 1e-4)
    assert estimates[0] <= estimates[1] * (1 + 1e-5)
    assert estimates[2] == pytest.approx(values[-1], rel=1e-4)


def test_limit_smoother_of_a_level_without_unknowns() -> None:
    level, _ = random_level((3, 3), 0.0, keep=-1.0)
    level.a, level.c = np.zeros_like(level.volume), np.zeros_like(level.w)
    assert limit_smoother(level) == 0


def test_the_base_class_leaves_smoothing_to_others() -> None:
    n, s = geometry((4, 4))
    base, level = Multigrid(n, s, np.zeros(36, dtype=np.uint8), 1), bare_level(n, s)
    z = base.zeros()
    assert z.shape == (36,)
    assert z.dtype == np.float32
    for call in (
        lambda: base.descend(z),
        lambda: base.ascend(z, z),
        lambda: base.descend_level(level, level, z, z),
        lambda: base.ascend_level(level, level, z, z),
        lambda: base.visit_shared(0),
    ):
        with pytest.raises(NotImplementedError):
            call()


def test_description_and_memory() -> None:
    M = GeometricMultigrid((20, 9, 9), embed(domain((20, 9, 9), walls="air"))[1].diagonal)
    lines = str(M).splitlines()
    assert lines[0] == "geometric-multigrid, 2 levels: 20x9x9, 10x5x5; the last solved exactly (250 unknowns)"
    assert lines[1].startswith("4 passes over the finest grid per iteration")
    assert M.memory() > 4 * 250**2 + 2 * 4 * 22 * 11 * 11  # the pseudo-inverse and two vectors
