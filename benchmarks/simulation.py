"""What does a frame of a simulation cost, and what would it cost with another solver of the pressure?

    python -m benchmarks.simulation [--scenes plume paddle dam_break bubble] [--frames 100] [--scale 1.0] [--threads 2]
    python -m benchmarks.simulation --peers [--frames 5]      SciPy's CG and PyAMG in deepcd's place

The scenes that ship are solved to 1e-6, starting from the pressure of the frame before. The seconds of a frame are
split into advection, set-up of the solver, solve and the rest. They are medians over all frames but the first, which
loads compiled code. The divergence is the largest one left, relative to the largest before the projection.
"""

from __future__ import annotations

import argparse
import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.problems import RESULTS, save_results, saved_rows
from deepcd.data import SCENES
from deepcd.pde import CutSystem
from deepcd.solvers.bench.methods import smoothed_aggregation
from deepcd.solvers.simulation.pressure import Pressure, PressureAnswer
from deepcd.solvers.simulation.running import run
from deepcd.solvers.simulation.scenes import read_scene

F64 = NDArray[np.float64]
PARTS = ("advection_s", "setup_s", "solve_s")


def scipy_cg(tol: float) -> Pressure:
    """Return SciPy's conjugate gradients as a pressure solver."""
    from scipy.sparse.linalg import cg

    def solve(system: CutSystem, b: F64, x0: F64) -> PressureAnswer:
        counted: list[None] = []
        start = time.perf_counter()
        x, _ = cg(system.A, b, x0, rtol=tol, maxiter=20_000, callback=lambda _: counted.append(None))
        return PressureAnswer(x, 0.0, time.perf_counter() - start, len(counted))

    return solve


def pyamg_sa(tol: float) -> Pressure:
    """Return PyAMG's smoothed aggregation and conjugate gradients as a pressure solver, one hierarchy per matrix."""
    prepared: tuple[CutSystem, Any] | None = None

    def solve(system: CutSystem, b: F64, x0: F64) -> PressureAnswer:
        nonlocal prepared
        start = time.perf_counter()
        if prepared is None or prepared[0] is not system:
            prepared = system, smoothed_aggregation(system.A)
        ready = time.perf_counter()
        history: list[float] = []
        # Its tolerance is relative to the initial residual; deepcd's and SciPy's are relative to b.
        first, target = float(np.linalg.norm(b - system.A @ x0)), tol * float(np.linalg.norm(b))
        x = x0
        if first > target:
            x = prepared[1].solve(b, x0=x0, tol=target / first, accel="cg", residuals=history, maxiter=500)
        return PressureAnswer(x, ready - start, time.perf_counter() - ready, max(len(history) - 1, 0))

    return solve


def measured(name: str, frames: int, scale: float, threads: int, solver: str) -> dict[str, Any]:
    """Return the row of one run; keep its picture."""
    scene = replace(read_scene(SCENES / f"{name}.toml", scale), frames=frames)
    peers = {"scipy cg": scipy_cg, "pyamg sa": pyamg_sa}
    pressure = peers[solver](scene.tol) if solver in peers else None
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        rows = run(scene, Path(folder), pressure=pressure, threads=threads).rows
        whole = time.perf_counter() - start
        if solver == "deepcd" and scale == 1 and frames >= 100:
            shutil.copy(Path(folder) / "summary.png", RESULTS / f"simulation-{name}.png")
    later = rows[1:] or rows
    median = {part: float(np.median([row[part] for row in later])) for part in (*PARTS, "seconds")}
    share = float(np.median([row["solve_s"] / row["seconds"] for row in later]))
    return {
        "scene": name,
        "shape": list(scene.shape),
        "solver": solver,
        "frames": frames,
        "threads": threads,
        "tol": scene.tol,
        "unknowns": max(row["unknowns"] for row in rows),
        **median,
        "rest_s": median["seconds"] - sum(median[part] for part in PARTS),
        "solve_share": share,
        "iterations": max(row["iterations"] for row in rows),
        "divergence": max(row["divergence"] for row in rows),
        "whole_s": whole,
    }


def main() -> None:
    """Print and save a row per scene and solver."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", nargs="+", default=["plume", "paddle", "dam_break", "bubble"])
    parser.add_argument("--frames", type=int, default=0)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peers", action="store_true")
    args = parser.parse_args()
    frames = args.frames or (5 if args.peers else 100)
    keys = ("scene", "shape", "solver", "frames", "threads")
    kept = {tuple(map(str, (row[key] for key in keys))): row for row in saved_rows("simulation")}
    for name in args.scenes:
        for solver in ("deepcd", "scipy cg", "pyamg sa") if args.peers else ("deepcd",):
            row = measured(name, frames, args.scale, args.threads, solver)
            kept[tuple(map(str, (row[key] for key in keys)))] = row
            print({k: round(v, 4) if isinstance(v, float) and v > 1e-3 else v for k, v in row.items()}, flush=True)
            save_results("simulation", list(kept.values()))


if __name__ == "__main__":
    main()
