"""Systems of every kind that users bring, from 100 to 1,000,000 unknowns: for `benchmarks/auto.py`.

Each system has a name, a kind and a nominal size; sizes and coefficients are drawn from a seed, so that a choice which
was tuned on some seeds can be judged on others. Every matrix is a csr_array of float64 with int32 indices.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyamg
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.io import mmread
from scipy.sparse import csgraph
from scipy.spatial import Delaunay, cKDTree

from deepcd.data.random_graphs import laplacian, largest_part

F64 = NDArray[np.float64]
Rng = np.random.Generator
Drawn = tuple[sp.csr_array, bool]  # A, and whether the constant is in its null space
Generator = Callable[[Rng, int], Drawn]

MATRICES = Path(__file__).parents[1] / "tests" / "matrices"


@dataclass(frozen=True)
class NamedSystem:
    """A kind of system at one size.

    Attributes
    ----------
    name, kind : str
        What it is, and the group that it belongs to.
    size : int
        Nominal number of unknowns; what is drawn has 0.7 to 1.3 times as many.
    generator : callable
        ``generator(rng, n) -> (A, singular)``.
    seed : int
        From which sizes, coefficients and b are drawn.
    tol : float
        Relative tolerance.
    """

    name: str
    kind: str
    size: int
    generator: Generator
    seed: int
    tol: float = 1e-6

    def __call__(self, size: int | None = None) -> tuple[sp.csr_array, F64, float]:
        """Return A, b and the tolerance; at another size, if one is given. The same arguments draw the same system."""
        rng = np.random.default_rng((self.seed, zlib.crc32(self.name.encode())))
        A, singular = self.generator(rng, self.size if size is None else size)
        A = sp.csr_array((A.data.astype(float), A.indices.astype(np.int32), A.indptr.astype(np.int32)), shape=A.shape)
        A.sort_indices()
        noise = rng.standard_normal(A.shape[0])
        b = A @ noise if rng.random() < 0.5 else noise
        return A, b - b.mean() if singular else b, self.tol


def _sides(rng: Rng, n: int, d: int) -> tuple[int, ...]:
    """Return the sides of a box of about n cells."""
    return tuple(max(3, round(n ** (1 / d) * u)) for u in rng.uniform(0.95, 1.05, d))


# Boxes


def volumes(k: F64, ends: str = "", spacing: tuple[F64, ...] | None = None) -> sp.csr_array:
    """Return finite volumes for -div(k grad) on the cells of a box where k is positive.

    Parameters
    ----------
    k : ndarray of float64, shape of the box
        Coefficient of each cell; cells where it is 0 are walls.
    ends : str
        Of each axis: "d" (Dirichlet data one cell beyond both ends), "n" (walls) or "p" (periodic); default: all "d".
    spacing : tuple of ndarrays of float64, optional
        Widths of the cells along each axis; default: 1.
    """
    d, number, diagonal = k.ndim, np.arange(k.size).reshape(k.shape), np.zeros(k.shape)
    widths = np.meshgrid(*(spacing or [np.ones(n) for n in k.shape]), indexing="ij", sparse=True)
    volume = np.ones(k.shape)
    for h in widths:
        volume = volume * h
    rows, columns, weights = [], [], []
    for axis in range(d):
        end = ends[axis] if ends else "d"
        area = volume / widths[axis]
        with np.errstate(divide="ignore"):
            resistance = widths[axis] / (2 * k)  # of half a cell; infinite in walls
        first, last = (np.s_[:],) * axis + (0,), (np.s_[:],) * axis + (-1,)
        if end == "d":
            for side in (first, last):
                diagonal[side] += (area / (2 * resistance))[side]
        weight = area / (resistance + np.roll(resistance, -1, axis))
        if end != "p" or k.shape[axis] < 3:
            weight[last] = 0.0
        coupled = weight > 0
        rows.append(number[coupled])
        columns.append(np.roll(number, -1, axis)[coupled])
        weights.append(weight[coupled])
    A = laplacian(np.concatenate(rows), np.concatenate(columns), np.concatenate(weights), k.size)
    A = sp.csr_array(A + sp.diags_array(diagonal.ravel()))
    inside = np.flatnonzero(k > 0)
    return A if len(inside) == k.size else sp.csr_array(A[inside][:, inside])


def _box(rng: Rng, n: int, d: int, ends: str = "", permute: bool = False) -> Drawn:
    """Return the Laplacian of a box, numbered at random on request."""
    ends = ends * d
    A = volumes(np.ones(_sides(rng, n, d)), ends)
    if permute:
        order = rng.permutation(A.shape[0])
        A = sp.csr_array(A[order][:, order])
    return A, bool(ends) and "d" not in ends


def _balls(rng: Rng, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return which cells of a box lie in one of a few balls."""
    place = np.stack(np.meshgrid(*((np.arange(n) + 0.5) / n for n in shape), indexing="ij"), axis=-1)
    centres, radii = rng.uniform(0.15, 0.85, (5, len(shape))), rng.uniform(0.05, 0.15, 5)
    return np.any([np.linalg.norm(place - c, axis=-1) < r for c, r in zip(centres, radii, strict=True)], axis=0)


