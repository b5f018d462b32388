"""Laplacians of random graphs by name: planar and geometric ones, networks with hubs, landscapes, and mixtures of all.

"chimera" mixes families of graphs as the generators of that name in Laplacians.jl do: rings, grids, trees, regular and
preferential attachment graphs, joined, multiplied and put in place of each other's vertices, with weights of several
laws; two in five are singular.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse import csgraph
from scipy.spatial import Delaunay, cKDTree

F64 = NDArray[np.float64]
Rng = np.random.Generator
Index = NDArray[np.intp]
Graph = tuple[Index, Index, int]  # the ends of all edges, and the number of vertices
Drawn = tuple[sp.csr_array, bool]  # a Laplacian, and whether it stays singular

SMALL = 50  # vertices of a part of a chimera that is no mixture any more
HELD = 0.01  # share of the vertices that are held, where a graph does not stay singular


def laplacian(i: Index, j: Index, weight: F64, n: int) -> sp.csr_array:
    """Return the Laplacian of the edges i - j; those between the same two vertices are added, loops are left out."""
    W = sp.coo_array((np.where(i == j, 0.0, weight), (i, j)), shape=(n, n)).tocsr()
    W = sp.csr_array(W + W.T)
    W.eliminate_zeros()
    return sp.csr_array(sp.diags_array(W.sum(axis=1)) - W)


def largest_part(A: sp.csr_array) -> sp.csr_array:
    """Return the largest part of A that is coupled."""
    label = csgraph.connected_components(A, directed=False)[1]
    rows = np.flatnonzero(label == np.bincount(label).argmax())
    return A if len(rows) == A.shape[0] else sp.csr_array(A[rows][:, rows])


# Parts of chimeras: unweighted and connected


def ring(rng: Rng, n: int) -> Graph:
    """Return a ring whose vertices are joined to others at a few random distances as well."""
    jumps = np.r_[1, rng.integers(1, max(2, n // 2), rng.integers(0, 3))]
    i = np.tile(np.arange(n), len(jumps))
    return i, (i + np.repeat(jumps, n)) % n, n


def grid(rng: Rng, n: int) -> Graph:
    """Return a grid of one to three axes of random lengths."""
    shape = [n]
    for _ in range(rng.integers(0, 3)):
        side = max(2, round(shape[-1] ** rng.uniform(0.2, 0.6)))
        shape[-1:] = [side, max(2, shape[-1] // side)]
    number = np.arange(np.prod(shape)).reshape(shape)
    i = [np.delete(number, -1, axis).ravel() for axis in range(len(shape))]
    j = [np.delete(number, 0, axis).ravel() for axis in range(len(shape))]
    return np.concatenate(i), np.concatenate(j), number.size


def regular(rng: Rng, n: int) -> Graph:
    """Return a union of two to five random rings through all vertices."""
    orders = [rng.permutation(n) for _ in range(rng.integers(2, 6))]
    return np.concatenate(orders), np.concatenate([np.roll(order, 1) for order in orders]), n


def tree(rng: Rng, n: int) -> Graph:
    """Return a binary tree, a random recursive one, or one whose vertices hang on recent ones."""
    j = np.arange(1, n)
    kind = rng.integers(3)
    if kind == 0:
        return (j - 1) // 2, j, n
    if kind == 1:
        return (rng.random(n - 1) * j).astype(np.intp), j, n
    return np.maximum(0, j - 1 - rng.exponential(5, n - 1).astype(np.intp)), j, n


def attachment(rng: Rng, n: int) -> Graph:
    """Return a graph whose new vertices join one to five ends of edges before them, drawn at random."""
    k = int(rng.integers(1, 6))
    i = np.repeat(np.arange(1, n), k)
    draws = (rng.random(i.size) * 2 * k * (i - 1)).astype(np.intp)  # the end of an edge, or of none for vertex 1
    j = np.zeros_like(i)
    for e in range(k, i.size):
        edge, side = divmod(int(draws[e]), 2)
        j[e] = i[edge] if side else j[edge]
    return i, j, n


def joined(rng: Rng, n: int) -> Graph:
    """Return two chimeras with some random edges between them."""
    size = int(n * rng.uniform(0.1, 0.9))
    i, j, m = chimera(rng, size)
    p, q, more = chimera(rng, n - size)
    count = int(rng.integers(1, max(2, min(m, more) // 2)))
    return (
        np.concatenate([i, p + m, rng.integers(0, m, count)]),
        np.concatenate([j, q + m, m + rng.integers(0, more, count)]),
        m + more,
    )


def product(rng: Rng, n: int) -> Graph:
    """Return the Cartesian product of two chimeras, one of them small."""
    size = int(rng.integers(2, max(3, min(round(n**0.5), 40))))
    i, j, m = chimera(rng, size)
    p, q, more = chimera(rng, n // size)
    first, second = np.arange(m), np.arange(more)
    return (
        np.concatenate([(i[:, None] * more + second).ravel(), (first[:, None] * more + p).ravel()]),
        np.concatenate([(j[:, None] * more + second).ravel(), (first[:, None] * more + q).ravel()]),
        m * more,
    )


def necklace(rng: Rng, n: int) -> Graph:
    """Return a chimera with a chimera in place of each vertex, and edges between random vertices of two of them."""
    size = int(rng.integers(3, max(4, min(n // 3, 2000))))
    i, j, m = chimera(rng, n // size)
    p, q, more = chimera(rng, size)
    copies, repeats = np.arange(m)[:, None] * more, int(rng.integers(1, 4))
    i, j = np.tile(i, repeats), np.tile(j, repeats)
    return (
        np.concatenate([(copies + p).ravel(), i * more + rng.integers(0, more, i.size)]),
        np.concatenate([(copies + q).ravel(), j * more + rng.integers(0, more, j.size)]),
        m * more,
    )


PARTS = (ring, grid, regular, tree, attachment)
MIXTURES = (joined, joined, product, necklace)


def chimera(rng: Rng, n: int) -> Graph:
    """Return a graph of about n vertices: one of the parts, or a mixture of smaller chimeras."""
    n = max(n, 2)
    kinds = PARTS if n < SMALL or rng.random() < 0.25 else MIXTURES
    return kinds[rng.integers(len(kinds))](rng, n)


def weights(rng: Rng, i: Index, j: Index, n: int) -> F64:
    """Return weights of edges by one of five laws."""
    kind = rng.integers(5)
    if kind == 0:
        return np.ones(i.size)
    if kind == 1:
        return rng.random(i.size) + 1e-3
    if kind == 2:
        return 1 / (rng.random(i.size) + 1e-6)
    if kind == 3:
        decades = rng.uniform(2, 8)
        return 10 ** rng.uniform(-decades / 2, decades / 2, i.size)
    potential = rng.standard_normal(n)
    return np.abs(potential[i] - potential[j]) ** rng.uniform(1, 3) + 1e-6


# Families


def chimeras(rng: Rng, n: int) -> Drawn:
    """Return the Laplacian of a chimera with vertices in random order, or in their own."""
    i, j, n = chimera(rng, n)
    if rng.random() < 0.5:
        order = rng.permutation(n)
        i, j = order[i], order[j]
    return largest_part(laplacian(i, j, weights(rng, i, j, n), n)), bool(rng.random() < 0.4)


def planar(rng: Rng, n: int) -> Drawn:
    """Return the Delaunay graph of random points in a square, weights over six decades."""
    corners = Delaunay(rng.random((n, 2))).simplices
    i, j = np.unique(np.sort(corners[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1), axis=0).T
    return laplacian(i, j, 10 ** rng.uniform(-3, 3, i.size), n), False


def geometric(rng: Rng, n: int) -> Drawn:
    """Return random points in a cube, joined to all within a radius, eight on average."""
    i, j = cKDTree(rng.random((n, 3))).query_pairs((6 / (np.pi * n)) ** (1 / 3), output_type="ndarray").T
    return largest_part(laplacian(i, j, np.ones(i.size), n)), False


def landscape(rng: Rng, n: int, normal: bool) -> Drawn:
    """Return a square of cells of resistances over eight decades, each joined to its eight neighbours; singular."""
    side = round(n**0.5)
    number = np.arange(side * side).reshape(side, side)
    exponent = 4 / 3 * rng.standard_normal(number.size) if normal else rng.uniform(-4, 4, number.size)
    pairs = [(number[:-1], number[1:]), (number[:, :-1], number[:, 1:])]
    pairs += [(number[:-1, :-1], number[1:, 1:]), (number[:-1, 1:], number[1:, :-1])]
    i, j = (np.concatenate([pair[end].ravel() for pair in pairs]) for end in (0, 1))
    length = np.repeat([1.0, 1.0, 2**0.5, 2**0.5], [pair[0].size for pair in pairs])
    return laplacian(i, j, 2 / (length * (10 ** exponent[i] + 10 ** exponent[j])), number.size), True


def hubs(rng: Rng, n: int) -> Drawn:
    """Return a graph whose new vertices each choose three old ones, in proportion to their degrees."""
    new = np.repeat(np.arange(1, n), 3)
    # An edge chosen at random ends in a vertex with a chance in proportion to its degree; so does its other end.
    edge = (rng.random(new.size) * 3 * (new - 1)).astype(np.intp)
    side = rng.random(new.size) < 0.5
    old = np.where(new == 1, 0, -1)
    while (old < 0).any():
        found = np.where(side, new[edge], old[edge])
        old = np.where(old < 0, found, old)
    return laplacian(new, old, np.ones(new.size), n), False


GRAPHS: dict[str, Callable[[Rng, int], Drawn]] = {
    "planar-graph": planar,
    "attachment-graph": hubs,
    "geometric-graph": geometric,
    "landscape-log-normal": partial(landscape, normal=True),
    "landscape-uniform": partial(landscape, normal=False),
    "chimera": chimeras,
}


def random_graph(name: str, n: int, rng: Rng) -> sp.csr_array:
    """Return the Laplacian of a random graph; a vertex in a hundred is held, unless it is to stay singular.

    Parameters
    ----------
    name : str
        One of `GRAPHS`.
    n : int
        Number of vertices, or about as many; parts that are not joined to the largest one are left out.
    rng : Generator

    Returns
    -------
    csr_array of float64, shape (m, m)
        Symmetric, diagonally dominant, without positive couplings; indices are sorted and of 32 bits.

    Examples
    --------
    >>> import numpy as np
    >>> from deepcd.data.random_graphs import random_graph
    >>> A = random_graph("planar-graph", 500, np.random.default_rng(0))
    >>> A.shape, bool((A.sum(axis=1) > -1e-9).all())
    ((500, 500), True)
    """
    A, singular = GRAPHS[name](rng, n)
    if not singular:
        held = rng.random(A.shape[0]) < HELD
        held[0] = True
        A = sp.csr_array(A + sp.diags_array(held * A.diagonal()))
    A = sp.csr_array((A.data, A.indices.astype(np.int32), A.indptr.astype(np.int32)), shape=A.shape)
    A.sort_indices()
    return A
