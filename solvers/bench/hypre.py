"""hypre's structured multigrid (PFMG) in its conjugate gradients, called through ctypes in a process of its own.

    apt-get install libhypre-dev openmpi-bin

The whole box is hypre's grid: cells without an unknown are rows of the identity without couplings. Half of the seven
(five) symmetric entries are stored. MPI starts signal handlers and threads of its own, so hypre runs in a child, which
gets the box and returns x as files of bare numbers. The child solves a small system first, and measures the seconds of
HYPRE_StructPCGSetup, of HYPRE_StructPCGSolve and, as the conversion, of filling hypre's matrix and vectors. Residuals
are read from what hypre prints.

Debian builds hypre for any x86-64. The environment variable HYPRE_LIBRARY names another libHYPRE; the same version,
built with -O3 -march=native, solved between 3 % slower and 19 % faster at 64^3. See Falgout and Yang, hypre: a library
of high performance preconditioners (ICCS 2002), and Ashby and Falgout, Nucl. Sci. Eng. 124 (1996), for PFMG.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
PACKAGES = "Debian: apt-get install libhypre-dev openmpi-bin"


@dataclass(frozen=True)
class PFMGSettings:
    """PFMG's options."""

    relax: int = 1  # smoother: 1 weighted Jacobi, 2 symmetric red-black Gauss-Seidel, 3 the nonsymmetric one
    rap: int = 0  # coarse operator: 0 Galerkin, 1 seven (five) points on every level
    sweeps: int = 1  # number of sweeps before, and again after the coarse correction
    skip: int = 1  # 1 leaves out relaxation on the levels between two halvings of all axes
    weight: float = 0.8  # weight of Jacobi; 0 leaves hypre's own


def library(name: str) -> str | None:
    """Return the file of a shared library; for hypre, HYPRE_LIBRARY takes precedence if it is set."""
    wanted = os.environ.get("HYPRE_LIBRARY") if name == "HYPRE" else None
    return wanted or ctypes.util.find_library(name)


def missing() -> str:
    """Return why hypre cannot be called, or an empty string."""
    names = [name for name in ("HYPRE", "mpi") if library(name) is None]
    return f"no lib{' and no lib'.join(names)} ({PACKAGES})" if names else ""


def solve(faces: Sequence[F64], extra: F64, b: F64, tol: float, settings: PFMGSettings) -> dict[str, Any]:
    """Solve a system on a box of cells in a child process.

    Parameters
    ----------
    faces : sequence of ndarray of float64, each of the shape of the box
        Weights of the faces: entry i of the k-th array couples cell i with the next one along axis k.
    extra : ndarray of float64, shape of the box
        Diagonal of the matrix minus the weights of a cell's faces. A cell whose entries are all zero is no unknown.
    b : ndarray of float64, shape of the box
        Right-hand side, zero where there is no unknown.
    tol : float
        Tolerance for the Euclidean norm of the residual relative to that of b.
    settings : PFMGSettings
        PFMG's options.

    Returns
    -------
    dict
        x (shape of the box), iterations, residuals relative to b, the seconds conversion, setup and solve, and
        peak_bytes, the peak memory above that of the arrays given.

    Raises
    ------
    RuntimeError
        If the child fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        np.stack([*faces, extra, b], dtype=np.float64).tofile(Path(folder) / "fields")
        order = json.dumps({"shape": extra.shape, "tol": tol, "settings": asdict(settings)})
        child = subprocess.run(
            [sys.executable, __file__, folder], input=order, capture_output=True, text=True, check=False
        )
        if child.returncode:
            raise RuntimeError(f"hypre failed: {child.stderr.strip()[-2000:]}")
        x = np.fromfile(Path(folder) / "x")
        numbers = json.loads((Path(folder) / "numbers").read_text(encoding="utf-8"))
    return {"x": x.reshape(extra.shape), "residuals": _printed(child.stdout), **numbers}


def _printed(text: str) -> list[float]:
    """Return the relative residuals of the last solve that hypre printed: the fourth number of its lines."""
    rows = [line.split() for line in text.rpartition("Iters")[2].splitlines()]
    return [1.0, *(float(row[3]) for row in rows if len(row) == 4 and row[0].isdigit())]


class _Library:
    """HYPRE's functions, each of which raises when hypre reports an error."""

    def __init__(self) -> None:
        mpi = ctypes.CDLL(library("mpi"), mode=ctypes.RTLD_GLOBAL)
        self._hypre = ctypes.CDLL(library("HYPRE"))
        mpi.MPI_Init(None, None)
        self._mpi = mpi
        try:
            self.comm: Any = ctypes.c_void_p(ctypes.addressof(ctypes.c_char.in_dll(mpi, "ompi_mpi_comm_world")))
        except ValueError:  # MPICH numbers its communicators
            self.comm = ctypes.c_int(0x44000000)
        self("Init")

    def __call__(self, name: str, *args: Any) -> None:
        if getattr(self._hypre, f"HYPRE_{name}")(*args):
            code = self._hypre.HYPRE_GetError()
            self._hypre.HYPRE_ClearAllErrors()
            # A failed solve is no error here: the caller checks the residual.
            if not name.endswith("Solve"):
                raise RuntimeError(f"HYPRE_{name} returned {code}")

    def function(self, name: str) -> Any:
        return getattr(self._hypre, f"HYPRE_{name}")

    def create(self, name: str, *args: Any) -> ctypes.c_void_p:
        made = ctypes.c_void_p()
        self(f"{name}Create", *args, ctypes.byref(made))
        return made

    def finalize(self) -> None:
        self("Finalize")
        self._mpi.MPI_Finalize()


