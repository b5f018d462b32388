"""Lattices over the nodes of meshes: each pass against its definition in NumPy, the operator, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.typing import NDArray

from benchmarks.auto_systems import linear_elements, simplex_elements
from deepcd.data.random_meshes import Shape, random_mesh
from deepcd.solvers.grids import lattice as module
from deepcd.solvers.grids.lattice import Lattice, NoLattice, lay
from deepcd.solvers.kernels import lattice as passes
from deepcd.solvers.kernels.ssor import locate_diagonal

from .meshes import F64, free_mesh, held, jittered, mesh, slit


def interpolation(lattice: Lattice) -> sp.csr_array:
    """Return P, from lattice points to nodes."""
    n, d = lattice.fraction.shape
    rows, columns, values = [], [], []
    for corner in np.ndindex(*(2,) * d):
        weight = np.ones(n)
        for a, side in enumerate(corner):
            weight *= lattice.fraction[:, a] if side else 1 - lattice.fraction[:, a]
        rows.append(np.arange(n))
        columns.append(lattice.base + int(np.array(corner) @ lattice.strides))
        values.append(weight)
    size = lattice.faces.extra.size
    where = np.concatenate(rows), np.concatenate(columns)
    return sp.csr_array(sp.coo_array((np.concatenate(values), where), shape=(n, size)))


def operator(lattice: Lattice) -> sp.csr_array:
    """Return the operator on the lattice, in units of A."""
    f, size = lattice.faces, lattice.faces.extra.size
    A = sp.diags_array(f.extra.astype(float)).tocsr()
    fields = (f.w0, f.w2) if len(lattice.shape) == 2 else f[:3]
    for w, stride in zip(fields, lattice.strides, strict=True):
        i = np.flatnonzero(w)
        weight = w[i].astype(float)
        edge = sp.coo_array((weight, (i, i + stride)), shape=(size, size)).tocsr()
        A = A + sp.diags_array((edge + edge.T).sum(axis=1)) - edge - edge.T
    return sp.csr_array(A * lattice.unit)


@pytest.mark.parametrize("d", [2, 3])
def test_look_is_its_definition(d: int) -> None:
    A, points = mesh(9 if d == 2 else 5, d)
    n = len(points)
    squares, energies, rests = np.empty(n), np.empty((n, d)), np.empty(n)
    passes.look(A.indptr, A.indices, A.data, points, squares, energies, rests)
    dense = A.toarray()
    offsets = points[None] - points[:, None]
    coupled = (dense != 0) & ~np.eye(n, dtype=bool)
    count = coupled.sum(axis=1)
    np.testing.assert_allclose(squares, (coupled * (offsets**2).sum(axis=2)).sum(axis=1) / count)
    np.testing.assert_allclose(energies, -0.5 * np.einsum("ij,ija->ia", dense * coupled, offsets**2), atol=1e-14)
    sums = dense.sum(axis=1)
    np.testing.assert_allclose(rests, np.where(sums > 1e-9 * A.diagonal(), sums, 0), rtol=1e-9, atol=1e-13)
    for a in range(d):  # what "energy" means: that of the function x_a, but for what is held
        own = points[:, a] @ dense @ points[:, a] - sums @ points[:, a] ** 2
        assert energies[:, a].sum() == pytest.approx(own)


def test_offsets_are_their_definition() -> None:
    A, points = mesh(8)
    nodes = np.array([0, 5, 17])
    moments = np.empty((3, 2, 2))
    assert passes.offsets(A.indptr, A.indices, points, nodes, moments) == 0
    for k, i in enumerate(nodes):
        others = [j for j in A.indices[A.indptr[i] : A.indptr[i + 1]] if j != i]
        offset = points[others] - points[i]
        np.testing.assert_allclose(moments[k], offset.T @ offset / len(others))
    points[A.indices[A.indptr[5]]] = points[5]
    assert passes.offsets(A.indptr, A.indices, points, nodes, moments) >= 1


@pytest.mark.parametrize("d", [2, 3])
def test_nodes_lie_where_their_fractions_say(d: int) -> None:
    A, points = mesh(12 if d == 2 else 6, d)
    lattice = lay(A, points)
    assert (lattice.fraction >= 0).all()
    assert (lattice.fraction <= 1).all()
    padded = tuple(size + 2 for size in lattice.shape)
    place = np.stack(np.unravel_index(lattice.base, padded), axis=1) + lattice.fraction - 1
    assert (place >= 0).all()
    assert (place <= np.array(lattice.shape) - 1).all()
    extents = np.ptp(points, axis=0) / np.ptp(
        place, axis=0
    )  # an affine map of the points, axes perhaps in another order
    assert np.isfinite(extents).all()
    corner = np.c_[points, np.ones(len(points))]
    image = corner @ np.linalg.lstsq(corner, place, rcond=None)[0]
    np.testing.assert_allclose(image, place, atol=1e-4)


@pytest.mark.parametrize("d", [2, 3])
def test_sums_are_their_definition(d: int) -> None:
    A, points = mesh(10 if d == 2 else 6, d)
    lattice, rng = lay(A, points), np.random.default_rng(0)
    n, size = len(points), lattice.faces.extra.size
    energies, volumes, rests = rng.random((n, d)), rng.random(n), rng.random(n)
    sums = np.zeros((size, 2 + 2 * d))
    passes.aggregate(lattice.base, lattice.fraction, lattice.strides, energies, volumes, rests, sums)
    P = interpolation(lattice)
    np.testing.assert_allclose(sums[:, 0], P.T @ np.ones(n), atol=1e-6)
    np.testing.assert_allclose(sums[:, 1], P.T @ rests, atol=1e-6)
    for a in range(d):
        flat = lattice.fraction.copy()
        flat[:, a] = 0  # the weights across the axis
        across = interpolation(Lattice(lattice.shape, lattice.base, flat, lattice.faces, 1.0, 1.0, None))
        np.testing.assert_allclose(sums[:, 2 + a], across.T @ energies[:, a], atol=1e-6)
        np.testing.assert_allclose(sums[:, 2 + d + a], across.T @ volumes, atol=1e-6)


def test_smoothing_is_its_definition() -> None:
    rng = np.random.default_rng(0)
    field, open_ = rng.random(60).astype(np.float32), rng.random(60) < 0.7
    open_[:6] = open_[-6:] = False
    out = np.empty_like(field)
    passes.smooth(field, open_, 3, out)
    for p in range(60):
        if not open_[p]:
            assert out[p] == 0
            continue
        near = [(field[q], w) for q, w in ((p - 3, 0.25), (p, 0.5), (p + 3, 0.25)) if open_[q]]
        assert out[p] == pytest.approx(sum(v * w for v, w in near) / sum(w for _, w in near), rel=1e-6)


@pytest.mark.parametrize("d", [2, 3])
def test_transfers_and_sweeps_are_their_definitions(d: int) -> None:
    A, points = mesh(12 if d == 2 else 6, d)
    A.sort_indices()
    lattice, rng = lay(A, points), np.random.default_rng(1)
    n, P = len(points), interpolation(lattice)
    dense = A.toarray()
    L, D, U = np.tril(dense, -1), np.diag(np.diag(dense)), np.triu(dense, 1)
    middle, matrix = np.empty(n, dtype=A.indptr.dtype), (A.indptr, A.indices, A.data)
    locate_diagonal(A.indptr, A.indices, middle)
    inverse = 1 / A.diagonal()
    r, x, z = rng.standard_normal(n), np.zeros(n), np.zeros(n)
    passes.forward(*matrix, middle, inverse, r, x)
    np.testing.assert_allclose(x, np.linalg.solve(L + D, r))
    box = np.zeros(lattice.faces.extra.size, dtype=np.float32)
    where = lattice.base, lattice.fraction, lattice.strides
    (passes.restrict_flat if d == 2 else passes.restrict)(*matrix, middle, x, *where, 0.5, box)
    np.testing.assert_allclose(box, 0.5 * (P.T @ (-U @ x)), atol=1e-5)
    box[:] = rng.standard_normal(box.size)
    before = x.copy()
    (passes.prolong_flat if d == 2 else passes.prolong)(box, *where, x)
    np.testing.assert_allclose(x, before + P @ box, atol=1e-5)
    expected = np.linalg.solve(D + U, r - L @ x)
    assert passes.backward(*matrix, middle, inverse, r, x, z) == pytest.approx(r @ expected)
    np.testing.assert_allclose(z, expected)
    np.testing.assert_array_equal(x, z)


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("k", [1.0, 1e-7])
def test_the_operator_has_the_energies_of_the_mesh(d: int, k: float) -> None:
    """Of a linear function, and of the constant."""
    A, points = free_mesh(40 if d == 2 else 12, d)
    lattice = lay(sp.csr_array(k * A), points)
    B = operator(lattice)
    live = B.diagonal() > 0
    assert abs(B @ live.astype(float)).max() < 1e-6 * B.diagonal().max()
    padded = tuple(size + 2 for size in lattice.shape)
    place = np.stack(np.unravel_index(np.arange(live.size), padded), axis=1).astype(float)
    scale = [np.ptp(points[:, a]) for a in range(d)]
    for a in range(d):
        # One lattice unit is the same length along each axis, up to jitter: the unit box has energy k per unit length.
        length = scale[a] / np.ptp((interpolation(lattice) @ place)[:, a])
        energy = place[:, a] * live @ (B @ (place[:, a] * live)) * length**2
        assert 0.7 * k < energy < 1.3 * k


def test_a_coefficient_arrives_on_the_lattice() -> None:
    points = jittered(60)
    K, _ = simplex_elements(points)
    right = points[:, 0] > 0.5
    scale = np.where(right, 100.0, 1.0)
    W = sp.csr_array(-(K - sp.diags_array(K.diagonal())))
    W = sp.csr_array(sp.diags_array(np.sqrt(scale)) @ W @ sp.diags_array(np.sqrt(scale)))
    lattice = lay(sp.csr_array(sp.diags_array(W.sum(axis=1)) - W), points)
    assert 50 < lattice.contrast < 200
    weights = lattice.faces.w2[lattice.faces.w2 > 0]
    low, high = np.quantile(weights, [0.2, 0.8])
    assert 50 < high / low < 200


def test_axes_may_be_scaled_and_swapped() -> None:
    """A mesh that was stretched along an axis is as good as another, and the longest axis is the last one."""
    A, points = mesh(20)
    plain = lay(A, points)
    moved = lay(A, (points * [1e3, 1e-4])[:, ::-1] + 7.0)
    assert plain.shape == moved.shape
    assert lay(A, points * [4.0, 1.0]).shape == plain.shape  # in units of couplings, not of lengths
    low, long = lay(*strip_mesh((1.0, 0.3))).shape
    assert lay(*strip_mesh((0.3, 1.0))).shape == pytest.approx((low, long), abs=1)
    assert low < long


def test_points_in_a_plane_of_space_are_a_flat_mesh() -> None:
    A, points = mesh(20)
    assert lay(A, np.insert(points, 1, 3.5, axis=1)).shape == lay(A, points).shape


def test_bodies_are_moved_apart() -> None:
    """So that points of the lattice belong to one body each, whatever lies where."""
    A, points = free_mesh(15)
    held_, inside = held(A, points, np.arange(len(points)) == 0)
    both = sp.csr_array(sp.block_diag([A, held_, A]))
    lattice = lay(both, np.concatenate([points, inside, points + 0.01]))
    body = np.repeat([0, 1, 2], [len(points), len(inside), len(points)])
    P = interpolation(lattice)
    owners = np.stack([(P[body == k].sum(axis=0) > 0) for k in range(3)])
    assert owners.sum(axis=0).max() == 1
    assert lattice.sealed is not None
    for k, sealed in ((0, True), (1, False), (2, True)):
        assert (lattice.sealed[owners[k]] == (k if sealed else -1)).all()
    assert lay(A, points).sealed is None


def test_a_lattice_is_never_much_larger_than_the_mesh() -> None:
    """A strip from corner to corner fills little of the box around it."""
    A, strip = strip_mesh((1.0, 0.06))
    turned = strip @ np.array([[1.0, 1.0], [-1.0, 1.0]])
    assert np.prod(np.ptp(turned, axis=0)) > 5 * np.prod(np.ptp(strip, axis=0))
    assert np.prod(lay(A, turned).shape) <= 3.2 * len(strip)


def strip_mesh(sides: tuple[float, float]) -> tuple[sp.csr_array, F64]:
    """Return a mesh of a rectangle."""
    shape = Shape(lambda x: np.maximum(-x, x - sides).max(axis=1), (0.0, 0.0), sides)
    points, cells = random_mesh(shape, 1000, np.random.default_rng(0))
    return held(linear_elements(points, cells)[0], points, points[:, 0] < 1e-6)


def refused(A: sp.csr_array, points: F64) -> str:
    with pytest.raises(NoLattice) as error:
        lay(A, points)
    return str(error.value)


def test_what_is_refused() -> None:
    A, points = mesh(40)
    refused(A, points[np.random.default_rng(0).permutation(len(points))])
    refused(A, np.random.default_rng(1).random(points.shape))
    assert "float64" in refused(A, points * 1e150)
    assert "10" in refused(*graded(10.0))
    assert "as long in some places" in refused(*graded(100.0))
    assert "wall" in refused(*slit(60))
    assert "line" in refused(A, points * [0, 1])
    assert "line" in refused(A, np.zeros_like(points))
    assert "several unknowns" in refused(*doubled())
    assert "in one direction" in refused(*layered())
    assert "surface" in refused(*sphere())


def test_what_is_not_refused() -> None:
    lay(*graded(2.0))
    for seed in range(3):
        points = jittered(30, seed=seed)
        lay(*held(simplex_elements(points)[0], points, points[:, 1] == 0))
    lay(*mesh(10, 3))
    A, points = mesh(30)
    points[7] = points[8]  # a pair of nodes at one place does no harm
    lay(A, points)


def graded(ratio: float) -> tuple[sp.csr_array, F64]:
    """Return a mesh whose cells grow along an axis and across, by such a ratio."""
    points = jittered(50)
    radius, angle = ratio ** (points[:, 0] - 1), points[:, 1] * np.log(ratio) if ratio > 3 else points[:, 1]
    moved = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return held(simplex_elements(points, moved)[0], moved, points[:, 0] == 0)


def doubled() -> tuple[sp.csr_array, F64]:
    """Return two unknowns at each node, as of a vector field."""
    A, points = mesh(20)
    pair = sp.csr_array(sp.kron(A, np.array([[2.0, 0.5], [0.5, 2.0]])))
    return pair, np.repeat(points, 2, axis=0)


def layered() -> tuple[sp.csr_array, F64]:
    """Return a mesh whose cells become very flat near a wall, of about the same area otherwise."""
    points = jittered(40)
    moved = points.copy()
    moved[:, 1] = (np.exp(np.log(60.0) * points[:, 1]) - 1) / 59
    moved[:, 0] = points[:, 0] * 3
    return held(simplex_elements(points, moved)[0], moved, points[:, 0] == 0)


def sphere() -> tuple[sp.csr_array, F64]:
    """Return the graph Laplacian of points on a sphere."""
    from scipy.spatial import ConvexHull

    k = np.arange(3000) + 0.5
    polar, azimuth = np.arccos(1 - 2 * k / 3000), np.pi * (1 + 5**0.5) * k
    points = np.stack([np.cos(azimuth) * np.sin(polar), np.sin(azimuth) * np.sin(polar), np.cos(polar)], axis=1)
    cells: NDArray[np.int32] = ConvexHull(points).simplices
    edges = np.concatenate([cells[:, pair] for pair in ([0, 1], [1, 2], [2, 0])])
    W = sp.coo_array((np.ones(len(edges)), edges.T), shape=(3000, 3000)).tocsr()
    W = sp.csr_array(W + W.T)
    return sp.csr_array(sp.diags_array(W.sum(axis=1) + 1e-3) - W), points


def test_thresholds_are_where_they_should_be() -> None:
    """The grading that is served, and the one that is not, lie on both sides of the constant."""
    assert 2.0 < module.GRADED < 10.0


@pytest.mark.parametrize("cut", [False, True])
def test_torn_nodes_are_counted_as_defined(cut: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TORN", "LONG", "GRADED"):
        monkeypatch.setattr(module, name, np.inf)
    A, points = slit(30) if cut else mesh(30)
    lattice = lay(A, points)
    P, G = interpolation(lattice).tocsc(), A != 0
    looked = lost = 0
    for p in range(P.shape[1]):
        nodes, weights = P.indices[P.indptr[p] : P.indptr[p + 1]], P.data[P.indptr[p] : P.indptr[p + 1]]
        nodes, weights = nodes[weights > 0], weights[weights > 0]
        if weights.sum() <= passes.TOUCHED:
            continue
        label = sp.csgraph.connected_components(G[nodes][:, nodes], directed=False)[1]
        counts = weights >= passes.COUNTS
        looked += int(counts.sum())
        lost += int((counts & (label != label[np.argmax(weights)])).sum())
    size, n = P.shape[1], len(points)
    starts, order = np.empty(size + 1, dtype=np.int64), np.empty(n, dtype=np.int64)
    passes.sort(lattice.base, size, starts, order)
    assert all((lattice.base[order[starts[p] : starts[p + 1]]] == p).all() for p in range(size))
    sums = np.zeros((size, 6))
    sums[:, 0] = P.sum(axis=0)
    where = lattice.base, lattice.fraction, lattice.strides, starts, order
    assert passes.torn(A.indptr, A.indices, *where, sums, 1) == (looked, lost)
    assert (lost > 10) == cut
