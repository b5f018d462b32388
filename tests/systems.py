"""The matrices of the tests: builders, and one table of small systems that every preconditioner is run through.

After `solvers_tags_pseudoinverse` in the tests of lineax: the table says what is true of each matrix, a test asks for
what it needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from deepcd.data import random_grid
from deepcd.pde import Grid, ball, box, domain, poisson

Vector = NDArray[np.float64]

GENERAL = (
    "smoothed-aggregation",
    "approximate-cholesky",
    "pyamg-sa",
    "pyamg-rs",
    "none",
)  # preconditioners of any matrix that many tests are run with


def line(n: int) -> sp.csr_array:
    """Laplacian of a path with Dirichlet data at both ends."""
    return sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n), format="csr")


def closed_line(n: int) -> sp.csr_array:
    """Laplacian of a path without Dirichlet data: the constant is in its null space."""
    A = line(n).tolil()
    A[0, 0] = A[n - 1, n - 1] = 1.0
    return sp.csr_array(A)


def ring(n: int) -> sp.csr_array:
    """Laplacian of a circle: the constant is in its null space."""
    return sp.diags_array([-1.0, -1.0, 2.0, -1.0, -1.0], offsets=[1 - n, -1, 0, 1, n - 1], shape=(n, n), format="csr")


def crossed(T: sp.csr_array, epsilon: float = 1.0) -> sp.csr_array:
    """Five-point matrix of T along the first axis and epsilon T along the second."""
    eye = sp.eye_array(T.shape[0])
    return sp.csr_array(sp.kron(T, eye) + epsilon * sp.kron(eye, T))


def square(n: int, epsilon: float = 1.0) -> sp.csr_array:
    """Five-point Laplacian of an n x n grid with Dirichlet data; all couplings are equal if epsilon is 1."""
    return crossed(line(n), epsilon)


def shuffled(A: sp.csr_array, seed: int = 0) -> sp.csr_array:
    """The same matrix with its rows and columns in random order."""
    order = np.random.default_rng(seed).permutation(A.shape[0])
    return sp.csr_array(A[order][:, order])


def sealed(A: sp.csr_array) -> sp.csr_array:
    """The same couplings without Dirichlet data."""
    off = A - sp.diags_array(A.diagonal())
    return sp.csr_array(off - sp.diags_array(np.asarray(off.sum(axis=1)).ravel()))


def path(n: int, weight: float = 1.0) -> sp.csr_array:
    """Laplacian of a path with alternating weights: singular, and no grid."""
    weights = weight * np.where(np.arange(n - 1) % 2, 1.0, 2.5)
    off = sp.diags_array([-weights, -weights], offsets=[-1, 1], shape=(n, n))
    return sp.csr_array(off - sp.diags_array(np.asarray(off.sum(axis=1)).ravel()))


def weighted(n: int) -> tuple[sp.csr_array, Vector]:
    """A singular matrix whose null vector is not the constant, and that vector."""
    S = sp.diags_array(np.random.default_rng(2).uniform(0.5, 2, n * n))
    return sp.csr_array(S @ sealed(square(n, 0.3)) @ S), 1 / S.diagonal()


def dominant(n: int, seed: int = 0, decades: float = 0.0, entries: int = 4) -> sp.csr_array:
    """Random diagonally dominant matrix with couplings of both signs, scaled by as many decades from both sides."""
    rng = np.random.default_rng(seed)
    off = sp.random_array((n, n), density=entries / n, rng=rng, data_sampler=rng.standard_normal)
    off = sp.csr_array(off + off.T)
    A = off + sp.diags_array(abs(off).sum(axis=1) - off.diagonal() + rng.uniform(0.05, 1, n))
    S = sp.diags_array(10 ** rng.uniform(-decades / 2, decades / 2, n))
    return sp.csr_array(S @ A @ S)


def with_zeros(A: sp.csr_array, seed: int = 0) -> sp.csr_array:
    """The same matrix with up to three pairs of zeros among its entries, as assembly leaves them."""
    rng, n = np.random.default_rng(seed), A.shape[0]
    i, j = rng.integers(0, n, (2, 3))
    entries = sp.coo_array(A)
    coordinates = np.r_[entries.row, i, j], np.r_[entries.col, j, i]
    return sp.csr_array(sp.coo_array((np.r_[entries.data, np.zeros(6)], coordinates), shape=A.shape))


def residuals(A: Any, x: Any, b: Any) -> Vector:
    """Return norm(b - A x) / norm(b), in float64; of several columns, one by one."""
    b = np.asarray(b, dtype=np.float64)
    norms: Vector = np.linalg.norm(b - A @ np.asarray(x, dtype=np.float64), axis=0) / np.linalg.norm(b, axis=0)
    return norms


def relative(A: Any, x: Any, b: Any) -> float:
    """Return the largest of the relative residuals."""
    return float(np.max(residuals(A, x, b)))


@dataclass(frozen=True)
class Case:
    """A small matrix and what is true of it.

    Attributes
    ----------
    make : callable
        Returns A, a csr_array of float64; see `A`.
    about : str
        What it stands for.
    grid : bool, default False
        Whether there is a Cartesian grid of equal couplings behind it.
    faces : bool, default False
        Whether there is one whose faces have weights of their own.
    nullity : int, default 0
        Dimension of its null space.
    sign : int, default 1
        1 if no eigenvalue is negative, -1 if none is positive, 0 if there are both.
    empty_rows : bool, default False
        Whether it has rows of zeros.
    slow : tuple of str, default ()
        Preconditioners that would need more iterations than they are given.
    single : bool, default True
        Whether all this is true of the matrix rounded to float32, too, and float32 holds a good answer.
    """

    make: Callable[[], sp.csr_array]
    about: str
    grid: bool = False
    faces: bool = False
    nullity: int = 0
    sign: int = 1
    empty_rows: bool = False
    slow: tuple[str, ...] = ()
    single: bool = True

    @property
    def A(self) -> sp.csr_array:
        """A copy of the matrix, for the test to do with as it likes."""
        return sp.csr_array(self.make(), copy=True)

    def null(self) -> Vector:
        """Return an orthonormal basis of the null space, shape (n, nullity)."""
        values, vectors = np.linalg.eigh(self.make().toarray())
        return vectors[:, np.abs(values) <= 1e-12 * np.abs(values).max()]

    def right_hand_sides(self, k: int) -> Vector:
        """Return k random right-hand sides in the range of A, shape (n, k)."""
        A = self.make()
        B: Vector = np.random.default_rng(1).standard_normal((A.shape[0], k))
        return A @ B if self.nullity else B


def _channel() -> sp.csr_array:
    solid = ball((3, 3, 3), 2)
    return poisson(domain((6, 5, 7), solid=solid, walls=["solid", ("solid", "air"), "solid"], spacing=0.1)).A


def _chambers() -> sp.csr_array:
    return poisson(domain((9, 4, 4), solid=box((4, 0, 0), (5, 4, 4)), walls="solid")).A


def _closed_box() -> sp.csr_array:
    return poisson(domain((11, 9), solid=ball((5, 4), 2))).A


def _half_open() -> sp.csr_array:
    wall = box((0, 4), (9, 5))
    return poisson(domain((9, 10), solid=wall, walls=["solid", ("solid", "air")], air_at="face")).A


def _blocks(*blocks: Any) -> sp.csr_array:
    return sp.csr_array(sp.block_diag(blocks))


SYSTEMS = {
    "square": Case(lambda: square(12), "a five-point Laplacian with Dirichlet data", grid=True),
    "channel": Case(_channel, "3D, with an obstacle, under air", grid=True),
    "pure Neumann": Case(_closed_box, "a closed box with an obstacle", grid=True, nullity=1),
    "chambers": Case(_chambers, "two sealed chambers, 3D", grid=True, nullity=2),
    "half open": Case(_half_open, "a sealed chamber below one under air", grid=True, nullity=1),
    "grid, isolated rows": Case(lambda: _blocks([[4.0]], square(6), [[2.0]]), "cells beside the grid", grid=True),
    "grid, empty row": Case(
        lambda: _blocks([[4.0]], square(6), [[0.0]]), "a cell without equation", grid=True, nullity=1, empty_rows=True
    ),
    "negative grid": Case(lambda: -square(8), "the Laplacian in its other sign", grid=True, sign=-1),
    "tiny grid": Case(lambda: 1e-12 * square(6), "entries far from one", grid=True),
    "grid with zeros": Case(lambda: with_zeros(square(7)), "zeros among its entries", grid=True),
    "anisotropic": Case(lambda: square(14, 0.05), "couplings that differ by a factor of twenty", faces=True),
    "dominant": Case(lambda: dominant(150), "couplings of both signs"),
    "badly scaled": Case(
        lambda: dominant(150, decades=6), "the same, scaled by six decades", slow=("none",), single=False
    ),
    "path": Case(lambda: path(40), "a weighted path without Dirichlet data", nullity=1),
    "torus": Case(lambda: crossed(ring(8), 0.25), "periodic in both directions", faces=True, nullity=1),
    "weighted": Case(lambda: weighted(8)[0], "a null vector that is not the constant", nullity=1, single=False),
    "isolated rows": Case(lambda: _blocks([[5.0]], dominant(40), [[2.0]]), "unknowns without couplings"),
    "negative": Case(lambda: -dominant(60), "negative definite", sign=-1),
    "one by one": Case(lambda: sp.csr_array([[2.0]]), "a number"),
    "two by two": Case(lambda: sp.csr_array([[4.0, 1.0], [1.0, 3.0]]), "positive coupling"),
    "diagonal": Case(lambda: sp.csr_array(sp.diags_array(np.arange(1.0, 9.0))), "no couplings at all"),
    "shifted": Case(lambda: sp.csr_array(square(10, 0.3) - sp.eye_array(100)), "indefinite by a shift", sign=0),
    "saddle": Case(
        lambda: sp.csr_array([[4.0, -5.0], [-5.0, 4.0]]), "indefinite, with a positive diagonal", sign=0
    ),
}  # fmt: skip


# name of a preconditioner -> a larger matrix that is made for it, or that it was made for
SUITED = {
    "learned-multigrid": Case(
        lambda: poisson(domain((12, 14, 16), walls=["solid", "air", ("solid", "air")])).A, "a box under air", grid=True
    ),
    "geometric-multigrid": Case(
        lambda: poisson(domain((24, 30), walls="solid")).A, "a closed box", grid=True, nullity=1
    ),
    "direct": Case(lambda: square(20, 0.3), "anisotropic, few unknowns"),
    "smoothed-aggregation": Case(lambda: square(50, 0.3), "anisotropic"),
    "approximate-cholesky": Case(lambda: sealed(square(30, 0.3)), "anisotropic and singular", nullity=1),
    "pyamg-sa": Case(lambda: square(50, 0.3), "anisotropic"),
    "pyamg-rs": Case(lambda: sealed(square(30, 0.3)), "anisotropic and singular", nullity=1),
    "none": Case(lambda: square(15, 0.3), "anisotropic, few unknowns"),
}  # fmt: skip


def chambers(shape: tuple[int, ...]) -> Grid:
    """A wall across the first axis: a sealed chamber and one under air at the face."""
    wall = box((2,) + (0,) * (len(shape) - 1), (3, *shape[1:]))
    return domain(shape, solid=wall, walls=[("solid", "air")] + ["solid"] * (len(shape) - 1), air_at="face")


# Small boxes of every kind, for the passes of multigrid cycles.
GRIDS = {
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
} | {"chambers 3D": chambers((6, 3, 4)), "chambers 2D": chambers((7, 6)), "3 x 1 x 5": domain((3, 1, 5), walls="air")}


@cache
def values(name: str) -> Vector:
    """Return the eigenvalues of a matrix of the table, in ascending order."""
    return np.linalg.eigvalsh(SYSTEMS[name].make().toarray())