def _ints(values: Any) -> Any:
    return (ctypes.c_int * len(values))(*values)


def _doubles(values: F64) -> Any:
    return values.ctypes.data_as(ctypes.POINTER(ctypes.c_double))


def entries(faces: Sequence[F64], extra: F64) -> F64:
    """Return the diagonal and, per axis, the couplings with the cell before; hypre's axes are ours in reverse order.

    Parameters
    ----------
    faces, extra
        See `solve`.

    Returns
    -------
    ndarray of float64, shape of the box and 1 + number of axes
    """
    values = np.zeros((*extra.shape, 1 + extra.ndim))
    values[..., 0] = extra
    for k, axis in enumerate(reversed(range(extra.ndim))):
        before, after = ((*(slice(None),) * axis, part) for part in (slice(-1), slice(1, None)))
        values[..., 0] += faces[axis]
        values[..., 0][after] += faces[axis][before]
        values[..., 1 + k][after] = -faces[axis][before]
    values[..., 0][values[..., 0] == 0] = 1
    return values


def _run(h: _Library, fields: F64, tol: float, settings: PFMGSettings) -> tuple[F64, dict[str, Any]]:
    """Solve in this process; return x, the iterations and the seconds. The fields are the faces, extra and b."""
    start = time.perf_counter()
    (*faces, extra, b), shape = fields, fields.shape[1:]
    ndim = len(shape)
    low, high = _ints([0] * ndim), _ints([n - 1 for n in reversed(shape)])
    grid = h.create("StructGrid", h.comm, ndim)
    h("StructGridSetExtents", grid, low, high)
    h("StructGridAssemble", grid)
    stencil = h.create("StructStencil", ndim, 1 + ndim)
    for k in range(1 + ndim):
        h("StructStencilSetElement", stencil, k, _ints([-1 if axis == k - 1 else 0 for axis in range(ndim)]))
    A = h.create("StructMatrix", h.comm, grid, stencil)
    h("StructMatrixSetSymmetric", A, 1)
    h("StructMatrixInitialize", A)
    values = entries(faces, extra)
    h("StructMatrixSetBoxValues", A, low, high, 1 + ndim, _ints(range(1 + ndim)), _doubles(values))
    h("StructMatrixAssemble", A)
    right, x = (h.create("StructVector", h.comm, grid) for _ in range(2))
    for vector, content in ((right, b), (x, np.zeros_like(b))):
        h("StructVectorInitialize", vector)
        h("StructVectorSetBoxValues", vector, low, high, _doubles(content))
        h("StructVectorAssemble", vector)
    M = h.create("StructPFMG", h.comm)
    pcg = h.create("StructPCG", h.comm)
    for name, value in (
        ("MaxIter", 1), ("RelaxType", settings.relax), ("RAPType", settings.rap), ("NumPreRelax", settings.sweeps),
        ("NumPostRelax", settings.sweeps), ("SkipRelax", settings.skip),
    ):  # fmt: skip
        h(f"StructPFMGSet{name}", M, value)
    h("StructPFMGSetTol", M, ctypes.c_double(0.0))
    h("StructPFMGSetZeroGuess", M)
    if settings.weight and settings.relax == 1:
        h("StructPFMGSetJacobiWeight", M, ctypes.c_double(settings.weight))
    h("StructPCGSetTol", pcg, ctypes.c_double(tol))
    h("StructPCGSetTwoNorm", pcg, 1)
    h("StructPCGSetPrintLevel", pcg, 2)
    h("StructPCGSetPrecond", pcg, h.function("StructPFMGSolve"), h.function("StructPFMGSetup"), M)
    ready = time.perf_counter()
    h("StructPCGSetup", pcg, A, right, x)
    prepared = time.perf_counter()
    # The first iteration is not measured, since prepared solves of other methods touch no new memory either.
    h("StructPCGSetMaxIter", pcg, 1)
    h("StructPCGSolve", pcg, A, right, x)
    h("StructPCGSetMaxIter", pcg, 1000)
    h("StructVectorSetConstantValues", x, ctypes.c_double(0.0))
    again = time.perf_counter()
    h("StructPCGSolve", pcg, A, right, x)
    done = time.perf_counter()
    iterations = ctypes.c_int()
    h("StructPCGGetNumIterations", pcg, ctypes.byref(iterations))
    out = np.empty_like(b)
    h("StructVectorGetBoxValues", x, low, high, _doubles(out))
    for kind, made in (
        ("StructPCG", pcg), ("StructPFMG", M), ("StructVector", x), ("StructVector", right), ("StructMatrix", A),
        ("StructStencil", stencil), ("StructGrid", grid),
    ):  # fmt: skip
        h(f"{kind}Destroy", made)
    numbers = {"conversion": ready - start, "setup": prepared - ready, "solve": done - again}
    return out, {"iterations": iterations.value, **numbers}


