"""How long do algebraic multigrid methods take on scalar matrices without a grid, set-up and solve apart?

    python -m benchmarks.aggregation [--repeats 3] [--only NAME ...] [--methods NAME ...]

Seconds of the processor, on one thread, from a bare matrix in CSR to 1e-8; the best of several repeats, each of which
runs all methods one after the other. `new` is this library's smoothed aggregation, `sa` and `rs` are its cycle on the
hierarchies of PyAMG; PyAMG's and AMGCL's own solvers follow, with the best settings known to us.
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
from typing import Any

import numpy as np
import pyamg
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.spatial import Delaunay

from benchmarks.no_grid import permuted
from benchmarks.problems import save_results
from deepcd.solvers.bench.methods import AMGCL_SETTINGS, MAXITER, absent, smoothed_aggregation
from deepcd.solvers.conjugate_directions import conjugate_directions
from deepcd.solvers.operators.csr import CSROperator
from deepcd.solvers.preconditioners.algebraic_multigrid import AlgebraicMultigrid

TOL = 1e-8
F64 = NDArray[np.float64]
clock = time.process_time


def points(shape: tuple[int, ...], shift: float) -> F64:
    """Return the nodes of a grid on the unit square or cube, the inner ones moved by up to `shift` cells."""
    rng = np.random.default_rng(0)
    axes = np.meshgrid(*(np.linspace(0, 1, n) for n in shape), indexing="ij")
    nodes = np.stack([axis.ravel() for axis in axes], axis=1)
    inner = np.all((nodes > 1e-9) & (nodes < 1 - 1e-9), axis=1)
    nodes[inner] += rng.uniform(-shift, shift, (int(inner.sum()), len(shape))) / np.array(shape)
    return nodes


def elements(mesh: Any, element: Any, coefficient: Callable[[F64], F64] | None = None) -> sp.csr_array:
    """Assemble -div(k grad u) with Dirichlet data all around, eliminated."""
    import skfem

    @skfem.BilinearForm
    def form(u: Any, v: Any, w: Any) -> Any:
        product = sum(a * b for a, b in zip(u.grad, v.grad, strict=True))
        return product if coefficient is None else coefficient(w.x) * product

    basis = skfem.Basis(mesh, element)
    inner = basis.complement_dofs(basis.get_dofs())
    A = sp.csr_array(form.assemble(basis)).astype(np.float64)
    A = sp.csr_array(A[inner][:, inner])
    A.eliminate_zeros()
    A.sort_indices()
    return A


def triangles(n: int, shift: float = 0.35, degree: int = 1, k: Callable[[F64], F64] | None = None) -> sp.csr_array:
    """Return elements of a Delaunay mesh of n x n nodes, moved at random."""
    import skfem

    nodes = points((n, n), shift)
    mesh = skfem.MeshTri(nodes.T.copy(), Delaunay(nodes).simplices.T.astype(np.int64).copy())
    return elements(mesh, skfem.ElementTriP1() if degree == 1 else skfem.ElementTriP2(), k)


def slivers(n: int) -> sp.csr_array:
    """Return linear elements of a Delaunay mesh of n x n x n nodes, moved at random."""
    import skfem

    nodes = points((n, n, n), 0.35)
    cells = Delaunay(nodes).simplices
    corners = nodes[cells]
    volume = np.abs(np.linalg.det(corners[:, 1:] - corners[:, :1])) / 6
    cells = cells[volume > 1e-4 * np.median(volume)]
    mesh = skfem.MeshTet(nodes.T.copy(), cells.T.astype(np.int64).copy())
    return elements(mesh, skfem.ElementTetP1())


def tetrahedra(n: int) -> sp.csr_array:
    """Return linear elements of slightly crooked cubes that are cut into tetrahedra."""
    import skfem

    mesh = skfem.MeshTet.init_tensor(*3 * [np.linspace(0, 1, n + 2)])
    inner = np.all((mesh.p > 1e-9) & (mesh.p < 1 - 1e-9), axis=0)
    nodes = mesh.p.copy()
    nodes[:, inner] += np.random.default_rng(0).uniform(-0.15, 0.15, (3, int(inner.sum()))) / n
    return elements(skfem.MeshTet(nodes, mesh.t), skfem.ElementTetP1())


def quadrilaterals(n: int) -> sp.csr_array:
    """Return bilinear elements, numbered in blocks at random."""
    import skfem

    A = elements(skfem.MeshQuad.init_tensor(*2 * [np.linspace(0, 1, n + 2)]), skfem.ElementQuad1())
    order = np.random.default_rng(1).permutation(A.shape[0])
    A = sp.csr_array(A[order][:, order])
    A.sort_indices()
    return A


def graph(n: int, decades: float) -> sp.csr_array:
    """Return the Laplacian of a Delaunay graph of random points, weights log-uniform, one node removed."""
    rng = np.random.default_rng(2)
    cells = Delaunay(rng.uniform(0, 1, (n, 2))).simplices
    pairs = np.concatenate([cells[:, [0, 1]], cells[:, [1, 2]], cells[:, [2, 0]]])
    pairs = np.unique(np.sort(pairs, axis=1), axis=0)
    weights = 10 ** rng.uniform(-decades / 2, decades / 2, len(pairs))
    W = sp.coo_array((weights, (pairs[:, 0], pairs[:, 1])), shape=(n, n)).tocsr()
    W = sp.csr_array(W + W.T)
    return sp.csr_array(sp.diags_array(np.asarray(W.sum(axis=1)).ravel()) - W)[1:, 1:]


def blocks(x: F64) -> F64:
    """Return 1 or 1e4 by the colour of 8 x 8 squares."""
    return np.where(np.floor(8 * x).sum(axis=0) % 2, 1e4, 1.0)


def stretched(n: int) -> sp.csr_array:
    """Return five points on cells 1 : 1000 in their couplings."""
    T = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n), format="csr")
    eye = sp.eye_array(n)
    return sp.csr_array(1000 * sp.kron(T, eye) + sp.kron(eye, T))


PROBLEMS: dict[str, Callable[[], sp.csr_array]] = {
    "P1 triangles, 100k": lambda: triangles(318),
    "P1 tetrahedra, slivers, 64k": lambda: slivers(42),
    "P2 triangles, 100k": lambda: triangles(160, degree=2),
    "P1 tetrahedra, cubes, 91k": lambda: tetrahedra(45),
    "Q1, shuffled, 250k": lambda: quadrilaterals(500),
    "graph, 4 decades, 100k": lambda: graph(100_000, 4),
    "graph, unit weights, 100k": lambda: graph(100_000, 0),
    "P1, jumps 1e4, 100k": lambda: triangles(318, k=blocks),
    "anisotropy 1:1000, 90k": lambda: stretched(300),
    "7-point, shuffled, 110k": lambda: permuted(48),
}

Answer = tuple[F64, int, float, float]  # x, iterations, seconds of set-up and of the solve


def ours(A: sp.csr_array, b: F64, method: str) -> Answer:
    """Solve with this library's loop and cycle."""
    start = clock()
    M = AlgebraicMultigrid(A, method)  # type: ignore[arg-type]
    ready = clock()
    record = conjugate_directions(CSROperator(A), b.copy(), M, TOL * float(np.linalg.norm(b)), maxiter=MAXITER)
    return record.x, len(record.residuals) - 1, ready - start, clock() - ready


