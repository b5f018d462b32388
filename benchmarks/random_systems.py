"""Random linear systems of known truth: family, size, scale, order, precision, layout and options drawn from a seed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.spatial import Delaunay

from benchmarks.lattices import lattice
from deepcd.data import HELD_OUT, TRAINING, random_grid
from deepcd.pde import poisson

Rng = np.random.Generator
Drawn = tuple[sp.csr_array, NDArray[np.float64] | None]  # A and a vector in its null space, if there is one

# Each system has one truth, by construction.
TRUTHS = ("solvable", "negative", "inconsistent", "indefinite", "nonsymmetric", "empty row")
LAYOUTS: dict[str, Callable[[sp.csr_array], Any]] = {
    "csr": lambda A: A,
    "csc": sp.csc_array,
    "coo, duplicates": lambda A: sp.coo_array((np.tile(A.data / 2, 2), np.tile(A.tocoo().coords, 2)), shape=A.shape),
    "spmatrix": sp.csr_matrix,
    "int64": lambda A: sp.csr_array((A.data, A.indices.astype(np.int64), A.indptr.astype(np.int64)), shape=A.shape),
    "dense": lambda A: A.toarray() if A.shape[0] <= 1000 else A,
    "dense, Fortran": lambda A: np.asfortranarray(A.toarray()) if A.shape[0] <= 1000 else A,
}


@dataclass(frozen=True)
class RandomSystem:
    """A system, the options of its solve, and the truth about it.

    Attributes
    ----------
    seed : int
        Seed of the system.
    family, layout : str
        Keys of FAMILIES and LAYOUTS.
    A, b
        Matrix and right-hand side as the caller has them.
    truth : str
        One of TRUTHS.
    lost : float
        Norm of the part of b that no A x can match.
    preconditioner : str
        Preconditioner of DeepCD.
    tol : float
        Relative tolerance.
    options : dict
        Further arguments of both solvers.
    """

    seed: int
    family: str
    layout: str
    A: Any
    b: Any
    truth: str
    lost: float
    preconditioner: str
    tol: float
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        options = ", ".join(f"{k}={v}" if isinstance(v, int | float) else k for k, v in self.options.items())
        return (
            f"seed {self.seed}: {self.family}, {self.truth}, n = {self.A.shape[0]}, {self.A.dtype} {self.layout}, "
            f"b {np.shape(self.b)} {self.b.dtype}, {self.preconditioner}, tol {self.tol:.0e}, {options or 'no options'}"
        )


def draw(seed: int) -> RandomSystem:
    """Return the system of a seed: the same one on every machine with the same NumPy and SciPy."""
    rng = np.random.default_rng((0xDEE9, seed))
    family = str(rng.choice(list(FAMILIES), p=WEIGHTS))
    n = int(10 ** rng.choice([rng.uniform(0, 2.3), rng.uniform(2.3, 3.5), rng.uniform(3.5, 4.3)], p=[0.6, 0.3, 0.1]))
    A, null = FAMILIES[family](n, rng)
    truth = str(rng.choice(TRUTHS, p=[0.74, 0.04, 0.06, 0.06, 0.06, 0.04]))
    A, null, truth = _spoil(A, null, truth, rng)
    n = A.shape[0]

    if truth not in ("indefinite", "nonsymmetric") and rng.random() < 0.3:
        D = 10 ** rng.uniform(-1, 1, n) ** rng.choice([1, 3])
        A = sp.csr_array(sp.diags_array(D) @ A @ sp.diags_array(D))
        null = None if null is None else null / D
    if rng.random() < 0.3:
        order = rng.permutation(n)
        A, null = sp.csr_array(A[order][:, order]), None if null is None else null[order]
    A.sort_indices()

    b, lost = _right_hand_side(A, null, truth, rng)
    tol = float(10 ** -rng.uniform(3, rng.choice([10, 14])))
    if lost:
        tol = min(tol, 1e-2 * lost / float(np.linalg.norm(b)))
    single = null is None and truth in ("solvable", "negative") and rng.random() < 0.2
    if single:
        A, b = A.astype(np.float32), b.astype(np.float32 if rng.random() < 0.8 else np.float64)
    elif rng.random() < 0.2:
        big = float(10.0 ** rng.integers(-200, 200)), float(10.0 ** rng.integers(-80, 80))
        A, b, lost = A * big[0], b * (big[0] * big[1]), lost * big[0] * big[1]
    options = _options(A, b, rng)
    if rng.random() < 0.08 and not lost:
        b = np.stack([b, b[::-1] if null is None and truth != "empty row" else -b, 0 * b], axis=1)[
            :, : rng.integers(1, 4)
        ]
        options.pop("x0", None)
    layout = str(rng.choice(list(LAYOUTS), p=[0.4, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]))
    names = ["auto", "pyamg-sa", "pyamg-rs", "none"]
    preconditioner = str(rng.choice(names, p=[0.76, 0.08, 0.08, 0.08]))
    return RandomSystem(seed, family, layout, LAYOUTS[layout](A), b, truth, lost, preconditioner, tol, options)


def _pressure(n: int, rng: Rng) -> Drawn:
    """Return a pressure matrix of a random domain, as the learned multigrid was made for."""
    family = str(rng.choice([*TRAINING, *HELD_OUT]))
    ndim = int(rng.integers(2, 4))
    sides = np.maximum(3, n ** (1 / ndim) * np.exp(rng.uniform(-0.5, 0.5, ndim))).astype(int)
    system = poisson(random_grid(family, tuple(int(side) for side in sides), rng))
    A = system.A if system.A.shape[0] else lattice((3, 3), "dirichlet")
    sealed = system.sealed[system.component].astype(float) if system.A.shape[0] else np.zeros(9)
    return sp.csr_array(A), sealed if sealed.any() else None


def _lattice(n: int, rng: Rng) -> Drawn:
    """Return a Laplacian of a box, possibly periodic, possibly anisotropic."""
    ndim = int(rng.integers(1, 4))
    sides = tuple(int(s) for s in np.maximum(3, n ** (1 / ndim) * np.exp(rng.uniform(-0.5, 0.5, ndim))))
    ends = tuple(str(rng.choice(["dirichlet", "neumann", "periodic"])) for _ in sides)
    weights = tuple(10 ** rng.uniform(-2, 2, 3)) if rng.random() < 0.4 else (1.0, 1.0, 1.0)
    A = lattice(sides, *ends, weights=weights)
    return A, None if "dirichlet" in ends else np.ones(A.shape[0])


def _weighted(i: NDArray[Any], j: NDArray[Any], weights: NDArray[np.float64], n: int) -> sp.csr_array:
    """Return the Laplacian of a weighted graph."""
    off = sp.coo_array((weights, (i, j)), shape=(n, n))
    off = sp.csr_array(off + off.T)
    off.setdiag(0)
    off.eliminate_zeros()
    return sp.csr_array(sp.diags_array(off.sum(axis=1)) - off)


def _graph(n: int, rng: Rng) -> Drawn:
    """Return the Laplacian of a connected random graph, with a few nodes held, or none."""
    n = max(n, 2)
    tree = rng.integers(0, np.arange(1, n))  # every node leans on an earlier one
    i, j = np.arange(1, n), tree
    more = rng.integers(0, n, (2, 2 * n))
    A = _weighted(np.r_[i, more[0]], np.r_[j, more[1]], 10 ** rng.uniform(-1, 1, 3 * n - 1), n)
    if rng.random() < 0.3:
        return A, np.ones(n)
    held = rng.random(n) < 0.1
    held[0] = True
    return sp.csr_array(A + sp.diags_array(held * rng.uniform(0.1, 2.0, n))), None


def _mesh(n: int, rng: Rng) -> Drawn:
    """Return the stiffness matrix of linear elements on a Delaunay mesh, its hull held, or nothing."""
    points = rng.random((max(n, 6), 2))
    T = Delaunay(points).simplices
    n = len(points)
    e = points[T[:, [2, 0, 1]]] - points[T[:, [1, 2, 0]]]  # the side opposite each corner
    area = 0.5 * np.abs(e[:, 0, 0] * e[:, 1, 1] - e[:, 0, 1] * e[:, 1, 0])
    T, e, area = T[area > 1e-7], e[area > 1e-7], area[area > 1e-7]
    local = np.einsum("tia,tja->tij", e, e) / (4 * area[:, None, None])
    rows, cols = np.repeat(T, 3, axis=1).ravel(), np.tile(T, (1, 3)).ravel()
    A = sp.csr_array(sp.coo_array((local.ravel(), (rows, cols)), shape=(n, n)))
    if rng.random() < 0.2:
        return A, np.ones(n)
    inner = np.setdiff1d(np.arange(n), np.unique(Delaunay(points).convex_hull))
    return (sp.csr_array(A[inner][:, inner]), None) if len(inner) else (sp.csr_array(np.eye(3)), None)


def _spectrum(n: int, rng: Rng) -> Drawn:
    """Return a dense matrix of a condition number up to 1e8."""
    n = min(n, 100)
    Q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    values = 10 ** -rng.uniform(0, rng.uniform(0, 8), n)
    A = (Q * values) @ Q.T
    return sp.csr_array((A + A.T) / 2), None


def _gram(n: int, rng: Rng) -> Drawn:
    """Return B'B + c I for a random sparse B: off-diagonal entries of either sign."""
    B = sp.random_array((n, n), density=min(1.0, 4 / n), rng=rng, data_sampler=rng.standard_normal)
    return sp.csr_array(B.T @ B + 10 ** rng.uniform(-4, 0) * sp.eye_array(n)), None


