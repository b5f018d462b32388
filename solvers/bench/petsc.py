"""PETSc's conjugate gradients with algebraic multigrid or sparse factors, in a process of its own.

    apt-get install --no-install-recommends python3-petsc4py-real3.18 python3-mpi4py libopenblas0-serial openmpi-bin

Debian's petsc4py needs Debian's Python and a NumPy before 2, so the child runs under an interpreter that can import it.
The matrix and b go there, and x comes back, as files of bare numbers. This file is also the program of the child, so it
imports nothing of deepcd.
"""

from __future__ import annotations

import glob
import json
import os
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

PACKAGES = "Debian: apt-get install python3-petsc4py-real3.18 libopenblas0-serial openmpi-bin"
CG = "-ksp_type cg -ksp_norm_type unpreconditioned"
BOOMERAMG = "-pc_hypre_boomeramg_"
OPTIONS = {
    # hypre's manual recommends this in three dimensions: sparse coarse levels, long interpolation cut to four entries.
    "boomeramg": f"{CG} -pc_type hypre -pc_hypre_type boomeramg {BOOMERAMG}strong_threshold 0.5 "
    f"{BOOMERAMG}coarsen_type HMIS {BOOMERAMG}interp_type ext+i {BOOMERAMG}P_max 4 {BOOMERAMG}agg_nl 1 "
    f"{BOOMERAMG}relax_type_all symmetric-SOR/Jacobi",
    "ml": f"{CG} -pc_type ml",
    "gamg": f"{CG} -pc_type gamg",
    "cholmod": "-ksp_type preonly -pc_type cholesky -pc_factor_mat_solver_type cholmod",
}


@cache
def interpreter() -> tuple[str, str] | None:
    """Return a Python that can import petsc4py and the folder to put on its path, or None if there is none."""
    places = ["", *sorted(glob.glob("/usr/lib/petscdir/petsc*/*-real/lib/python3/dist-packages"))]
    for python in (sys.executable, "/usr/bin/python3"):
        for place in places:
            trial = [python, "-c", "from petsc4py import PETSc"]
            try:
                if not subprocess.run(trial, env=_environment(place), capture_output=True, check=False).returncode:
                    return python, place
            except OSError:
                continue
    return None


def missing() -> str:
    """Return why PETSc cannot be called, or an empty string."""
    return "" if interpreter() else f"no Python here can import petsc4py ({PACKAGES})"


def solve(A: Any, b: Any, tol: float, method: str) -> dict[str, Any]:
    """Solve A x = b in a child process.

    Parameters
    ----------
    A : csr_array of float64, shape (n, n)
        Positive definite matrix. A singular one would need its null space, which is more than the constant where the
        grid has several components; a regular matrix with the same solution is not slower.
    b : ndarray of float64, shape (n,)
        Right-hand side.
    tol : float
        Tolerance for the Euclidean norm of the residual relative to that of b.
    method : {"boomeramg", "ml", "gamg", "cholmod"}
        Key of `OPTIONS`.

    Returns
    -------
    dict
        x, iterations, residuals, the seconds setup and solve, and peak_bytes, the peak memory above that of matrix and
        vectors.

    Raises
    ------
    RuntimeError
        If there is no PETSc or the child fails.
    """
    found = interpreter()
    if found is None:
        raise RuntimeError(missing())
    python, place = found
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for key, values, dtype in (("indptr", A.indptr, "i4"), ("indices", A.indices, "i4"), ("data", A.data, "f8")):
            values.astype(dtype).tofile(folder / key)
        np.asarray(b, dtype="f8").tofile(folder / "b")
        order = json.dumps({"tol": tol, "options": OPTIONS[method]})
        run = [python, __file__, name]
        child = subprocess.run(run, input=order, capture_output=True, text=True, check=False, env=_environment(place))
        if child.returncode:
            raise RuntimeError(f"PETSc failed: {child.stderr.strip()[-500:]}")
        numbers: dict[str, Any] = json.loads((folder / "numbers").read_text(encoding="utf-8"))
        return {"x": np.fromfile(folder / "x"), **numbers}


def _environment(place: str) -> dict[str, str]:
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return {**kept, **one, **({"PYTHONPATH": place} if place else {})}


def _child(folder: Path) -> None:
    import memory  # type: ignore[import-not-found]  # this file is run by its path, so its folder is on sys.path
    from petsc4py import PETSc

    order = json.loads(sys.stdin.read())
    files = (("indptr", "i4"), ("indices", "i4"), ("data", "f8"), ("b", "f8"))
    indptr, indices, data, values = (np.fromfile(folder / name, dtype) for name, dtype in files)
    n = len(values)
    for option in order["options"].split(" -"):
        name, _, value = option.lstrip("-").partition(" ")
        PETSc.Options().setValue(name, value)
    A = PETSc.Mat().createAIJ((n, n), csr=(indptr, indices, data))
    A.setOption(PETSc.Mat.Option.SYMMETRIC, True)
    A.setOption(PETSc.Mat.Option.SPD, True)
    x, b = A.createVecs()
    b.array = values
    ksp = PETSc.KSP().create()
    ksp.setOperators(A)
    ksp.setFromOptions()
    ksp.setTolerances(rtol=order["tol"], atol=0.0, max_it=2000)
    ksp.setConvergenceHistory()
    before = memory.forget_peak()
    start = time.perf_counter()
    ksp.setUp()
    ready = time.perf_counter()
    ksp.solve(b, x)
    done = time.perf_counter()
    x.array.tofile(folder / "x")
    peak = memory.peak() - before
    history = (np.asarray(ksp.getConvergenceHistory()) / np.linalg.norm(values)).tolist()
    numbers = {"iterations": ksp.getIterationNumber(), "residuals": history, "peak_bytes": peak}
    numbers |= {"setup": ready - start, "solve": done - ready}
    (folder / "numbers").write_text(json.dumps(numbers), encoding="utf-8")


if __name__ == "__main__":
    _child(Path(sys.argv[1]))