def through_pyamg(A: sp.csr_array, b: F64, build: Callable[[Any], Any]) -> Answer:
    """Solve with a hierarchy of PyAMG and its conjugate gradients."""
    history: list[float] = []
    start = clock()
    hierarchy = build(A)
    ready = clock()
    x = hierarchy.solve(b, tol=TOL, accel="cg", residuals=history, maxiter=300)
    return x, len(history) - 1, ready - start, clock() - ready


def through_amgcl(A: sp.csr_array, b: F64) -> Answer:
    """Solve with AMGCL's smoothed aggregation and conjugate gradients."""
    import pyamgcl

    start = clock()
    hierarchy = pyamgcl.amg(A, AMGCL_SETTINGS)
    solver = pyamgcl.solver(hierarchy, {"type": "cg", "tol": TOL, "maxiter": MAXITER})
    ready = clock()
    x = solver(b)
    return x, solver.iters, ready - start, clock() - ready


METHODS: dict[str, Callable[[sp.csr_array, F64], Answer]] = {
    "new": partial(ours, method="aggregation"),
    "sa": partial(ours, method="sa"),
    "rs": partial(ours, method="rs"),
    "PyAMG SA": partial(through_pyamg, build=smoothed_aggregation),
    "PyAMG RS": partial(through_pyamg, build=pyamg.ruge_stuben_solver),
    "AMGCL": through_amgcl,
}


def main() -> None:
    """Print and save the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="names of problems, or their beginnings")
    parser.add_argument("--methods", nargs="*", default=[m for m in METHODS if m != "AMGCL" or not absent("amgcl")])
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # PyAMG's remarks on efficiency
    small = permuted(14)
    for method in args.methods:
        METHODS[method](small, np.ones(14**3))
    rows = []
    for name, make in PROBLEMS.items():
        if args.only and not any(name.startswith(start) for start in args.only):
            continue
        A = make()
        b = A @ np.random.default_rng(777).standard_normal(A.shape[0])
        print(f"{name}: {A.shape[0]} unknowns, {A.nnz} entries", flush=True)
        best: dict[str, dict[str, Any]] = {}
        for _ in range(args.repeats):
            for method in args.methods:
                x, iterations, setup, solve = METHODS[method](A.copy(), b.copy())
                true = float(np.linalg.norm(b - A @ x) / np.linalg.norm(b))
                row = {"iterations": iterations, "setup": setup, "solve": solve, "residual": true}
                if method not in best or setup + solve < best[method]["setup"] + best[method]["solve"]:
                    best[method] = row
        for method, row in best.items():
            mark = "" if row["residual"] <= 1.5 * TOL else f"  ! residual {row['residual']:.1e}"
            total = row["setup"] + row["solve"]
            cells = f"{1e3 * row['setup']:8.0f} + {1e3 * row['solve']:6.0f} = {1e3 * total:6.0f} ms"
            print(f"    {method:10s} {row['iterations']:5d} iterations {cells}{mark}", flush=True)
        rows.append({"problem": name, "unknowns": A.shape[0], "entries": A.nnz} | best)
    print("saved", save_results("aggregation", rows, tol=TOL, repeats=args.repeats))


if __name__ == "__main__":
    main()