def _parts(n: int, rng: Rng) -> Drawn:
    """Return two matrices side by side, of different magnitudes."""
    pair = [(_lattice, _graph, _mesh, _pressure)[k](max(n // 2, 3), rng) for k in rng.integers(0, 4, 2)]
    factor = 10 ** rng.uniform(-6, 6)
    nulls = [null for _, null in pair]
    A = sp.csr_array(sp.block_diag([pair[0][0], factor * pair[1][0]]))
    if all(null is None for null in nulls):
        return A, None
    return A, np.concatenate([np.zeros(M.shape[0]) if null is None else null for M, null in pair])


FAMILIES: dict[str, Callable[[int, Rng], Drawn]] = {
    "pressure": _pressure,
    "lattice": _lattice,
    "graph": _graph,
    "mesh": _mesh,
    "spectrum": _spectrum,
    "gram": _gram,
    "parts": _parts,
}
WEIGHTS = (0.3, 0.2, 0.12, 0.12, 0.06, 0.08, 0.12)


def _spoil(
    A: sp.csr_array, null: NDArray[np.float64] | None, truth: str, rng: Rng
) -> tuple[sp.csr_array, NDArray[np.float64] | None, str]:
    """Change A so that a truth holds, where that is possible; return A, its null vector and the truth that holds."""
    n = A.shape[0]
    if truth == "negative":
        return sp.csr_array(-A), null, truth
    if truth == "indefinite" and n > 1:
        values = np.linalg.eigvalsh(A.toarray()) if n <= 400 else np.zeros(1)
        above = np.flatnonzero(values > values[0] + 1e-4 * abs(values[-1]))
        if len(above):  # between two eigenvalues, as near to definite as it comes
            k = above[min(int(rng.geometric(0.5)), len(above)) - 1]
            shift = float(values[k - 1] + values[k]) / 2
        else:  # above the lowest diagonal entry, which by Rayleigh's principle is above the lowest eigenvalue
            shift = 1.001 * float(A.diagonal().min())
        return sp.csr_array(A - shift * sp.eye_array(n)), None, truth
    if truth == "nonsymmetric" and A.nnz > n:
        B = A.copy()
        rows = np.repeat(np.arange(n), np.diff(B.indptr))
        chosen = rng.choice(np.flatnonzero(B.indices != rows), 1 + int(rng.integers(0, 5)))
        B.data[chosen] *= 1 + rng.choice([-1.0, 1e-2, 1.0, 30.0])
        return B, None, truth
    if truth == "empty row":
        A = sp.csr_array(sp.block_diag([A, sp.csr_array((1, 1))]))
        return A, np.eye(1, n + 1, n)[0], truth
    return A, null, truth if truth == "inconsistent" and null is not None else "solvable"


def _right_hand_side(
    A: sp.csr_array, null: NDArray[np.float64] | None, truth: str, rng: Rng
) -> tuple[NDArray[np.float64], float]:
    """Return b and the norm of the part of b that no A x can match."""
    n = A.shape[0]
    if null is None:
        kinds = (rng.standard_normal(n), A @ rng.standard_normal(n), np.ones(n), np.eye(1, n, int(rng.integers(n)))[0])
        return kinds[int(rng.integers(len(kinds)))], 0.0
    b = A @ rng.standard_normal(n)
    if truth not in ("inconsistent", "empty row"):
        return b, 0.0
    share = 10 ** -rng.uniform(0, 4) * max(float(np.linalg.norm(b)), 1e-3)
    return b + share * null / np.linalg.norm(null), share


def _options(A: sp.csr_array, b: NDArray[Any], rng: Rng) -> dict[str, Any]:
    """Return a few options that change how a system is solved, or when the solver stops."""
    options: dict[str, Any] = {}
    n, size = A.shape[0], float(np.abs(b).max()) / float(np.abs(A.data).max() if A.nnz else 1.0)
    if rng.random() < 0.25 and math.isfinite(size):
        options["x0"] = (size * 10 ** rng.uniform(-3, 6) * rng.standard_normal(n)).astype(b.dtype)
    if rng.random() < 0.1:
        options["atol"] = float(10 ** -rng.uniform(2, 8)) * float(np.abs(b).max())
    if rng.random() < 0.07:
        options["maxiter"] = int(rng.integers(1, 20))
    return options
