"""Is the learned cycle positive definite? Spectra of its smoothers and of the whole cycle on fifty domains.

    python -m benchmarks.positivity

For five domains of each of ten families, this prints three kinds of eigenvalues. For each smoother S, the two of the
finest level first: the smallest eigenvalue of S (times the largest diagonal entry of A, to make it a pure number) and
the largest one of S A, by Lanczos on the assembled sparse matrices. For the pair of the finest level, with
G = S1 + S2 - S2 A S1: the smallest eigenvalue of G + G' - G' A G; the cycle needs only that it is positive. For the
cycle M: the lowest and the highest Ritz value of M A, by Lanczos on the compiled cycle in the inner product of A.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as sla

from benchmarks.problems import MAIN_FAMILIES, operator_of, save_results, test_system
from deepcd.solvers.operators.unit_stencil import UnitStencilOperator
from deepcd.solvers.preconditioners.multigrid.cycle import Cycle
from deepcd.solvers.preconditioners.multigrid.learned import learned_cycle
from deepcd.solvers.preconditioners.multigrid.unit_finest import FusedPair, UnitFinest

FAMILIES = (*MAIN_FAMILIES, "porous", "ball-packing", "chambers", "shells", "gyroid")
SHAPES = ((24, 24, 24), (32, 20, 27), (3, 40, 33), (48, 16, 16), (17, 31, 23))
STEPS, ROUNDING, STARTS = 40, 1e-4, 4


def symmetric(diagonal: Any, faces: Any, strides: tuple[int, ...]) -> sp.csr_array:
    """Return the sparse matrix with this diagonal and, per axis, faces[axis][p] between p and p + stride."""
    matrix = sp.diags_array(np.asarray(diagonal, dtype=float)).tocsr()
    for weights, stride in zip(faces, strides, strict=True):
        if stride:
            low = np.flatnonzero(weights)
            upper = sp.coo_array((np.asarray(weights, dtype=float)[low], (low, low + stride)), shape=matrix.shape)
            matrix = matrix + upper + upper.T
    return matrix.tocsr()


def matrices(M: Cycle, level: int) -> tuple[sp.csr_array, list[sp.csr_array]]:
    """Return A of a level and its smoothers, one or on the finest level two, on its unknowns."""
    if level:
        own, strides = M.levels[level - 1].coefficients, M.levels[level - 1].box.strides
        A = symmetric(own.diagonal, -own.w, strides)
        smoothers = [symmetric(own.a, own.c, strides)]
        keep = np.flatnonzero(own.diagonal)
    else:
        finest = M.finest
        assert isinstance(finest, UnitFinest)
        assert isinstance(finest.smoothing, FusedPair)
        (n, s), strides, unknown = finest.box, finest.box.strides, finest.diagonal > 0
        couplings = [np.roll(unknown, -stride) & unknown if stride else unknown for stride in strides]
        A = symmetric(finest.diagonal, [-1.0 * c for c in couplings], strides)
        smoothers = []
        for (a, *each), delta, runs, ends, cells in (finest.smoothing.first, finest.smoothing.second):
            rows = np.repeat(np.arange(len(runs) - 1), np.diff(runs))  # of the runs
            rows = np.repeat(rows, np.diff(ends[: len(rows) + 1]))
            added = np.zeros((7, finest.diagonal.size), dtype=np.float32)
            added[:, (rows // n[1] + 1) * s[0] + cells] = delta
            faces = [(each[axis] + added[2 + 2 * axis]) * c for axis, c in enumerate(couplings)]
            smoothers.append(symmetric((a + added[0]) * unknown, faces, strides))
        keep = np.flatnonzero(unknown)
    return A[keep][:, keep], [S[keep][:, keep] for S in smoothers]


def lowest(S: sp.csr_array, A: sp.csr_array) -> float:
    """Return the smallest eigenvalue of a smoother, negative if it has one, in units of A's largest entry."""
    return float(sla.eigsh(S, k=1, which="SA", tol=1e-4, return_eigenvectors=False)[0] * A.diagonal().max())