def _child(folder: Path) -> None:
    import memory  # type: ignore[import-not-found]  # this file is run by its path, so its folder is on sys.path

    order = json.loads(sys.stdin.read())
    settings, shape = PFMGSettings(**order["settings"]), order["shape"]
    fields = np.fromfile(folder / "fields").reshape(len(shape) + 2, *shape)
    h = _Library()
    warm = np.ones((len(shape) + 2,) + (12,) * len(shape))
    _run(h, warm, order["tol"], settings)
    before = memory.forget_peak()
    x, numbers = _run(h, fields, order["tol"], settings)
    numbers["peak_bytes"] = memory.peak() - before
    x.tofile(folder / "x")
    (folder / "numbers").write_text(json.dumps(numbers), encoding="utf-8")
    h.finalize()


# The best settings in runs over all combinations at 64^3; their order depends on size and domain. The first is safe.
# With seven points on every level, which red-black relaxation implies, hypre fails in porous media.
SHORTLIST = (
    PFMGSettings(),
    PFMGSettings(weight=0.9),
    PFMGSettings(skip=0),
    PFMGSettings(sweeps=2),
    PFMGSettings(sweeps=2, skip=0),
    PFMGSettings(rap=1, weight=0.9),
    PFMGSettings(rap=1, sweeps=2),
    PFMGSettings(relax=2, rap=1),
    PFMGSettings(relax=2, rap=1, skip=0),
    PFMGSettings(relax=2, rap=1, sweeps=2),
    PFMGSettings(relax=2, rap=1, sweeps=2, skip=0),
)


if __name__ == "__main__":
    _child(Path(sys.argv[1]))
