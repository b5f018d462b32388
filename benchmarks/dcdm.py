"""How good is the published network, on which systems, and which of its parts matter?

    python -m benchmarks.dcdm boxes      the shipped weights on closed boxes from 16^3 to 64^3, plain CG beside them
    python -m benchmarks.dcdm parts      directions kept, normalisation, obstacles, with the shipped weights
    python -m benchmarks.dcdm trainings  losses and right-hand sides: trainings of equal length at 16^3 (ten minutes)
    python -m benchmarks.dcdm --draw     the figure, from the saved runs

The network is that of Kaneda et al. (ICML 2023), trained by this project; right-hand sides come from seeds that no
training uses. All numbers are measured here; none of the authors' numbers are quoted. Iterations are counted to the
true residual, at most 100, as in the authors' tests.
"""

from __future__ import annotations

import argparse
import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.problems import RESULTS, save_results, saved_rows
from deepcd import DeepCD
from deepcd.data import right_hand_side, weight_files
from deepcd.pde import PoissonSystem, Shape, domain, poisson
from deepcd.solvers.bench.linear_problem import PressureProblem
from deepcd.solvers.bench.problems import PROBLEMS
from deepcd.solvers.conjugate_directions import conjugate_directions
from deepcd.solvers.grids.discovery import embed
from deepcd.solvers.operators.unit_stencil import UnitStencilOperator
from deepcd.solvers.preconditioners.dcdm import DCDM
from deepcd.solvers.training.dcdm import train_dcdm

F64 = NDArray[np.float64]
SEED = 888_000_000
MAXITER = 100
REPEATS = 5
STEPS = 1_500  # length of the trainings that are compared
FILLS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35)


def smooth(system: PoissonSystem, instance: int) -> F64:
    """Return a smooth right-hand side of the benchmark's seeds."""
    return right_hand_side(system, "smooth", np.random.default_rng((SEED, instance)))


def fluid(size: int) -> tuple[PoissonSystem, F64]:
    """Return the system of a closed box in which smoke begins to rise, and its right-hand side."""
    problem = next(PROBLEMS["plume"](size))
    assert isinstance(problem, PressureProblem)
    return poisson(problem.grid), problem.b


def iterations(system: PoissonSystem, b: F64, tol: float, **options: Any) -> tuple[int, float]:
    """Return the iterations, where 100 stands for failure, and the seconds of the solve."""
    solver = DeepCD(threads=1, **options)
    solution = solver.setup(system.A).solve(b, tol, maxiter=2_000 if options["preconditioner"] != "dcdm" else MAXITER)
    return (solution.iterations if solution.info == 0 else MAXITER), solution.solve_time


def counted(system: PoissonSystem, right: list[F64], tol: float, **options: Any) -> dict[str, Any]:
    """Return the median and the largest number of iterations over right-hand sides, and the median of the seconds."""
    runs = [iterations(system, b, tol, **options) for b in right]
    counts = [run[0] for run in runs]
    return {
        "iterations": float(np.median(counts)),
        "most": max(counts),
        "seconds": float(np.median([r[1] for r in runs])),
    }


def boxes() -> list[dict[str, Any]]:
    """Solve on closed boxes of several sizes."""
    rows = []
    for size in (16, 24, 32, 48, 64):
        system = poisson(domain((size,) * 3))
        sides = {"smooth": [smooth(system, i) for i in range(REPEATS if size < 64 else 3)], "plume": [fluid(size)[1]]}
        for kind, right in sides.items():
            own = fluid(size)[0] if kind == "plume" else system
            for tol in (1e-4, 1e-6):
                for method in ("dcdm", "none", "learned-multigrid"):
                    row = {"part": "boxes", "size": size, "rhs": kind, "tol": tol, "method": method}
                    rows.append(row | counted(own, right, tol, preconditioner=method))
                    print(rows[-1], flush=True)
    return rows


def parts() -> list[dict[str, Any]]:
    """Leave out or change parts of the method, with the shipped weights."""
    rows = []
    system = poisson(domain((32,) * 3))
    right = [smooth(system, i) for i in range(REPEATS)]
    for keep in (0, 1, 2, 4, 1_000):
        row = {"part": "keep", "keep": keep, "tol": 1e-4, "method": "dcdm"}
        rows.append(row | counted(system, right, 1e-4, preconditioner="dcdm", keep=keep))
        print(rows[-1], flush=True)
    for normalise in (True, False):
        rows.append({"part": "normalise", "normalise": normalise, "tol": 1e-4} | without_norm(system, right, normalise))
        print(rows[-1], flush=True)
    for size in (8, 32):
        for fill in FILLS:
            system = filled(size, fill)
            right = [smooth(system, i) for i in range(REPEATS)]
            for method in ("dcdm", "ic0", "jacobi", "learned-multigrid", "geometric-multigrid"):
                row = {"part": "fill", "size": size, "fill": fill, "tol": 1e-4, "method": method}
                rows.append(row | counted(system, right, 1e-4, preconditioner=method))
                print(rows[-1], flush=True)
    return rows


def filled(size: int, fill: float) -> PoissonSystem:
    """Return the closed box with a share of its cells solid, at random."""
    grains = np.random.default_rng((SEED, size)).random((size,) * 3) < fill
    return poisson(domain((size,) * 3, solid=Shape(lambda x: grains)))


