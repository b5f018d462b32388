"""How long does a system without a grid take, compared with the better of PyAMG's methods?

    python -m benchmarks.no_grid [--repeats 5] [--only NAME ...]
    python -m benchmarks.no_grid --matrices     # instead: every matrix of tests/matrices and of PyAMG to 1e-8

Seconds are medians of set-up and solve to 1e-6 from a bare matrix, on one thread, with a new b in every repeat. PyAMG
has the best settings known to us: smoothed aggregation with forward/backward Gauss-Seidel, and Ruge-Stueben, both
accelerated by CG. The better of the two is the yardstick for each problem, although users cannot know it beforehand.
"""

from __future__ import annotations

import argparse
import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyamg
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.io import mmread
from scipy.spatial import cKDTree

from benchmarks.auto_systems import simplex_elements
from benchmarks.peers import pyamg_solve
from benchmarks.problems import save_results
from deepcd import DeepCD

TOL = 1e-6
MATRICES = Path(__file__).parents[1] / "tests" / "matrices"
EXAMPLES = ("airfoil", "bar", "knot", "local_disc_galerkin_diffusion", "unit_cube", "unit_square")


def simplex_laplacian(points: NDArray[np.float64], boundary: NDArray[np.bool_]) -> sp.csr_array:
    """Assemble -Laplace by linear elements on the Delaunay mesh of points, Dirichlet data eliminated."""
    A = simplex_elements(points)[0]
    inner = np.flatnonzero(~boundary & (A.diagonal() > 0))
    return sp.csr_array(A[inner][:, inner])


def graded_mesh(n: int) -> sp.csr_array:
    """Return linear elements in 2D on an L-shape whose nodes gather at the re-entrant corner."""
    rng = np.random.default_rng(1)
    radius, angle = rng.uniform(0, 1, n) ** 1.5, rng.uniform(0, 1.5 * np.pi, n)
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return simplex_laplacian(points, radius > 0.99)


def tetrahedra(n: int) -> sp.csr_array:
    """Return linear elements in 3D on random nodes in a cube, fixed on two faces."""
    points = np.random.default_rng(2).uniform(0, 1, (n, 3))
    return simplex_laplacian(points, np.abs(points[:, 2] - 0.5) > 0.48)


