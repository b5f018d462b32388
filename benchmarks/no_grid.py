"""How long does a system without a grid take, beside the better of PyAMG's methods?

    python benchmarks/no_grid.py [--repeats 5] [--only NAME ...]

Set-up and solve to 1e-6 from a bare matrix, one thread, fresh A and b in every repeat, medians. PyAMG is given its best
known settings: smoothed aggregation with forward/backward Gauss-Seidel, and Ruge-Stueben, both accelerated by CG; the
better of the two is the yardstick, problem by problem, though a user has to know beforehand which one that is.
"""

from __future__ import annotations

import argparse
import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pyamg
import scipy.sparse as sp
from numpy.typing import NDArray
from problems import save_results
from scipy.spatial import Delaunay
from time_to_solution import pyamg_solve, smoothed_aggregation

from deepcd import DeepCD

TOL = 1e-6


def simplex_laplacian(points: NDArray[np.float64], boundary: NDArray[np.bool_]) -> sp.csr_array:
    """Assemble -Laplace by linear elements on the Delaunay mesh of points, Dirichlet data eliminated."""
    cells = Delaunay(points).simplices
    d = points.shape[1]
    edges = points[cells[:, 1:]] - points[cells[:, :1]]
    volume = np.abs(np.linalg.det(edges)) / [1, 1, 2, 6][d]
    cells, edges, volume = (array[volume > 1e-9 * np.median(volume)] for array in (cells, edges, volume))
    inverse = np.linalg.inv(edges)
    gradients = np.concatenate([-inverse.sum(axis=2)[:, :, None], inverse], axis=2)
    local = np.einsum("cdi,cdj,c->cij", gradients, gradients, volume)
    rows, columns = np.repeat(cells, d + 1, axis=1).ravel(), np.tile(cells, d + 1).ravel()
    A = sp.coo_array((local.ravel(), (rows, columns)), shape=(len(points), len(points))).tocsr()
    inner = np.flatnonzero(~boundary & (A.diagonal() > 0))
    return sp.csr_array(A[inner][:, inner])


def graded_mesh(n: int) -> sp.csr_array:
    """2D, an L-shape of nodes that gather at the re-entrant corner."""
    rng = np.random.default_rng(1)
    radius, angle = rng.uniform(0, 1, n) ** 1.5, rng.uniform(0, 1.5 * np.pi, n)
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return simplex_laplacian(points, radius > 0.99)


def tetrahedra(n: int) -> sp.csr_array:
    """3D, random nodes in a cube, fixed on two faces."""
    points = np.random.default_rng(2).uniform(0, 1, (n, 3))
    return simplex_laplacian(points, np.abs(points[:, 2] - 0.5) > 0.48)


def jumps(n: int) -> sp.csr_array:
    """2D finite volumes, 16 x 16 random blocks of coefficients 1 to 1e4, harmonic means on faces."""
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
    """Poisson on a cube, Dirichlet data all around."""
    return sp.csr_array(pyamg.gallery.poisson((n, n, n), format="csr"))


def permuted(n: int) -> sp.csr_array:
    """The same, numbered at random."""
    order = np.random.default_rng(4).permutation(n**3)
    return sp.csr_array(seven_point(n)[order][:, order])


def scaled(n: int) -> sp.csr_array:
    """The same, rows and columns scaled by random numbers over six decades."""
    S = sp.diags_array(10 ** np.random.default_rng(5).uniform(-3, 3, n**3))
    return sp.csr_array(S @ seven_point(n) @ S)


def periodic(n: int) -> sp.csr_array:
    """Poisson on a periodic cube: singular."""
    ring = sp.csr_array(sp.diags_array([-1.0, -1.0, -1.0, -1.0], offsets=[-1, 1, n - 1, 1 - n], shape=(n, n)))
    ring += 2 * sp.eye_array(n)
    one = sp.eye_array(n)
    axes = [sp.kron(sp.kron(ring, one), one), sp.kron(sp.kron(one, ring), one), sp.kron(sp.kron(one, one), ring)]
    return sp.csr_array(sum(axes[1:], axes[0]))


def anisotropic(n: int) -> sp.csr_array:
    """Rotated anisotropic diffusion, 1 : 0.01 at 30 degrees."""
    stencil = pyamg.gallery.diffusion_stencil_2d(epsilon=0.01, theta=np.pi / 6, type="FD")
    return sp.csr_array(pyamg.gallery.stencil_grid(stencil, (n, n), format="csr"))