def both(A: sp.csr_array, smoothers: list[sp.csr_array]) -> sp.csr_array:
    """Return what the steps of the finest level make on the way down and up: G + G' - G' A G."""
    first, second = smoothers
    G = first + second - second @ (A @ first)
    return sp.csr_array(G + G.T - G.T @ (A @ G))


def ritz_values(M: Cycle, operator: UnitStencilOperator, rng: np.random.Generator) -> tuple[float, float]:
    """Return the extreme Ritz values of M A in the inner product of A, with full reorthogonalisation."""
    v = operator.embed(rng.standard_normal(len(operator.embedding.position)))
    operator.project(v)
    z = M.zeros()
    basis: list[Any] = []
    images: list[Any] = []
    projected = np.zeros((STEPS, STEPS))
    for j in range(STEPS):
        q = operator.image(v)
        energy = operator.dot(v, q)
        if j and energy < ROUNDING**2:  # the Krylov space is exhausted up to the rounding of the float32 cycle
            break
        norm = np.sqrt(energy)
        basis.append(v / norm)
        images.append(q / norm)
        M.apply(images[-1].astype(np.float32), z)
        w = z.astype(float)
        operator.project(w)
        for i, image in enumerate(images):
            projected[i, j] = image @ w
            w -= projected[i, j] * basis[i]
        for i, image in enumerate(images):
            w -= (image @ w) * basis[i]
        operator.project(w)  # again: constants have no energy, so rounding would let them grow from step to step
        v = w
    projected = projected[: len(basis), : len(basis)]
    values = np.linalg.eigvalsh((projected + projected.T) / 2)
    return float(values[0]), float(values[-1])


def main() -> None:
    """Print and save the table."""
    rows: list[dict[str, Any]] = []
    for family in FAMILIES:
        for instance, shape in enumerate(SHAPES):
            system = test_system(family, shape, instance)
            operator = operator_of(system)
            M = learned_cycle(operator.embedding.shape, operator.stencil.diagonal)
            smallest, largest = [], []
            for level in range(len(M.levels)):
                A, smoothers = matrices(M, level)
                if level == 0:
                    pair = lowest(both(A, smoothers), A)
                for S in smoothers if A.shape[0] > 2 else ():
                    smallest.append(lowest(S, A))
                    product = sla.LinearOperator(A.shape, matvec=lambda v, A=A, S=S: S @ (A @ v), dtype=float)
                    largest.append(
                        float(sla.eigs(product, k=1, which="LM", tol=1e-4, return_eigenvectors=False)[0].real)
                    )
            rng = np.random.default_rng(instance)
            extremes = [ritz_values(M, operator, rng) for _ in range(STARTS)]
            low, high = min(e[0] for e in extremes), max(e[1] for e in extremes)
            found = {"smallest_S": smallest, "largest_SA": largest, "smallest_of_both": pair, "ritz": [low, high]}
            rows.append({"family": family, "shape": shape} | found)
            levels = "  ".join(f"{a:.2f} {b:.2f}" for a, b in zip(smallest, largest, strict=True))
            size = "x".join(map(str, shape))
            print(
                f"{family:13s} {size:>9}  S min, S A max: {levels}   both: {pair:.2f}   M A: {low:.3f} .. {high:.3f}",
                flush=True,
            )
    least, highest = min(min(r["smallest_S"]) for r in rows), max(max(r["largest_SA"]) for r in rows)
    print(f"{len(rows)} domains: smallest eigenvalue of S {least:.3f}, largest of S A {highest:.3f},", end=" ")
    print(f"smallest of both steps on the finest level {min(r['smallest_of_both'] for r in rows):.3f},", end=" ")
    print(f"lowest Ritz value of M A {min(r['ritz'][0] for r in rows):.3f}")
    print("saved", save_results("positivity", rows))


if __name__ == "__main__":
    main()