def without_norm(system: PoissonSystem, right: list[F64], normalise: bool) -> dict[str, Any]:
    """Solve with the network's input normalised, or not."""
    tensors, _ = weight_files.load(None, "dcdm-64/1")
    embedding, stencil = embed(system.grid)
    operator = UnitStencilOperator(embedding, stencil)
    M = DCDM(embedding.shape, stencil.diagonal, tensors, "64", normalise)
    counts = []
    for b in right:
        box = operator.embed(b)
        target = 1e-4 * float(np.linalg.norm(box))
        record = conjugate_directions(operator, box, M, target, maxiter=MAXITER, keep=2)
        counts.append(len(record.residuals) - 1 if record.residuals[-1] <= target else MAXITER)
    return {"iterations": float(np.median(counts)), "most": max(counts)}


def trainings() -> list[dict[str, Any]]:
    """Train the network from the start at 16^3, with other losses and right-hand sides, equally long."""
    rows = []
    variants = [{"kind": kind} for kind in ("ritz", "white", "smooth", "harvested")]
    variants += [{"loss": loss} for loss in ("unscaled", "energy")]
    system = poisson(domain((16,) * 3))
    right, plume = [smooth(system, i) for i in range(REPEATS)], fluid(16)
    white = [right_hand_side(system, "random", np.random.default_rng((SEED, i))) for i in range(REPEATS)]
    for variant in variants:
        with tempfile.TemporaryDirectory() as folder:
            path, start = Path(folder) / "w.safetensors", time.perf_counter()
            settings: dict[str, Any] = {"kind": "ritz", "loss": "residual", **variant}
            train_dcdm(path, size=16, steps=STEPS, batch=8, ritz=600, seed=0, progress=False, **settings)
            seconds = time.perf_counter() - start
            for rhs, own, sides in (
                ("smooth", system, right),
                ("white", system, white),
                ("plume", plume[0], [plume[1]]),
            ):
                row = {"part": "trainings", **settings, "rhs": rhs, "tol": 1e-4, "training": seconds}
                rows.append(row | counted(own, sides, 1e-4, preconditioner="dcdm", weights=path))
                print(rows[-1], flush=True)
    return rows


def draw(rows: list[dict[str, Any]]) -> Path:
    """Draw iterations against size, against obstacles, and the ablations."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 4, figsize=(19, 4.2), layout="constrained")
    for method, name in (("none", "CG"), ("dcdm", "DCDM"), ("learned-multigrid", "learned multigrid")):
        own = [
            r for r in rows if r["part"] == "boxes" and (r["method"], r["rhs"], r["tol"]) == (method, "smooth", 1e-4)
        ]
        axes[0].loglog([r["size"] for r in own], [r["iterations"] for r in own], "o-", label=name)
    axes[0].set(title="closed box, smooth b, to 1e-4", xlabel="cells per edge", ylabel="iterations")
    axes[0].set_xticks([16, 24, 32, 48, 64], ["16", "24", "32", "48", "64"])
    axes[0].minorticks_off()
    for method in ("dcdm", "ic0", "jacobi", "geometric-multigrid", "learned-multigrid"):
        own = [r for r in rows if r["part"] == "fill" and (r["method"], r["size"]) == (method, 32)]
        axes[1].plot([r["fill"] for r in own], [r["iterations"] for r in own], "o-", label=method)
    axes[1].set(
        title="32^3, solid cells at random, to 1e-4", xlabel="share of solid cells", yscale="log", ylim=(2, 1500)
    )
    keeps = [r for r in rows if r["part"] == "keep"]
    axes[2].bar([str(r["keep"]) if r["keep"] < 1000 else "all" for r in keeps], [r["iterations"] for r in keeps])
    axes[2].set(title="DCDM, 32^3, to 1e-4", xlabel="directions kept")
    own = [r for r in rows if r["part"] == "trainings" and r["rhs"] == "smooth"]
    names = [r["kind"] if r["loss"] == "residual" else f"{r['kind']}, {r['loss']} loss" for r in own]
    axes[3].barh(names, [r["iterations"] for r in own])
    axes[3].set(title=f"{STEPS} steps at 16^3: smooth b, to 1e-4", xlabel="iterations (100: failed)")
    for axis in axes[:2]:
        axis.legend(fontsize=8, loc="upper left", ncols=2)
    for axis in axes:
        axis.grid(alpha=0.25)
    path = RESULTS / "dcdm.png"
    figure.savefig(path, dpi=90)
    return path


def main() -> None:
    """Run a part and save its rows beside those of the others."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = {"boxes": boxes, "parts": parts, "trainings": trainings}
    parser.add_argument("parts", nargs="*", help=", ".join(known))  # `choices` would refuse an empty list
    parser.add_argument("--draw", action="store_true")
    args = parser.parse_args()
    unknown = [name for name in args.parts if name not in known]
    if unknown:
        parser.error(f"unknown part {', '.join(unknown)}; known: {', '.join(known)}")
    rows = saved_rows("dcdm")
    for name in args.parts:
        new = known[name]()
        made = {row["part"] for row in new}
        rows = [row for row in rows if row["part"] not in made] + new
        print("saved", save_results("dcdm", rows))
    if args.draw:
        print("written", draw(rows))


if __name__ == "__main__":
    main()
