"""What both cycles share: box sizes, nominal weights, the pseudo-inverse, the limit on S A."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Self

import numpy as np
import pytest
from numpy.typing import NDArray

from deepcd.pde import domain
from deepcd.solvers.grids.discovery import embed
from deepcd.solvers.grids.embedding import geometry
from deepcd.solvers.kernels import layout, reference
from deepcd.solvers.kernels.records import Box, taps
from deepcd.solvers.preconditioners.multigrid.cycle import Cycle
from deepcd.solvers.preconditioners.multigrid.exact import pseudo_inverse
from deepcd.solvers.preconditioners.multigrid.levels import (
    Aggregated,
    Formed,
    Hierarchy,
    Level,
    halved,
)
from deepcd.solvers.preconditioners.multigrid.spectrum import BOUND, largest_eigenvalue, limit_smoother

from .cycles import classical, dense, random_embedding

SHAPES = [(5, 4, 6), (3, 1, 5), (1, 1, 4), (7, 6), (1, 5), (6, 3)]


def bare_level(box: Box) -> Level:
    """Return a level on a box whose fields are all zero."""
    table = layout.table_of([box])
    numbers, pool = np.zeros((1, layout.NUMBERS), dtype=np.float32), np.zeros(table[0, layout.END], dtype=np.float32)
    return Hierarchy(table, numbers, pool, 1).levels[0]


class Uniform:
    """An operator above a level whose sums are all the same."""

    nominal, capacity = (1.0, 1.0, 1.0), 1.0

    def __init__(self, box: Box) -> None:
        self.box = box

    def aggregate(self, sums: Aggregated) -> None:
        sums.level.fields.w[:], sums.dirichlet[:] = 8, 10


def random_level(shape: tuple[int, ...], dirichlet: float, seed: int = 0, keep: float = 0.8) -> tuple[Formed, Any]:
    """Return a level with random weights and its matrix over the cells of the box."""
    rng = np.random.default_rng(seed)
    n, s = geometry(shape)
    planar = len(shape) == 2
    faces = reference.unit_faces(rng.random(n) < keep) * rng.uniform(0.5, 2, (3, *n))
    anchors = np.where((rng.random(n) < 0.2) & (reference.row_sums(faces) > 0), dirichlet, 0.0)

    def flat(x: NDArray[Any]) -> NDArray[np.float32]:
        return reference.pad(x, planar).astype(np.float32)

    level = bare_level(Box(n, s))
    level.fields.w[:] = np.stack([flat(w) for w in faces])
    nothing = np.zeros(level.box.size, dtype=np.float32)
    sums = Aggregated(level, (2, 2, 2), (1.0, 1.0, 1.0), 8.0, nothing, flat(anchors), np.stack([nothing] * 3))
    own, _ = reference.form(faces, anchors, np.ones(3))
    return sums.form(), reference.matrix(own, faces, -1.0)


def test_taps_leave_axes_of_one_cell_alone() -> None:
    near, far = taps(0.25, (4, 1, 7))
    assert near.tolist() == [0.75, 1, 0.75]
    assert far.tolist() == [0.25, 0, 0.25]
    assert near.dtype == far.dtype == np.float32


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
    box = Box(*geometry(shape))
    level = bare_level(halved(box))
    sums = Aggregated.of(Uniform(box), level, 0.5)
    assert level.box == geometry(coarse)
    assert level.box.size == sums.volume.size == math.prod(k + 2 for k in coarse)
    assert sums.step == step


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_nominal_weights_are_those_of_an_undisturbed_interior(shape: tuple[int, ...]) -> None:
    n, s = geometry(shape)
    sums = Aggregated.of(Uniform(Box(n, s)), bare_level(halved(Box(n, s))), 0.5)
    halving = np.array(n) > 1
    _, _, _, nominal = reference.halve(np.ones((3, *n)), np.ones(n), np.ones(3), 1.0)
    np.testing.assert_allclose(sums.nominal, nominal)
    assert sums.capacity == 2 ** halving.sum()
    assert [float(w[0]) for w in sums.level.fields.w] == [4 if h else 8 for h in halving]
    assert float(sums.dirichlet[0]) == 5


def test_fields_of_all_levels_lie_in_one_array_and_do_not_overlap() -> None:
    hierarchy = classical(*embed(domain((20, 18, 24), walls="air"))).hierarchy
    hierarchy.pool[:] = 0
    owned = 0
    assert len(hierarchy.levels) > 1
    for level in hierarchy.levels:
        for name, own in level.fields._asdict().items():
            assert np.shares_memory(own, hierarchy.pool)
            assert own.shape == ((3, level.box.size) if name in ("w", "c") else (level.box.size,))
            assert not own.any(), "a field lies over one before it"
            own[...] = 1
            owned += own.size
    for row in hierarchy.table:
        for own in layout.scratch_of(row, hierarchy.pool):
            assert not own.any(), "scratch lies over a field or other scratch"
            own[...] = 1
            owned += own.size
    assert hierarchy.pool.sum() == owned == hierarchy.pool.size


def test_columns_of_the_table_are_named_in_the_order_of_the_fields() -> None:
    names = [name.upper() for name in layout.Fields._fields]
    assert [getattr(layout, name) for name in names] == list(range(layout.DIAGONAL, layout.RINGS))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dirichlet", [0.0, 0.7])
def test_pseudo_inverse_of_anchored_and_of_sealed_components(shape: tuple[int, ...], dirichlet: float) -> None:
    level, A = random_level(shape, dirichlet, seed=2)
    cells = np.flatnonzero(level.inverse)
    computed = pseudo_inverse(level, cells)
    index = np.searchsorted(np.flatnonzero(reference.pad(np.ones(level.box.n), len(shape) == 2)), cells)
    expected = reference.pseudo_inverse(A)[np.ix_(index, index)]
    assert computed.dtype == np.float32
    np.testing.assert_array_equal(computed, computed.T)
    np.testing.assert_allclose(computed, expected, atol=2e-5 * np.abs(expected).max(initial=1))


def test_pseudo_inverse_where_rounding_outweighs_weak_dirichlet_data() -> None:
    level, A = random_level((4, 4, 4), 1e-5, seed=3, keep=1.1)
    level.level.fields.diagonal[:] *= np.float32(1 - 1e-5)
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
    formed, A = random_level(shape, dirichlet, seed=1, keep=1.1)
    level, own, inverse = formed.level, formed.level.fields, formed.inverse
    own.a[:] = np.float32(1.1 * factor) * inverse
    for axis, stride in enumerate(level.box.strides):
        own.c[axis] = np.float32(0.02 * factor) * own.w[axis] * inverse * np.roll(inverse, -stride)
    planar = len(shape) == 2

    def largest() -> float:
        c = np.stack([reference.unpad(w, level.box.n, planar) for w in own.c])
        S = reference.matrix(reference.unpad(own.a, level.box.n, planar), c, 1.0)
        return float(np.linalg.eigvals((S @ A).toarray()).real.max())

    before = largest()
    estimate = limit_smoother(level)
    assert 0.85 * before <= estimate <= before * (1 + 1e-4)
    after = largest()
    if estimate > BOUND:
        assert after == pytest.approx(before * BOUND / estimate, rel=1e-5)
    else:
        assert after == before
    assert after < 2
    for scratch in (own.r, own.z, own.t, own.e):
        assert not scratch.any()


def products(formed: Formed, A: Any, seed: int, planar: bool) -> tuple[Callable[[Any, Any], None], NDArray[Any]]:
    """Return what sets y to B x for a random positive definite B, and the eigenvalues of B A on the unknowns."""
    cells = np.flatnonzero(formed.inverse)
    index = np.searchsorted(np.flatnonzero(reference.pad(np.ones(formed.box.n), planar)), cells)
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
    formed, A = random_level(shape, dirichlet, seed=3)
    apply, values = products(formed, A, 4, len(shape) == 2)
    calls: list[int] = []

    def counted(x: NDArray[np.float32], y: NDArray[np.float32]) -> None:
        calls.append(1)
        apply(x, y)

    estimates = []
    for steps in (1, 4, 30):
        calls.clear()
        estimates.append(largest_eigenvalue(formed.level, counted, steps))
        assert len(calls) <= steps
        assert estimates[-1] <= values[-1] * (1 + 1e-4)
    assert estimates[0] <= estimates[1] * (1 + 1e-5)
    assert estimates[2] == pytest.approx(values[-1], rel=1e-4)


def test_limit_smoother_of_a_level_without_unknowns() -> None:
    formed, _ = random_level((3, 3), 0.0, keep=-1.0)
    assert limit_smoother(formed.level) == 0


class MatrixFinest:
    """A finest level of another kind: dense matrices on the padded box."""

    listed = 0

    def __init__(self, box: Box, definition: reference.LevelMatrices, planar: bool) -> None:
        self.box, self.planar = box, planar
        self.A, self.G = definition.A.toarray(), definition.G
        assert definition.T is not None
        self.T = definition.T.toarray()  # psi included
        self.unknowns = int(np.count_nonzero(self.A.diagonal()))

    def zeros(self) -> NDArray[np.float32]:
        return np.zeros(self.box.size, dtype=np.float32)

    def descend(self, r: NDArray[np.float32], top: Level) -> None:
        b = reference.unpad(r, self.box.n, self.planar).ravel().astype(float)
        self.b, self.z = b, self.G @ b
        restricted = (self.T.T @ (b - self.A @ self.z)).reshape(top.box.n)
        top.fields.r[:] = reference.pad(restricted, self.planar)

    def ascend(self, r: NDArray[np.float32], z: NDArray[np.float32], top: Level) -> float:
        psi, e = (reference.unpad(v, top.box.n, self.planar).ravel() for v in (top.fields.psi, top.fields.z))
        y = self.z + self.T @ np.divide(e, psi, out=np.zeros(e.size), where=psi > 0)
        z[:] = reference.pad((y + self.G.T @ (self.b - self.A @ y)).reshape(self.box.n), self.planar)
        return float(r.astype(float) @ z.astype(float))

    def twin(self, threads: int) -> Self:
        raise NotImplementedError

    def memory(self) -> int:
        return self.A.nbytes


@pytest.mark.parametrize("shape", [(5, 4, 6), (7, 6)], ids=str)
def test_a_cycle_takes_a_finest_level_of_any_kind(shape: tuple[int, ...]) -> None:
    (embedding, stencil), planar = random_embedding(shape), len(shape) == 2
    M = classical(embedding, stencil, coarsest=8)
    n = M.finest.box.n
    levels = reference.geometric_levels(reference.unpad(stencil.diagonal.ravel(), n, planar), 2, 8)
    other = Cycle("dense", MatrixFinest(M.finest.box, levels[0], planar), M.hierarchy, M.coarse, M.exact)
    np.testing.assert_allclose(dense(other, embedding, stencil), dense(M, embedding, stencil), atol=2e-5)
    assert str(other).startswith("dense, ")
    assert M.zeros().shape == (stencil.diagonal.size,)
    assert M.zeros().dtype == np.float32


def test_description_and_memory() -> None:
    M = classical(*embed(domain((20, 9, 9), walls="air")))
    lines = str(M).splitlines()
    assert lines[0] == "geometric-multigrid, 3 levels: 20x9x9, 10x5x5, 5x3x3; the last solved exactly (45 unknowns)"
    assert lines[1].startswith("4 passes over the finest grid per iteration")
    assert M.memory() > 4 * 45**2 + 2 * 4 * 22 * 11 * 11  # the pseudo-inverse and two vectors