def jumps(n: int) -> sp.csr_array:
    """Return finite volumes in 2D: 16 x 16 random blocks of coefficients 1 to 1e4, harmonic means on faces."""
    rng = np.random.default_rng(3)
    k = np.kron(10 ** rng.uniform(0, 4, (16, 16)), np.ones((n // 16, n // 16)))
    number = np.arange(n * n).reshape(n, n)
    faces = [
        (number[:-1], number[1:], 2 / (1 / k[:-1] + 1 / k[1:])),
        (number[:, :-1], number[:, 1:], 2 / (1 / k[:, :-1] + 1 / k[:, 1:])),
    ]
    diagonal = np.zeros((n, n))
    diagonal[0] += 2 * k[0]
    diagonal[-1] += 2 * k[-1]
    A = sp.coo_array((n * n, n * n))
    for a, b, weight in faces:
        part = sp.coo_array((-weight.ravel(), (a.ravel(), b.ravel())), shape=A.shape)
        A = A + part + part.T
    off = sp.csr_array(A)
    return sp.csr_array(off + sp.diags_array(diagonal.ravel() - np.asarray(off.sum(axis=1)).ravel()))


def seven_point(n: int) -> sp.csr_array:
    """Return the Laplacian of a cube with Dirichlet data all around."""
    return sp.csr_array(pyamg.gallery.poisson((n, n, n), format="csr"))


def permuted(n: int) -> sp.csr_array:
    """Return the same, numbered at random."""
    order = np.random.default_rng(4).permutation(n**3)
    return sp.csr_array(seven_point(n)[order][:, order])


def scaled(n: int) -> sp.csr_array:
    """Return the same, with rows and columns scaled by random numbers over six decades."""
    S = sp.diags_array(10 ** np.random.default_rng(5).uniform(-3, 3, n**3))
    return sp.csr_array(S @ seven_point(n) @ S)


def periodic(n: int) -> sp.csr_array:
    """Return the Laplacian of a periodic cube, which is singular."""
    ring = sp.csr_array(sp.diags_array([-1.0, -1.0, -1.0, -1.0], offsets=[-1, 1, n - 1, 1 - n], shape=(n, n)))
    ring += 2 * sp.eye_array(n)
    one = sp.eye_array(n)
    axes = [sp.kron(sp.kron(ring, one), one), sp.kron(sp.kron(one, ring), one), sp.kron(sp.kron(one, one), ring)]
    return sp.csr_array(sum(axes[1:], axes[0]))


def anisotropic(n: int) -> sp.csr_array:
    """Return rotated anisotropic diffusion, 1 : 0.01 at 30 degrees."""
    stencil = pyamg.gallery.diffusion_stencil_2d(epsilon=0.01, theta=np.pi / 6, type="FD")
    return sp.csr_array(pyamg.gallery.stencil_grid(stencil, (n, n), format="csr"))


def finite_elements(n: int) -> sp.csr_array:
    """Return bilinear elements for anisotropic diffusion, 1 : 0.001: strong couplings of the wrong sign."""
    stencil = pyamg.gallery.diffusion_stencil_2d(epsilon=0.001, theta=0, type="FE")
    return sp.csr_array(pyamg.gallery.stencil_grid(stencil, (n, n), format="csr"))


def elasticity(n: int) -> sp.csr_array:
    """Return bilinear elements for linear elasticity."""
    return sp.csr_array(pyamg.gallery.linear_elasticity((n, n))[0])


def rigid_body_modes(n: int) -> NDArray[np.float64]:
    """Return the near null space of `elasticity`."""
    return np.asarray(pyamg.gallery.linear_elasticity((n, n))[1])


def graph(n: int) -> sp.csr_array:
    """Return the Laplacian of a random graph of mean degree ten, plus a small multiple of the identity."""
    rng = np.random.default_rng(6)
    ends = rng.integers(0, n, (2, 5 * n))
    W = sp.coo_array((rng.uniform(0.1, 1, 5 * n), tuple(ends)), shape=(n, n)).tocsr()
    W = sp.csr_array(W + W.T)
    W.setdiag(0)
    return sp.csr_array(sp.diags_array(np.asarray(W.sum(axis=1)).ravel() + 1e-3) - W)


def proximity(n: int) -> sp.csr_array:
    """Return the Laplacian of the six nearest neighbours of random points, plus a small multiple of the identity."""
    points = np.random.default_rng(7).uniform(0, 1, (n, 2))
    beside = cKDTree(points).query(points, k=7)[1][:, 1:]
    W = sp.coo_array((np.ones(6 * n), (np.repeat(np.arange(n), 6), beside.ravel())), shape=(n, n)).tocsr()
    W = sp.csr_array(W.maximum(W.T))
    return sp.csr_array(sp.diags_array(np.asarray(W.sum(axis=1)).ravel() + 1e-3) - W)


def example(name: str) -> sp.csr_array:
    """Return one of the matrices that PyAMG ships."""
    return sp.csr_array(pyamg.gallery.load_example(name)["A"])


PROBLEMS: dict[str, Callable[[], sp.csr_array]] = {
    "2D elements, graded, 20k": lambda: graded_mesh(20_000),
    "2D elements, graded, 100k": lambda: graded_mesh(100_000),
    "3D elements, 30k": lambda: tetrahedra(30_000),
    "3D elements, 80k": lambda: tetrahedra(80_000),
    "jumps 1e4, 256^2": lambda: jumps(256),
    "jumps 1e4, 512^2": lambda: jumps(512),
    "7-point permuted, 48^3": lambda: permuted(48),
    "7-point permuted, 80^3": lambda: permuted(80),
    "7-point scaled, 48^3": lambda: scaled(48),
    "7-point periodic, 40^3": lambda: periodic(40),
    "anisotropic, 300^2": lambda: anisotropic(300),
    "anisotropic elements, 200^2": lambda: finite_elements(200),
    "elasticity, 100^2": lambda: elasticity(100),
    "elasticity and its modes, 100^2": lambda: elasticity(100),
    "random graph, 30k": lambda: graph(30_000),
    "proximity graph, 50k": lambda: proximity(50_000),
    **{name: partial(example, name) for name in EXAMPLES},
}
NEAR_NULL = {"elasticity and its modes, 100^2": lambda: rigid_body_modes(100)}  # the argument B of deepcd and of SA


def deepcd_solve(A: Any, b: Any, B: Any) -> tuple[Any, int, str]:
    """Solve with DeepCD as a newcomer calls it."""
    solution = DeepCD(threads=1).solve(A, b, TOL, B=B)
    return solution.x, solution.iterations, solution.preconditioner


def sa_solve(A: Any, b: Any, B: Any) -> tuple[Any, int, str]:
    """Solve with smoothed aggregation, Gauss-Seidel forward before and backward after the correction."""
    sweeps = [("gauss_seidel", {"sweep": way}) for way in ("forward", "backward")]
    build = partial(pyamg.smoothed_aggregation_solver, B=B, presmoother=sweeps[0], postsmoother=sweeps[1])
    return (*pyamg_solve(build)(A, b, TOL), "")


def rs_solve(A: Any, b: Any, _: Any) -> tuple[Any, int, str]:
    """Solve with Ruge-Stueben coarsening."""
    return (*pyamg_solve(pyamg.ruge_stuben_solver)(A, b, TOL), "")


METHODS = {"deepcd": deepcd_solve, "pyamg SA": sa_solve, "pyamg RS": rs_solve}


def matrices() -> None:
    """Solve every matrix from practice to 1e-8 and print the results."""
    systems = {path.name.removesuffix(".mtx.gz"): sp.csr_array(mmread(path)) for path in sorted(MATRICES.glob("*.gz"))}
    systems |= {name: example(name) for name in EXAMPLES}
    print(f"{'matrix':32s} {'unknowns':>8s}  {'preconditioner':14s} {'iterations':>10s} {'true residual':>13s}  status")
    for name, A in systems.items():
        b = A @ np.random.default_rng(777).standard_normal(A.shape[0])
        for preconditioner in ("auto", "pyamg-sa", "pyamg-rs"):
            solution = DeepCD(preconditioner, threads=1).solve(A, b, 1e-8)
            true = float(np.linalg.norm(b - A @ solution.x) / np.linalg.norm(b))
            used = f"{solution.preconditioner:14s} {solution.iterations:10d} {true:13.1e}"
            print(f"{name:32s} {A.shape[0]:8d}  {used}  {solution.status.value}")


def main() -> None:
    """Print and save the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="*", help="names of problems, or their beginnings")
    parser.add_argument("--matrices", action="store_true", help="solve the matrices from practice to 1e-8 instead")
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # PyAMG's remarks on efficiency
    if args.matrices:
        matrices()
        return
    rows = []
    for run in METHODS.values():
        run(permuted(14), np.ones(14**3), None)
    print(
        f"{'problem':32s} {'unknowns':>8s}  {'deepcd':>26s}  {'pyamg SA':>14s}  {'pyamg RS':>14s}  ratio to the better"
    )
    for name, make in PROBLEMS.items():
        if args.only and not any(name.startswith(start) for start in args.only):
            continue
        original = make()
        B = NEAR_NULL[name]() if name in NEAR_NULL else None
        seconds: dict[str, list[float]] = {method: [] for method in METHODS}
        facts: dict[str, Any] = {}
        for repeat in range(args.repeats):
            b = original @ np.random.default_rng((777, repeat)).standard_normal(original.shape[0])
            for method, run in METHODS.items():
                A, right = original.copy(), b.copy()
                start = time.perf_counter()
                x, iterations, used = run(A, right, B)
                seconds[method].append(time.perf_counter() - start)
                true = float(np.linalg.norm(b - original @ x) / np.linalg.norm(b))
                facts[method] = {"iterations": iterations, "residual": true, "used": used}
        median = {method: float(np.median(times)) for method, times in seconds.items()}
        # Only methods that reach the tolerance can be the yardstick.
        peers = [median[method] for method in ("pyamg SA", "pyamg RS") if facts[method]["residual"] <= 1.01 * TOL]
        ratio = median["deepcd"] / min(peers) if peers else None
        row = {"problem": name, "unknowns": original.shape[0], "entries": original.nnz, "ratio": ratio}
        rows.append(row | {method: {"seconds": median[method]} | facts[method] for method in METHODS})

        def cell(method: str, median: Any = median, facts: Any = facts) -> str:
            mark = "" if facts[method]["residual"] <= 1.01 * TOL else "!"
            return f"{median[method]:7.3f} s ({facts[method]['iterations']}){mark}"

        text = f"{cell('deepcd')} {facts['deepcd']['used']}"
        shown = "no peer converged" if ratio is None else f"{ratio:.2f}"
        peers_text = f"{cell('pyamg SA'):>14s}  {cell('pyamg RS'):>14s}"
        print(
            f"{name:32s} {original.shape[0]:8d}  {text:>26s}  {peers_text}  {shown}",
            flush=True,
        )
    print("(!: the true residual misses the tolerance)")
    print("saved", save_results("no-grid", rows, tol=TOL, repeats=args.repeats))


if __name__ == "__main__":
    main()