def _obstacles(rng: Rng, n: int, d: int) -> Drawn:
    """Return the Laplacian of a box with balls in it that are walls, as is all but one side."""
    k = np.where(_balls(rng, _sides(rng, n, d)), 0.0, 1.0)
    return largest_part(volumes(k, "d" + "n" * (d - 1))), False


def _channel(rng: Rng, n: int, d: int) -> Drawn:
    """Return the Laplacian of a straight channel, 64 to 512 times as long as it is wide, open at both ends."""
    width = int(rng.integers(4, 17) if d == 2 else rng.integers(8, 17))
    return volumes(np.ones((max(8, n // width ** (d - 1)), *(width,) * (d - 1))), "d" + "n" * (d - 1)), False


def _viscosity(rng: Rng, n: int, number: float) -> Drawn:
    """Return I + dt nu L, with dt nu / h^2 near a number, around balls that the fluid sticks to."""
    shape = _sides(rng, n, 3)
    A, fluid = volumes(np.ones(shape)), np.flatnonzero(~_balls(rng, shape))
    A = sp.csr_array(A[fluid][:, fluid])
    return sp.csr_array(sp.eye_array(A.shape[0]) + number * rng.uniform(0.7, 1.4) * A), False


def _blocks(rng: Rng, n: int, d: int, decades: float) -> Drawn:
    """Return finite volumes whose coefficients jump between random blocks."""
    shape = _sides(rng, n, d)
    k = 10 ** rng.uniform(0, decades, (8,) * d)
    for axis, side in enumerate(shape):
        k = k.take(np.arange(side) * 8 // side, axis)
    return volumes(k), False


def _anisotropic(rng: Rng, n: int, d: int) -> Drawn:
    """Return the Laplacian of a box whose last axis couples 1,000 times as weakly."""
    shape = _sides(rng, n, d)
    widths = (*(np.ones(side) for side in shape[:-1]), np.full(shape[-1], np.sqrt(1e3)))
    return volumes(np.ones(shape), spacing=widths), False


def _stretched(rng: Rng, n: int, d: int) -> Drawn:
    """Return finite volumes whose cells grow away from the walls, by a factor of 50 in all."""
    shape = _sides(rng, n, d)
    widths = tuple(50 ** (1 - np.abs(np.linspace(-1, 1, side))) for side in shape)
    return volumes(np.ones(shape), "d" + "n" * (d - 1), widths), False


def _layers(rng: Rng, n: int) -> Drawn:
    """Return a reservoir: thin layers, permeabilities over six decades that vary slowly within each."""
    nx, ny, nz = _sides(rng, n * 4, 3)
    nz = max(3, nz // 4)
    layer = rng.uniform(-3, 3, nz)
    k = 10 ** (layer + 0.5 * np.kron(rng.standard_normal((nx // 3 + 1, ny // 3 + 1, nz)), np.ones((3, 3, 1)))[:nx, :ny])
    return volumes(k, "dnn", (np.ones(nx) * 20, np.ones(ny) * 20, rng.uniform(0.5, 2, nz))), False


def _left_in_columns(rng: Rng, n: int, d: int) -> Drawn:
    """Return a Laplacian with Dirichlet data in its rows only: rows of the identity whose columns were left as is."""
    A, _ = _box(rng, n, d)
    free = (rng.random(A.shape[0]) > 0.05).astype(float)
    A = sp.csr_array(sp.diags_array(free) @ A + sp.diags_array(1 - free))
    A.eliminate_zeros()
    return A, False


def _stored_zeros(rng: Rng, n: int, d: int) -> Drawn:
    """Return a Laplacian with the pattern of its square: the entries beyond its own are stored zeros."""
    A = _box(rng, n, d)[0].tocoo()
    more = sp.coo_array(A @ A)
    data = np.r_[A.data, np.zeros(more.nnz)]
    rows, columns = (np.r_[own, its] for own, its in zip(A.coords, more.coords, strict=True))
    return sp.csr_array(sp.coo_array((data, (rows, columns)), shape=A.shape)), False


# Finite elements


def simplex_elements(points: F64, moved: F64 | None = None) -> tuple[sp.csr_array, sp.csr_array]:
    """Return stiffness and mass matrices of linear elements on a Delaunay mesh.

    Parameters
    ----------
    points : ndarray of float64, shape (n, 2) or (n, 3)
        Nodes, which decide about the cells.
    moved : ndarray of float64 of that shape, optional
        Where the nodes go afterwards; default: where they are.
    """
    return linear_elements(points if moved is None else moved, Delaunay(points).simplices)


def linear_elements(
    corners: F64, cells: NDArray[np.integer[Any]], coefficient: F64 | float = 1.0
) -> tuple[sp.csr_array, sp.csr_array]:
    """Return stiffness and mass matrices of linear elements on simplices, but for those that are flat.

    Parameters
    ----------
    corners : ndarray of float64, shape (n, d)
        Nodes.
    cells : ndarray of int, shape (m, d + 1)
        Nodes of each cell.
    coefficient : float or ndarray of float64, shape (m,)
        Conductivity of cells.
    """
    n, d = corners.shape
    edges = corners[cells[:, 1:]] - corners[cells[:, :1]]
    volume = np.abs(np.linalg.det(edges)) / [1, 1, 2, 6][d]
    k = np.broadcast_to(coefficient, volume.shape)
    cells, edges, volume, k = (array[volume > 1e-9 * np.median(volume)] for array in (cells, edges, volume, k))
    inverse = np.linalg.inv(edges)
    gradients = np.concatenate([-inverse.sum(axis=2)[:, :, None], inverse], axis=2)
    stiffness = np.einsum("cdi,cdj,c->cij", gradients, gradients, volume * k)
    mass = volume[:, None, None] * (np.ones((d + 1, d + 1)) + np.eye(d + 1)) / ((d + 1) * (d + 2))
    where = np.repeat(cells, d + 1, axis=1).ravel(), np.tile(cells, d + 1).ravel()
    K, M = (sp.csr_array(sp.coo_array((e.ravel(), where), shape=(n, n))) for e in (stiffness, mass))
    return K, M


def _inner(A: sp.csr_array, boundary: NDArray[np.bool_]) -> sp.csr_array:
    """Return A without the nodes of the boundary, nor those in no cell."""
    inner = np.flatnonzero(~boundary & (A.diagonal() > 0))
    return sp.csr_array(A[inner][:, inner])


def _mesh(rng: Rng, n: int, shape: str) -> Drawn:
    """Return linear elements on random points: "uniform", "graded" to a corner, or "obtuse", squeezed 20 times."""
    if shape == "graded":
        radius, angle = rng.uniform(0, 1, n) ** 1.5, rng.uniform(0, 1.5 * np.pi, n)
        points, boundary = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1), radius > 0.99
        return _inner(simplex_elements(points)[0], boundary), False
    points = rng.uniform(0, 1, (n, 2))
    K = simplex_elements(points, points * [1.0, 0.05] if shape == "obtuse" else None)[0]
    return _inner(K, np.abs(points - 0.5).max(axis=1) > 0.49), False


def _tetrahedra(rng: Rng, n: int) -> Drawn:
    """Return linear elements on random points in a cube, fixed on two faces."""
    points = rng.uniform(0, 1, (n, 3))
    return _inner(simplex_elements(points)[0], np.abs(points[:, 2] - 0.5) > 0.48), False


def _simplex_heat(rng: Rng, n: int, number: float) -> Drawn:
    """Return M + dt K on random triangles, dt / h^2 being a number; 0: the mass matrix."""
    K, M = simplex_elements(rng.uniform(0, 1, (n, 2)))
    return sp.csr_array(M + number / n * K), False


def line_elements(cells: int, order: int) -> tuple[sp.csr_array, sp.csr_array]:
    """Return stiffness and mass matrices of elements of order 1 or 2 on a line of cells of length 1."""
    if order == 1:
        stiffness, mass = np.array([[1.0, -1.0], [-1.0, 1.0]]), np.array([[2.0, 1.0], [1.0, 2.0]]) / 6
    else:
        stiffness = np.array([[7.0, -8.0, 1.0], [-8.0, 16.0, -8.0], [1.0, -8.0, 7.0]]) / 3
        mass = np.array([[4.0, 2.0, -1.0], [2.0, 16.0, 2.0], [-1.0, 2.0, 4.0]]) / 30
    nodes = order * np.arange(cells)[:, None] + np.arange(order + 1)
    where = np.repeat(nodes, order + 1, axis=1).ravel(), np.tile(nodes, (1, order + 1)).ravel()
    n = order * cells + 1
    K, M = (sp.csr_array(sp.coo_array((np.tile(e.ravel(), cells), where), shape=(n, n))) for e in (stiffness, mass))
    return K, M


def _tensor(rng: Rng, n: int, d: int, order: int, mass: float = 0.0, stiffness: float = 1.0) -> Drawn:
    """Return a combination of the mass and stiffness matrices of Q1 or Q2 elements, Dirichlet data without mass."""
    lines = [line_elements(max(2, side // order), order) for side in _sides(rng, n, d)]
    if not mass:
        lines = [(K[1:-1][:, 1:-1], M[1:-1][:, 1:-1]) for K, M in lines]

    def together(*factors: sp.csr_array) -> sp.csr_array:
        A = factors[0]
        for factor in factors[1:]:
            A = sp.csr_array(sp.kron(A, factor, format="csr"))
        return A

    A = mass * together(*(M for _, M in lines)) if mass else None
    for axis in range(d if stiffness else 0):
        term = stiffness * together(*(line[0 if a == axis else 1] for a, line in enumerate(lines)))
        A = term if A is None else A + term
    return sp.csr_array(A), False


def brick_elasticity(density: F64) -> sp.csr_array:
    """Return Q1 elements of linear elasticity (Poisson's ratio 0.3) on the cells of a box, fixed at the first face.

    Parameters
    ----------
    density : ndarray of float64, two or three axes
        Young's modulus of each cell.
    """
    d, ratio = density.ndim, 0.3
    lame, shear = ratio / ((1 + ratio) * (1 - 2 * ratio)), 1 / (2 * (1 + ratio))
    corners = np.array(list(product((0, 1), repeat=d)))
    local = np.zeros((len(corners), d, len(corners), d))
    for point in 0.5 + (corners - 0.5) / np.sqrt(3):  # of Gauss
        along = np.where(corners, point, 1 - point)
        g = np.stack([(2 * corners[:, a] - 1) * np.delete(along, a, 1).prod(axis=1) for a in range(d)], axis=1)
        turned = np.einsum("ca,ea,ij->ciej", g, g, np.eye(d)) + np.einsum("cj,ei->ciej", g, g)
        local += (lame * np.einsum("ci,ej->ciej", g, g) + shear * turned) / len(corners)
    shape = tuple(side + 1 for side in density.shape)
    number = np.arange(np.prod(shape)).reshape(shape)
    cell = np.stack(
        [number[tuple(slice(o, o + side) for o, side in zip(c, density.shape, strict=True))] for c in corners]
    )
    unknowns = (d * cell.reshape(len(corners), -1).T[:, :, None] + np.arange(d)).reshape(density.size, -1)
    m = unknowns.shape[1]
    entries = density.reshape(-1, 1) * local.reshape(1, -1)
    where = np.repeat(unknowns, m, axis=1).ravel(), np.tile(unknowns, (1, m)).ravel()
    A = sp.csr_array(sp.coo_array((entries.ravel(), where), shape=(d * number.size,) * 2))
    free = d * number[0].size
    return sp.csr_array(A[free:][:, free:])


def _elasticity(rng: Rng, n: int, d: int) -> Drawn:
    """Return linear elasticity on a square, as PyAMG assembles it, or on a brick of an uneven material."""
    shape = _sides(rng, n // d, d)
    if d == 2:
        return sp.csr_array(pyamg.gallery.linear_elasticity((shape[0], shape[0]))[0]), False
    return brick_elasticity(rng.uniform(0.5, 2, shape)), False


def _structure(rng: Rng, n: int, d: int) -> Drawn:
    """Return elasticity of a structure that is being optimised: bars, and void a million times as soft."""
    shape = _sides(rng, n // d, d)
    place = np.stack(np.meshgrid(*((np.arange(side) + 0.5) / side for side in shape), indexing="ij"), axis=-1)
    waves = np.sin(place @ rng.normal(0, 12, (d, 6)) + rng.uniform(0, 6, 6)).sum(axis=-1)
    return brick_elasticity(np.where(waves > -0.3, 1.0, 1e-6)), False


def _biharmonic(rng: Rng, n: int, d: int) -> Drawn:
    """Return A A + I for a Laplacian A."""
    A = _box(rng, n, d)[0]
    return sp.csr_array(A @ A + sp.eye_array(A.shape[0])), False


def _markov(rng: Rng, n: int, mesh: bool) -> Drawn:
    """Return the precision of a Gaussian Markov field, (k2 + G)^2, a tenth of its nodes observed."""
    if mesh:
        K, M = simplex_elements(rng.uniform(0, 1, (n, 2)))
        lumped = np.asarray(M.sum(axis=1)).ravel()
        G = sp.csr_array(sp.diags_array(1 / np.sqrt(lumped)) @ K @ sp.diags_array(1 / np.sqrt(lumped)) / n)
    else:
        G = _box(rng, n, 2, "n")[0]
    size = G.shape[0]
    Q = sp.csr_array(G + 10 ** rng.uniform(-3, -1) * sp.eye_array(size))
    return sp.csr_array(Q @ Q + sp.diags_array((rng.random(size) < 0.1) * 0.1)), False


def _matting(rng: Rng, n: int) -> Drawn:
    """Return the closed-form matting Laplacian of a picture whose upper half is flat, known pixels held by 100."""
    h, w = _sides(rng, n, 2)
    y, x = np.meshgrid((np.arange(h) + 0.5) / h, (np.arange(w) + 0.5) / w, indexing="ij")
    alpha = np.clip((0.3 - np.hypot(x - 0.5, y - 0.5)) * 12 + 0.5, 0, 1)[..., None]
    picture = alpha * rng.uniform(0, 1, 3) + (1 - alpha) * rng.uniform(0, 1, 3)
    picture = picture + 0.02 * rng.standard_normal((h, w, 3)) * (y > 0.5)[..., None]
    picture = np.rint(np.clip(picture, 0, 1) * 255) / 255
    window = np.lib.stride_tricks.sliding_window_view(np.arange(h * w).reshape(h, w), (3, 3)).reshape(-1, 9)
    colour = picture.reshape(-1, 3)[window]
    colour = colour - colour.mean(axis=1, keepdims=True)
    spread = np.linalg.inv(np.einsum("wki,wkj->wij", colour, colour) / 9 + 1e-7 / 9 * np.eye(3))
    local = np.eye(9) - (1 + np.einsum("wki,wij,wlj->wkl", colour, spread, colour)) / 9
    where = np.repeat(window, 9, axis=1).ravel(), np.tile(window, (1, 9)).ravel()
    L = sp.coo_array((local.ravel(), where), shape=(h * w,) * 2)
    distance = np.hypot(x - 0.5, y - 0.5).ravel()
    return sp.csr_array(sp.csr_array(L) + sp.diags_array(100.0 * ((distance < 0.2) | (distance > 0.4)))), False


# Graphs


def _decades(rng: Rng, decades: float, count: int) -> F64:
    return 10 ** rng.uniform(-decades / 2, decades / 2, count)


def _held(rng: Rng, L: sp.csr_array, singular: bool) -> Drawn:
    """Return the largest part of a graph, one node in a hundred held, or none."""
    L = largest_part(L)
    if singular:
        return L, True
    held = rng.random(L.shape[0]) < 0.01
    held[0] = True
    return sp.csr_array(L + sp.diags_array(held * L.diagonal())), False


def _geometric(rng: Rng, n: int, singular: bool = False) -> Drawn:
    """Return the Laplacian of points in a square that are coupled to all within a radius, eight on average."""
    i, j = cKDTree(rng.random((n, 2))).query_pairs(np.sqrt(8 / (np.pi * n)), output_type="ndarray").T
    return _held(rng, laplacian(i, j, np.ones(len(i)), n), singular)


def _attachment(rng: Rng, n: int, decades: float = 0.0, singular: bool = False) -> Drawn:
    """Return the Laplacian of a graph whose new nodes each choose three old ones, in proportion to their degrees."""
    ends = np.empty(6 * n, dtype=np.intp)  # the ends of all edges: a node occurs as often as its degree
    draws = rng.random(3 * n)
    ends[:6] = 0, 1, 1, 2, 2, 0
    for k in range(3, 3 * n):
        ends[2 * k], ends[2 * k + 1] = k // 3 + 2, ends[int(draws[k] * 6 * (k // 3))]
    return _held(rng, laplacian(ends[::2], ends[1::2], _decades(rng, decades, 3 * n), n + 2), singular)


def _small_world(rng: Rng, n: int, decades: float = 0.0, singular: bool = False) -> Drawn:
    """Return the Laplacian of the graph of Watts and Strogatz: a ring of six neighbours, one edge in ten moved."""
    i = np.tile(np.arange(n), 3)
    j = (i + np.repeat([1, 2, 3], n)) % n
    j = np.where(rng.random(3 * n) < 0.1, rng.integers(0, n, 3 * n), j)
    return _held(rng, laplacian(i, j, _decades(rng, decades, 3 * n), n), singular)


def _chain(rng: Rng, n: int, singular: bool = False) -> Drawn:
    """Return a chain of conductances over four decades, held at one end or nowhere."""
    L = laplacian(np.arange(n - 1), np.arange(1, n), _decades(rng, 4, n - 1), n)
    return (L, True) if singular else (sp.csr_array(L + sp.diags_array(np.eye(1, n)[0])), False)


def _tree(rng: Rng, n: int) -> Drawn:
    """Return a tree of conductances over six decades whose nodes hang on recent ones, numbered at random."""
    i = np.arange(1, n)
    j = np.maximum(0, i - 1 - rng.exponential(30, n - 1).astype(int))
    order = rng.permutation(n)
    return _held(rng, laplacian(order[i], order[j], _decades(rng, 6, n - 1), n), False)


def _power(rng: Rng, n: int) -> Drawn:
    """Return a network that spans the plane, 1.2 lines per node, admittances over six decades."""
    corners = Delaunay(rng.random((n, 2))).simplices
    edges = np.sort(np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [2, 0]]]), axis=1)
    i, j = np.unique(edges, axis=0).T
    length = sp.csr_array(sp.coo_array((rng.uniform(1, 2, len(i)), (i, j)), shape=(n, n)))
    tree = csgraph.minimum_spanning_tree(length).tocoo()
    more = rng.choice(len(i), n // 5, replace=False)
    i, j = np.r_[tree.coords[0], i[more]], np.r_[tree.coords[1], j[more]]
    return _held(rng, laplacian(i, j, _decades(rng, 6, len(i)), n), False)


def _ladder(rng: Rng, n: int) -> Drawn:
    """Return a ladder of resistors over four decades, held at one corner."""
    k = np.arange(n // 2 - 1)
    rails = np.r_[2 * k, 2 * k + 1], np.r_[2 * k + 2, 2 * k + 3]
    rungs = 2 * np.arange(n // 2)
    i, j = np.r_[rails[0], rungs], np.r_[rails[1], rungs + 1]
    L = laplacian(i, j, _decades(rng, 4, len(i)), 2 * (n // 2))
    return sp.csr_array(L + sp.diags_array(np.eye(1, L.shape[0])[0])), False


# Others


def _dense_rows(rng: Rng, n: int) -> Drawn:
    """Return a Laplacian with five basis functions of large support beside it: dense rows and columns."""
    K, _ = _box(rng, n, 2)
    x, y = rng.random((2, K.shape[0]))
    centres = rng.uniform(0.1, 0.9, (5, 2))
    basis = np.stack([np.exp(-3 * ((x - a) ** 2 + (y - b) ** 2)) + 1 for a, b in centres], axis=1)
    coupling = K @ basis
    corner = basis.T @ coupling + 10 * np.eye(5)
    return sp.csr_array(sp.block_array([[K, sp.csr_array(coupling)], [sp.csr_array(coupling.T), corner]])), False


def _arrow(rng: Rng, n: int) -> Drawn:
    """Return a diagonal matrix with one dense row and column."""
    row = sp.csr_array(np.full((1, n), 0.5 / np.sqrt(n)))
    return sp.csr_array(
        sp.block_array([[sp.diags_array(rng.uniform(1, 3, n)), row.T], [row, sp.csr_array([[5.0]])]])
    ), False


def _file(rng: Rng, n: int, name: str) -> Drawn:
    """Return a matrix of tests/matrices, at its own size."""
    return sp.csr_array(mmread(MATRICES / f"{name}.mtx.gz")), False


def _example(rng: Rng, n: int, name: str) -> Drawn:
    """Return an example of PyAMG, at its own size."""
    A = sp.csr_array(pyamg.gallery.load_example(name)["A"])
    return A, bool(abs(A.sum(axis=1)).max() < 1e-10 * A.diagonal().max())


Entry = tuple[str, str, Generator, tuple[int, ...]]
_p = partial
ENTRIES: tuple[Entry, ...] = (
    ("grid 3D", "grid", _p(_box, d=3), (8_000, 110_000, 1_000_000)),
    ("grid 2D", "grid", _p(_box, d=2), (100, 10_000, 250_000, 1_000_000)),
    ("grid 3D, obstacles", "grid", _p(_obstacles, d=3), (60_000,)),
    ("grid 2D, obstacles", "grid", _p(_obstacles, d=2), (4_000, 160_000)),
    ("grid 3D, closed", "grid", _p(_box, d=3, ends="n"), (30_000,)),
    ("grid 2D, closed", "grid", _p(_box, d=2, ends="n"), (90_000,)),
    ("channel 3D", "grid", _p(_channel, d=3), (260_000,)),
    ("channel 2D", "grid", _p(_channel, d=2), (30_000,)),
    ("permuted 3D", "permuted", _p(_box, d=3, permute=True), (8_000, 33_000, 110_000, 500_000)),
    ("permuted 2D", "permuted", _p(_box, d=2, permute=True), (2_500, 22_000, 250_000)),
    ("periodic 3D", "periodic", _p(_box, d=3, ends="p"), (8_000, 33_000, 260_000)),
    ("periodic 2D", "periodic", _p(_box, d=2, ends="p"), (10_000, 90_000)),
    ("viscosity 0.01", "viscosity", _p(_viscosity, number=0.01), (110_000, 1_000_000)),
    ("viscosity 1", "viscosity", _p(_viscosity, number=1.0), (8_000, 110_000, 1_000_000)),
    ("viscosity 100", "viscosity", _p(_viscosity, number=100.0), (8_000, 110_000, 1_000_000)),
    ("P1 mass", "mass", _p(_simplex_heat, number=0.0), (50_000,)),
    ("P1 heat", "mass", _p(_simplex_heat, number=5.0), (2_500, 50_000)),
    ("Q1 mass 3D", "mass", _p(_tensor, d=3, order=1, mass=1.0, stiffness=0.0), (60_000,)),
    ("Q1 heat 3D", "mass", _p(_tensor, d=3, order=1, mass=1.0, stiffness=20.0), (60_000,)),
    ("jumps 1e4 2D", "jumps", _p(_blocks, d=2, decades=4.0), (65_000, 300_000)),
    ("jumps 1e8 2D", "jumps", _p(_blocks, d=2, decades=8.0), (3_000, 65_000)),
    ("jumps 1e4 3D", "jumps", _p(_blocks, d=3, decades=4.0), (64_000,)),
    ("jumps 1e8 3D", "jumps", _p(_blocks, d=3, decades=8.0), (33_000,)),
    ("layers", "jumps", _layers, (70_000,)),
    ("anisotropic 2D", "anisotropic", _p(_anisotropic, d=2), (90_000,)),
    ("anisotropic 3D", "anisotropic", _p(_anisotropic, d=3), (33_000,)),
    ("stretched 2D", "anisotropic", _p(_stretched, d=2), (90_000,)),
    ("stretched 3D", "anisotropic", _p(_stretched, d=3), (110_000,)),
    ("elasticity 2D", "elasticity", _p(_elasticity, d=2), (2_500, 8_000, 45_000)),
    ("elasticity 3D", "elasticity", _p(_elasticity, d=3), (5_000, 30_000)),
    ("structure 2D", "elasticity", _p(_structure, d=2), (15_000,)),
    ("structure 3D", "elasticity", _p(_structure, d=3), (12_000,)),
    ("triangles", "mesh", _p(_mesh, shape="uniform"), (1_500, 5_000, 30_000, 200_000)),
    ("triangles, graded", "mesh", _p(_mesh, shape="graded"), (20_000,)),
    ("triangles, obtuse", "mesh", _p(_mesh, shape="obtuse"), (20_000,)),
    ("tetrahedra", "mesh", _tetrahedra, (4_000, 15_000, 80_000)),
    ("Q2 2D", "high order", _p(_tensor, d=2, order=2), (15_000, 90_000)),
    ("27 points", "high order", _p(_tensor, d=3, order=1), (64_000,)),
    ("biharmonic 2D", "fourth order", _p(_biharmonic, d=2), (10_000,)),
    ("biharmonic 3D", "fourth order", _p(_biharmonic, d=3), (14_000,)),
    ("Markov field, grid", "fourth order", _p(_markov, mesh=False), (14_000,)),
    ("Markov field, mesh", "fourth order", _p(_markov, mesh=True), (20_000,)),
    ("matting", "picture", _matting, (9_000, 40_000)),
    ("geometric graph", "graph", _geometric, (2_500, 50_000)),
    ("geometric graph, singular", "graph", _p(_geometric, singular=True), (10_000,)),
    ("attachment graph", "graph", _attachment, (500, 10_000, 100_000)),
    ("attachment graph, 6 decades", "graph", _p(_attachment, decades=6.0), (20_000,)),
    ("small world, 6 decades", "graph", _p(_small_world, decades=6.0), (20_000,)),
    ("small world, singular", "graph", _p(_small_world, singular=True), (30_000,)),
    ("chain", "network", _chain, (2_500, 20_000, 200_000)),
    ("chain, singular", "network", _p(_chain, singular=True), (50_000,)),
    ("tree", "network", _tree, (20_000, 200_000)),
    ("power network", "network", _power, (2_000, 20_000, 200_000)),
    ("ladder", "network", _ladder, (50_000,)),
    ("dense rows", "others", _dense_rows, (14_000,)),
    ("arrow", "others", _arrow, (14_000,)),
    ("stored zeros 2D", "others", _p(_stored_zeros, d=2), (40_000,)),
    ("stored zeros 3D", "others", _p(_stored_zeros, d=3), (27_000,)),
    ("left in columns 2D", "others", _p(_left_in_columns, d=2), (40_000,)),
    ("left in columns 3D", "others", _p(_left_in_columns, d=3), (27_000,)),
    *((f"PyAMG's {name}", "practice", _p(_example, name=name), (size,)) for name, size in {
        "airfoil": 260, "bar": 600, "knot": 239, "unit_cube": 125, "unit_square": 191,
    }.items()),
    *((name, "practice", _p(_file, name=name), (size,)) for name, size in {
        "494_bus": 494, "bcsstk16": 4884, "gr_30_30": 900, "pts5ldd03": 161,
    }.items()),
)  # fmt: skip
TIGHT = {
    "grid 3D, closed": 1e-8,
    "permuted 2D": 1e-8,
    "P1 heat": 1e-10,
    "jumps 1e4 3D": 1e-10,
    "stretched 3D": 1e-10,
    "triangles, graded": 1e-8,
    "Q2 2D": 1e-8,
    "geometric graph": 1e-8,
    "power network": 1e-8,
    "practice": 1e-8,
}


def systems(seed: int = 0) -> list[NamedSystem]:
    """Return all systems, from the least to the largest; none is built before it is called."""
    found = []
    for name, kind, generator, sizes in ENTRIES:
        tol = TIGHT.get(name, TIGHT.get(kind, 1e-6))
        for size in sizes:
            label = name if kind == "practice" else f"{name}, {size:,}"
            found.append(NamedSystem(label, kind, size, generator, seed, tol))
    return sorted(found, key=lambda system: system.size)
