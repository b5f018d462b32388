"""Nasty inputs for linear solvers: each a Poisson system on a lattice of any size with one thing wrong with it.

Each input says which answers are right besides an x that meets the tolerance: an exception, or true statuses.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from benchmarks.lattices import among, chain, changed, lattice, serpentine, star, without

Cases = dict[str, Callable[[], "NastyInput"]]

LIMIT = ("MAXITER", "ATTAINABLE_ACCURACY")  # statuses that are true of systems that are merely hard
INDEFINITE = ("INDEFINITE_MATRIX",)
# Plain iterations notice these as a breakdown, whose sentence names singular and nonsymmetric matrices as causes.
NONSYMMETRIC = ("NONSYMMETRIC", "BREAKDOWN")
INCONSISTENT = ("INCONSISTENT", "BREAKDOWN")
EMPTY = ("ZERO_DIAGONAL", *INCONSISTENT)


@dataclass(frozen=True)
class NastyInput:
    """One call of a solver.

    Attributes
    ----------
    A, b
        Matrix and right-hand side as the caller has them, of any type.
    tol, atol, maxiter, x0, callback
        Options of the call; those that are None are not given.
    statuses : tuple of str
        Right endings other than convergence. Without any, the system has to be solved, or refused if `refusal` is True.
    refusal : bool
        Whether ValueError or TypeError is a right answer.
    propagates : type of exception, optional
        Type of the exception that the callback raises and that has to reach the caller.
    afterwards : callable, optional
        Function that is called with A between setup and solve.
    """

    A: Any
    b: Any
    tol: Any = 1e-8
    atol: Any = 0.0
    maxiter: Any = None
    x0: Any = None
    callback: Callable[[NDArray[Any]], Any] | None = None
    statuses: tuple[str, ...] = ()
    refusal: bool = False
    propagates: type[BaseException] | None = None
    afterwards: Callable[[Any], None] | None = None


def random(n: int, seed: int = 20) -> NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal(n)


def consistent(A: Any, **changes: Any) -> NastyInput:
    """Return a problem that has a solution."""
    return NastyInput(A, A @ random(A.shape[0], 2), **changes)


def inconsistent(A: Any) -> NastyInput:
    """Return a problem without a solution, if A has the constant, or nearly the constant, in its null space."""
    return NastyInput(A, 1 + random(A.shape[0], 2), statuses=INCONSISTENT)


def blocks(*parts: Any, statuses: tuple[str, ...] = ()) -> NastyInput:
    A = sp.csr_array(sp.block_diag(parts))
    return NastyInput(A, random(A.shape[0]), statuses=statuses)


def raising(error: BaseException) -> Callable[[Any], None]:
    def callback(x: Any) -> None:
        raise error

    return callback


def overwrite(x: NDArray[Any]) -> None:
    x[...] = 7.0


def cases(shape: tuple[int, ...]) -> Cases:
    """Return functions that make the problems on a lattice, by name."""
    groups = (indefinite, nonsymmetric, singular, not_finite, precision, magnitudes, options, types, geometry, others)
    A = lattice(shape, "dirichlet")
    return {name: make for group in groups for name, make in group(shape, A, random(A.shape[0])).items()}


def indefinite(shape: tuple[int, ...], A: sp.csr_array, b: NDArray[np.float64]) -> Cases:
    n = len(b)
    waves = [2 - 2 * np.cos(np.pi * np.array([1, 2]) / (m + 1)) for m in shape]
    low = sum(wave[0] for wave in waves)
    second = low + min(wave[1] - wave[0] for wave in waves)

    def shifted(shift: float) -> sp.csr_array:
        return sp.csr_array(A - shift * sp.eye_array(n))

    def saddle(corner: float) -> NastyInput:
        m = n // 4
        B = sp.csr_array((np.ones(m), (np.arange(m), 4 * np.arange(m))), shape=(m, n))
        K = sp.csr_array(sp.block_array([[A, B.T], [B, -corner * sp.eye_array(m)]]))
        return NastyInput(K, random(n + m), statuses=(*INDEFINITE, "ZERO_DIAGONAL"))

    exchange = sp.csr_array((np.ones(n), (np.arange(n), np.arange(n)[::-1])), shape=(n, n))
    neumann = lattice(shape, "neumann")
    return {
        "one negative eigenvalue": lambda: NastyInput(shifted((low + second) / 2), b, statuses=INDEFINITE),
        "one eigenvalue of -1e-6": lambda: NastyInput(shifted(low + 1e-6), b, statuses=(*INDEFINITE, *LIMIT)),
        "strongly indefinite": lambda: NastyInput(shifted(float(len(shape))), b, statuses=INDEFINITE),
        "saddle point": lambda: saddle(0.0),
        "stabilised saddle point": lambda: saddle(0.1),
        "A and -A side by side": lambda: blocks(A, -A, statuses=INDEFINITE),
        "tiny indefinite block beside A": lambda: blocks(A, 1e-3 * np.array([[1, 2], [2, 1]]), statuses=INDEFINITE),
        "one negative diagonal entry": lambda: NastyInput(changed(A, (7, 7, -4.0)), b, statuses=INDEFINITE),
        "one negative row of its own": lambda: blocks(A, [[-1.0]], statuses=INDEFINITE),
        "negative definite": lambda: NastyInput(-A, b, statuses=INDEFINITE),
        "negative semidefinite, consistent": lambda: consistent(-neumann, statuses=INDEFINITE),
        "exchange matrix": lambda: NastyInput(exchange, b, statuses=(*INDEFINITE, "ZERO_DIAGONAL")),
    }


def nonsymmetric(shape: tuple[int, ...], A: sp.csr_array, b: NDArray[np.float64]) -> Cases:
    n = len(b)

    def convection(speed: float) -> NastyInput:
        wind = sp.diags_array([-speed, speed], offsets=[-1, 0], shape=(n, n))
        return NastyInput(sp.csr_array(A + wind), b, statuses=NONSYMMETRIC)

    skew = sp.csr_array(sp.diags_array([-1.0, 1.0], offsets=[-1, 1], shape=(n, n)))
    side = np.arange(n // shape[0])
    noisy = A.copy()
    noisy.data *= 1 + 1e-15 * random(A.nnz)
    pinned = without(lattice(shape, "neumann"), [n // 3], 1.0, cols=False)
    return {
        "convection, weak": lambda: convection(0.01),
        "convection, strong": lambda: convection(20.0),
        "rows eliminated without columns": lambda: NastyInput(
            without(A, side, 1.0, cols=False), b, statuses=NONSYMMETRIC
        ),
        "one wrong entry, 1e-3": lambda: NastyInput(changed(A, (3, 4, -1.001)), b, statuses=NONSYMMETRIC),
        "one wrong entry, 1": lambda: NastyInput(changed(A, (3, 4, -2.0)), b, statuses=NONSYMMETRIC),
        "one missing entry": lambda: NastyInput(changed(A, (3, 4, 0.0)), b, statuses=NONSYMMETRIC),
        "skew-symmetric": lambda: NastyInput(skew, b, statuses=(*NONSYMMETRIC, *INDEFINITE, "ZERO_DIAGONAL")),
        "upper triangle only": lambda: NastyInput(sp.csr_array(sp.triu(A)), b, statuses=NONSYMMETRIC),
        "one cell pinned, row only": lambda: NastyInput(pinned, b, statuses=NONSYMMETRIC),
        "asymmetry of 1e-15": lambda: NastyInput(noisy, b),
    }


def singular(shape: tuple[int, ...], A: sp.csr_array, b: NDArray[np.float64]) -> Cases:
    n = len(b)
    L = lattice(shape, "neumann")
    torus = lattice(shape, "periodic")
    mixed = lattice(shape, "periodic", "dirichlet", "periodic")
    D = sp.diags_array(np.random.default_rng(4).uniform(0.5, 2.0, n))
    scaled = sp.csr_array(D @ L @ D)
    two = sp.csr_array(sp.block_diag([A, L]))
    slightly = L @ random(n, 2)
    slightly += 1e-5 * np.linalg.norm(slightly) / np.sqrt(n)
    hole = without(A, [n // 3], 0.0, cols=True)
    there = np.where(np.arange(n) == n // 3, 1.0, b)
    not_there = np.where(np.arange(n) == n // 3, 0.0, b)
    return {
        "pure Neumann, consistent": lambda: consistent(L),
        "pure Neumann, inconsistent": lambda: inconsistent(L),
        "pure Neumann, inconsistent by 1e-5": lambda: NastyInput(L, slightly, statuses=INCONSISTENT),
        "D L D, consistent": lambda: consistent(scaled),
        "D L D, inconsistent": lambda: inconsistent(scaled),
        "one of two parts singular, consistent": lambda: consistent(two),
        "one of two parts singular, inconsistent": lambda: inconsistent(two),
        "periodic, consistent": lambda: consistent(torus),
        "periodic, inconsistent": lambda: inconsistent(torus),
        "periodic in some axes": lambda: NastyInput(mixed, b),
        "pure Neumann + 1e-12 I": lambda: NastyInput(sp.csr_array(L + 1e-12 * sp.eye_array(n)), 1 + b, statuses=LIMIT),
        "one cell pinned, row and column": lambda: NastyInput(without(L, [n // 3], 1.0, cols=True), b),
        "one cell pinned, diagonal doubled": lambda: NastyInput(
            changed(L, (n // 3, n // 3, 2.0 * L.diagonal()[n // 3])), b
        ),
        "row and column zero, b zero there": lambda: NastyInput(hole, not_there),
        "row and column zero, b not": lambda: NastyInput(hole, there, statuses=EMPTY),
        "diagonal zero, couplings not": lambda: NastyInput(
            changed(A, (n // 3, n // 3, 0.0)), b, statuses=("ZERO_DIAGONAL", *INDEFINITE)
        ),
        "A = 0": lambda: NastyInput(sp.csr_array((n, n)), b, statuses=EMPTY),
    }


def not_finite(shape: tuple[int, ...], A: sp.csr_array, b: NDArray[np.float64]) -> Cases:
    made: Cases = {}
    for name, value in (("NaN", np.nan), ("Inf", np.inf)):
        spoilt, wrong = A.copy(), b.copy()
        spoilt.data[11], wrong[11] = value, value
        made[f"{name} in A"] = partial(NastyInput, spoilt, b, refusal=True)
        made[f"{name} in b"] = partial(NastyInput, A, wrong, refusal=True)
        made[f"{name} in x0"] = partial(NastyInput, A, b, x0=wrong, refusal=True)
    return made


def precision(shape: tuple[int, ...], A: sp.csr_array, b: NDArray[np.float64]) -> Cases:
    made: Cases = {}
    single, b32 = A.astype(np.float32), b.astype(np.float32)
    for tol in (1e-5, 1e-7, 1e-9, 1e-12):
        limit = LIMIT if tol < 1e-6 else ()
        made[f"float32, tol {tol:.0e}"] = partial(NastyInput, single, b32, tol, statuses=limit)
    for tol in (1e-13, 1e-14, 1e-15, 1e-16):
        made[f"float64, tol {tol:.0e}"] = partial(NastyInput, A, b, tol, statuses=LIMIT)
    made["float32 A, float64 b"] = lambda: NastyInput(single, b)
    made["float64 A, float32 b"] = lambda: NastyInput(A, b32)
    made["float32, x0 far away"] = lambda: NastyInput(
        single, b32, 1e-5, x0=np.full(len(b), 1e4, np.float32), statuses=LIMIT
    )
    return made


def _scaled(A: Any, b: NDArray[np.float64], left: float, right: float) -> NastyInput:
    return NastyInput(A * left, b * right)


def magnitudes(shape: tuple[int, ...], A: sp.csr_array, b: NDArray[np.float64]) -> Cases:
    made: Cases = {}
    for size in (1e-200, 1e-170, 1e-150, 1e150, 1e200):
        made[f"A x {size:.0e}"] = partial(_scaled, A, b, size, 1.0)
        made[f"b x {size:.0e}"] = partial(_scaled, A, b, 1.0, size)
        made[f"A and b x {size:.0e}"] = partial(_scaled, A, b, size, size)
    huge, tiny = b.copy(), np.full(len(b), 1e-310)
    huge[5] = 1e30
    limit = ("ATTAINABLE_ACCURACY",)
    return made | {
        "x beyond float64": lambda: NastyInput(A * 1e-200, b * 1e200, statuses=("NOT_FINITE",), refusal=True),
        "|b| beyond float64": lambda: NastyInput(A, np.full(len(b), 1.7e308), statuses=("NOT_FINITE",), refusal=True),
        "b subnormal": lambda: NastyInput(A, tiny, 1e-6, statuses=limit),
        "A subnormal": lambda: NastyInput(A * 1e-310, b * 1e-310, 1e-6, statuses=("NOT_FINITE", *limit), refusal=True),
        "float32, A and b x 1e-30": lambda: NastyInput((A * 1e-30).astype("f4"), (b * 1e-30).astype("f4"), 1e-4),
        "float32, A and b x 1e+30": lambda: NastyInput((A * 1e30).astype("f4"), (b * 1e30).astype("f4"), 1e-4),
        "b huge in one entry": lambda: NastyInput(A, huge),
        "b zero but for one 1e-300": lambda: NastyInput(A, np.eye(1, len(b), 5)[0] * 1e-300),
        "x0 of 1e100": lambda: NastyInput(A, b, x0=np.full(len(b), 1e100), statuses=LIMIT),
        "x0 of 1e-300": lambda: NastyInput(A, b, x0=np.full(len(b), 1e-300)),
    }


def options(shape: tuple[int, ...], A: sp.csr_array, b: NDArray[np.float64]) -> Cases:
    def refused(**changes: Any) -> Callable[[], NastyInput]:
        return lambda: NastyInput(A, b, refusal=True, **changes)

    return {
        "b = 0": lambda: NastyInput(A, np.zeros(len(b))),
        "b = 0, x0 not": lambda: NastyInput(A, np.zeros(len(b)), x0=b),
        "x0 the solution of another b": lambda: NastyInput(A, A @ b, x0=1.01 * b),
        "tol = 10": lambda: NastyInput(A, b, 10.0, refusal=True),
        "tol = 0": refused(tol=0.0, statuses=LIMIT),
        "tol = -1": refused(tol=-1.0),
        "tol = NaN": refused(tol=float("nan")),
        "atol = -1": refused(atol=-1.0),
        "atol = Inf": refused(atol=float("inf")),
        "maxiter = 0": refused(maxiter=0, statuses=("MAXITER",)),
        "maxiter = -1": refused(maxiter=-1, statuses=("MAXITER",)),
        "maxiter = 1": refused(maxiter=1, statuses=("MAXITER",)),
        "b too short": lambda: NastyInput(A, b[:-1], refusal=True),
        "x0 too short": refused(x0=b[:-1]),
        "A not square": lambda: NastyInput(sp.csr_array(A[:-1]), b, refusal=True),
        "callback raises": refused(callback=raising(OSError("disk full")), propagates=OSError),
        "KeyboardInterrupt": refused(callback=raising(KeyboardInterrupt()), propagates=KeyboardInterrupt),
        "callback returns True": refused(callback=lambda x: True, statuses=("CALLBACK",)),
        "callback overwrites x": lambda: NastyInput(A, b, callback=overwrite),
        "A doubled between setup and solve": lambda: NastyInput(A.copy(), b, refusal=True, afterwards=double),
        "A partly changed between setup and solve": lambda: NastyInput(A.copy(), b, refusal=True, afterwards=stiffen),
    }


def double(A: Any) -> None:
    A.data *= 2


def stiffen(A: Any) -> None:
    A.data[A.indices == np.repeat(np.arange(A.shape[0]), np.diff(A.indptr))] += 1.0


def types(shape: tuple[int, ...], A: sp.csr_array, b: NDArray[np.float64]) -> Cases:
    n = len(b)
    whole = np.rint(10 * b)
    read_only = b.copy()
    read_only.flags.writeable = False
    rows, cols = A.tocoo().coords
    twice = sp.coo_array((np.tile(A.data / 2, 2), (np.tile(rows, 2), np.tile(cols, 2))), shape=A.shape)
    wider = (np.concatenate([rows, rows[: n // 2]]), np.concatenate([cols, (rows[: n // 2] + n // 2) % n]))
    padded = sp.csr_array((np.concatenate([A.data, np.zeros(n // 2)]), wider), shape=A.shape)
    order = np.lexsort((-cols, rows))
    unsorted = sp.csr_array((A.data[order], cols[order], A.indptr.copy()), shape=A.shape)
    long = sp.csr_array((A.data, A.indices.astype(np.int64), A.indptr.astype(np.int64)), shape=A.shape)
    wide = np.repeat(b, 3)
    made: Cases = {
        "int A": lambda: NastyInput(A.astype(np.int64), b),
        "int8 A and int b": lambda: NastyInput(A.astype(np.int8), whole.astype(np.int64)),
        "bool b": lambda: NastyInput(A, b > 0),
        "float16 b": lambda: NastyInput(A, b.astype(np.float16)),
        "long double b": lambda: NastyInput(A, b.astype(np.longdouble)),
        "long double A": lambda: NastyInput(A.astype(np.longdouble), b),
        "object b": lambda: NastyInput(A, b.astype(object), refusal=True),
        "string b": lambda: NastyInput(A, b.astype(str), refusal=True),
        "complex b": lambda: NastyInput(A, b + 1j * b[::-1], refusal=True),
        "complex A, real entries": lambda: NastyInput(A.astype(complex), b, refusal=True),
        "list b": lambda: NastyInput(A, b.tolist()),
        "b of shape (n, 1)": lambda: NastyInput(A, b[:, None]),
        "b of shape (1, n)": lambda: NastyInput(A, b[None, :], refusal=True),
        "b of shape (n, 2)": lambda: NastyInput(A, np.stack([b, b[::-1]], axis=1), refusal=True),
        "b of shape (n, 2), one zero, one x 1e-12": lambda: NastyInput(
            A, np.stack([b, 0 * b, 1e-12 * b], axis=1), refusal=True
        ),
        "b of shape (n, 2), Fortran order": lambda: NastyInput(
            A, np.asfortranarray(np.stack([b, b[::-1]], axis=1)), refusal=True
        ),
        "read-only b": lambda: NastyInput(A, read_only),
        "strided b": lambda: NastyInput(A, wide[::3]),
        "reversed b": lambda: NastyInput(A, b[::-1]),
        "big-endian b": lambda: NastyInput(A, b.astype(">f8")),
        "COO with duplicates": lambda: NastyInput(twice, b),
        "explicit zeros": lambda: NastyInput(padded, b),
        "unsorted indices": lambda: NastyInput(unsorted, b),
        "int64 indices": lambda: NastyInput(long, b),
        "CSC": lambda: NastyInput(A.tocsc(), b),
        "DIA": lambda: NastyInput(A.todia(), b),
        "spmatrix": lambda: NastyInput(sp.csr_matrix(A), b),
        "1 x 1": lambda: NastyInput(sp.csr_array([[3.0]]), [2.0]),
        "0 x 0": lambda: NastyInput(sp.csr_array((0, 0)), np.zeros(0)),
    }
    if n <= 2_000:
        dense = A.toarray()
        made |= {
            "dense A": lambda: NastyInput(dense, b),
            "dense A, Fortran order": lambda: NastyInput(np.asfortranarray(dense), b),
            "nested list A": lambda: NastyInput(dense.tolist(), b),
            "np.matrix": lambda: NastyInput(np.asmatrix(dense), b),
            "object A": lambda: NastyInput(dense.astype(object), b, refusal=True),
            "float16 A": lambda: NastyInput(dense.astype(np.float16), b),
            "LIL": lambda: NastyInput(A.tolil(), b),
        }
    return made


def geometry(shape: tuple[int, ...], A: sp.csr_array, b: NDArray[np.float64]) -> Cases:
    rng = np.random.default_rng(7)
    order = rng.permutation(len(b))
    top = np.zeros(shape, dtype=bool)
    top[..., -1] = True
    index = np.indices(shape)
    checks = index.sum(axis=0) % 2 == 0
    half = rng.random(shape) < 0.55
    plates = index[0] % 3 != 1
    channel = serpentine(shape)
    start = np.zeros(shape, dtype=bool)
    start[(0,) * len(shape)] = True
    line = (1,) * (len(shape) - 1) + (len(b),)
    small = tuple(max(n // 3, 2) for n in shape)
    return {
        "unknowns permuted": lambda: NastyInput(sp.csr_array(A[order][:, order]), b),
        "Fortran numbering of a long box": lambda: consistent(
            lattice((*shape[:-1], shape[-1] // 2)[::-1], "dirichlet")
        ),
        "checkerboard of walls": lambda: _masked(checks, checks),
        "checkerboard of walls, half of it dry": lambda: _masked(checks, None),
        "random walls, 45 %": lambda: _masked(half, top),
        "random walls, no air": lambda: consistent(among(half)),
        "plates of two cells": lambda: _masked(plates, top),
        "plates of two cells, no air": lambda: consistent(among(plates)),
        "a winding channel one cell wide": lambda: NastyInput(
            among(channel, start), random(int(channel.sum())), 1e-6, statuses=LIMIT
        ),
        "a line of cells": lambda: NastyInput(lattice(line, "dirichlet"), b, 1e-6, statuses=LIMIT),
        "unequal parts, 1 and 1e-12": lambda: blocks(A, 1e-12 * lattice(small, "dirichlet"), statuses=LIMIT),
        "unequal parts, 1 and 1e+12": lambda: blocks(A, 1e12 * lattice(small, "dirichlet"), statuses=LIMIT),
        "a thousand parts": lambda: NastyInput(
            sp.csr_array(sp.kron(sp.eye_array(len(b) // 4), chain(4))), random(len(b) // 4 * 4)
        ),
        "a star of n arms": lambda: NastyInput(star(len(b)), b),
    }


def _masked(fluid: NDArray[np.bool_], held: NDArray[np.bool_] | None) -> NastyInput:
    """Return a consistent problem on a mask: what touches no held cell is singular, a lone cell an empty row."""
    return consistent(among(fluid, held))


def others(shape: tuple[int, ...], A: sp.csr_array, b: NDArray[np.float64]) -> Cases:
    n = len(b)
    rng = np.random.default_rng(9)
    wild = sp.diags_array(10 ** rng.uniform(-4, 4, n))
    jumps = 10 ** rng.uniform(-4, 4, n)
    upper = sp.csr_array(sp.triu(A, 1)).tocoo()
    i, j = upper.coords
    weight = 2 / (1 / jumps[i] + 1 / jumps[j])
    off = sp.coo_array((weight, (i, j)), shape=A.shape)
    off = off + off.T
    varied = sp.csr_array(sp.diags_array(off.sum(axis=1) + jumps) - off)
    squared = sp.csr_array(A @ A)
    made: Cases = {
        "badly scaled rows, 1e-8 .. 1e+8": lambda: consistent(sp.csr_array(wild @ A @ wild), statuses=LIMIT),
        "coefficients of 1e-4 .. 1e+4": lambda: NastyInput(varied, b, statuses=LIMIT),
        "anisotropy 1e6": lambda: NastyInput(lattice(shape, "dirichlet", weights=(1.0, 1e6, 1.0)), b),
        "biharmonic": lambda: NastyInput(squared, b, statuses=LIMIT),
        "huge shift": lambda: NastyInput(sp.csr_array(A + 1e12 * sp.eye_array(n)), b),
        "off-diagonals positive": lambda: NastyInput(abs(A) + 0, b),
    }
    if n <= 2_000:
        k = np.arange(12)
        pascal = np.array([[float(math.comb(i + j, i)) for j in range(14)] for i in range(14)])
        made |= {
            "Hilbert 12": lambda: NastyInput(1 / (k[:, None] + k + 1), np.ones(12), statuses=LIMIT),
            "Pascal 14": lambda: NastyInput(pascal, np.ones(14), statuses=LIMIT),
            "diagonal 1 .. 1e12": lambda: NastyInput(np.diag(10.0**k), np.ones(12), statuses=LIMIT),
            "dense of rank one, consistent": lambda: NastyInput(np.outer(b, b), b, statuses=LIMIT),
            "all entries one, inconsistent": lambda: NastyInput(np.ones((9, 9)), np.arange(9.0), statuses=INCONSISTENT),
        }
    return made