def elasticity(n: int) -> sp.csr_array:
    """Linear elasticity, bilinear elements, without telling anybody of the rigid-body modes."""
    return sp.csr_array(pyamg.gallery.linear_elasticity((n, n))[0])


def graph(n: int) -> sp.csr_array:
    """Laplacian of a random graph of mean degree ten, plus a small multiple of the identity."""
    rng = np.random.default_rng(6)
    ends = rng.integers(0, n, (2, 5 * n))
    W = sp.coo_array((rng.uniform(0.1, 1, 5 * n), tuple(ends)), shape=(n, n)).tocsr()
    W = sp.csr_array(W + W.T)
    W.setdiag(0)
    return sp.csr_array(sp.diags_array(np.asarray(W.sum(axis=1)).ravel() + 1e-3) - W)


def example(name: str) -> sp.csr_array:
    """One of the matrices that PyAMG ships."""
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
    "elasticity, 100^2": lambda: elasticity(100),
    "random graph, 30k": lambda: graph(30_000),
    "airfoil": lambda: example("airfoil"),
    "bar": lambda: example("bar"),
    "local_disc_galerkin_diffusion": lambda: example("local_disc_galerkin_diffusion"),
}


def deepcd_solve(A: Any, b: Any, tol: float) -> tuple[Any, int, str]:
    """DeepCD as a newcomer calls it."""
    solution = DeepCD(threads=1).solve(A, b, tol)
    return solution.x, solution.iterations, solution.preconditioner


def peer(build: Callable[[Any], Any]) -> Callable[[Any, Any, float], tuple[Any, int, str]]:
    """One of PyAMG's methods."""
    run = pyamg_solve(build)
    return lambda A, b, tol: (*run(A, b, tol), "")


METHODS = {
    "deepcd": deepcd_solve,
    "pyamg SA": peer(smoothed_aggregation),
    "pyamg RS": peer(pyamg.ruge_stuben_solver),
}


def main() -> None:
    """Print and save the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="*", help="names of problems, or their beginnings")
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # PyAMG's remarks on efficiency
    rows = []
    for run in METHODS.values():
        run(permuted(14), np.ones(14**3), TOL)
    print(
        f"{'problem':32s} {'unknowns':>8s}  {'deepcd':>26s}  {'pyamg SA':>14s}  {'pyamg RS':>14s}  ratio to the better"
    )
    for name, make in PROBLEMS.items():
        if args.only and not any(name.startswith(start) for start in args.only):
            continue
        original = make()
        seconds: dict[str, list[float]] = {method: [] for method in METHODS}
        facts: dict[str, Any] = {}
        for repeat in range(args.repeats):
            b = original @ np.random.default_rng((777, repeat)).standard_normal(original.shape[0])
            for method, run in METHODS.items():
                A, right = original.copy(), b.copy()
                start = time.perf_counter()
                x, iterations, used = run(A, right, TOL)
                seconds[method].append(time.perf_counter() - start)
                true = float(np.linalg.norm(b - original @ x) / np.linalg.norm(b))
                facts[method] = {"iterations": iterations, "residual": true, "used": used}
        median = {method: float(np.median(times)) for method, times in seconds.items()}
        # A method that does not reach the tolerance is no yardstick.
        peers = [median[method] for method in ("pyamg SA", "pyamg RS") if facts[method]["residual"] <= 1.01 * TOL]
        ratio = median["deepcd"] / min(peers) if peers else None
        row = {"problem": name, "unknowns": original.shape[0], "entries": original.nnz, "ratio": ratio}
        rows.append(row | {method: {"seconds": median[method]} | facts[method] for method in METHODS})

        def cell(method: str, median: Any = median, facts: Any = facts) -> str:
            mark = "" if facts[method]["residual"] <= 1.01 * TOL else "!"
            return f"{median[method]:7.3f} s ({facts[method]['iterations']}){mark}"

        text = f"{cell('deepcd')} {facts['deepcd']['used']}"
        shown = "no peer converged" if ratio is None else f"{ratio:.2f}"
        print(
            f"{name:32s} {original.shape[0]:8d}  {text:>26s}  {cell('pyamg SA'):>14s}  {cell('pyamg RS'):>14s}  {shown}",
            flush=True,
        )
    print("(!: the true residual misses the tolerance)")
    print("saved", save_results("no-grid", rows, tol=TOL, repeats=args.repeats))


if __name__ == "__main__":
    main()
