"""How do time and memory grow with the box?

    python -m benchmarks.scaling [--sizes 64 96 128 192 256] [--threads 1 2] [--repeats 5] [--warm]
    python -m benchmarks.scaling --draw [--warm]        draws the figure from the saved numbers

The systems are open-top boxes with obstacles, n^3 cells, with a smooth right-hand side, solved to 1e-6; 384 and 512 on
request. For "grid" the solver is given the grid and no matrix exists; for "matrix" it is given the bare sparse matrix,
up to 256^3, and finds the grid. Every size, input and number of threads has a process of its own, which compiles
everything on a small system before measurements start. Each repeat has a domain and a right-hand side of its own.
Memory is the peak of set-up and solve above the memory in use once A and b exist, in bytes per cell of the box. The
peak that Linux keeps (VmHWM) is reset at that moment, since the peak of getrusage includes the assembly of A.

Memory that a process writes to for the first time takes time: the system clears it, and the host of a virtual machine
may hand it out no faster than a disk. --warm measures without that: the process has written to as much memory as it
will need, and its allocator keeps all of it (glibc only). No peak can be measured then.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import json
import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.problems import RESULTS, save_results, test_grid
from deepcd import DeepCD
from deepcd.data.random_domains import resample
from deepcd.pde import Grid, poisson

TOL, FAMILY, FIRST_INSTANCE = 1e-6, "open-top", 300
LARGEST_MATRIX = 256
MEDIANS = ("unknowns", "setup", "solve", "peak per cell", "iterations", "residual")
WARM = 120  # bytes per cell that --warm writes to: more than any run needs, its matrix included
KEPT = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=4611686018427387904"
F64 = NDArray[np.float64]


def unknowns(grid: Grid) -> NDArray[np.bool_]:
    """Return the mask of the unknowns: the fluid cells that are not isolated."""
    neighbours, dirichlet = grid.couplings()
    return np.asarray(grid.fluid & (neighbours + dirichlet > 0))


def smooth(grid: Grid, member: NDArray[np.bool_], rng: np.random.Generator) -> F64:
    """Return interpolated noise on a lattice of four cells, as the other benchmarks have it, without using a matrix."""
    field = rng.standard_normal([max(2, round(n / 4.0) + 1) for n in grid.shape])
    for axis, n in enumerate(grid.shape):
        field = resample(field, axis, n)
    labels, count = ndimage.label(member)
    open_ones = np.unique(labels[member & (grid.couplings()[1] > 0)])
    b = field[member]
    for sealed in np.setdiff1d(np.arange(1, count + 1), open_ones):  # otherwise no solution exists
        chamber = labels[member] == sealed
        b[chamber] -= b[chamber].mean()
    return np.asarray(b)


def residual(grid: Grid, member: NDArray[np.bool_], b: F64, x: F64) -> float:
    """Return |b - A x| / |b|, in float64 by NumPy alone, some planes at a time and without a matrix."""
    neighbours, dirichlet = grid.couplings()
    diagonal = neighbours + dirichlet
    field = np.zeros([n + 2 for n in grid.shape])
    field[1:-1, 1:-1, 1:-1][member] = x
    right = np.zeros(grid.shape)
    right[member] = b
    total = 0.0
    for i in range(grid.shape[0]):
        inner = field[i + 1, 1:-1, 1:-1]
        around = field[i, 1:-1, 1:-1] + field[i + 2, 1:-1, 1:-1]
        around += field[i + 1, :-2, 1:-1] + field[i + 1, 2:, 1:-1] + field[i + 1, 1:-1, :-2] + field[i + 1, 1:-1, 2:]
        left = right[i] - (diagonal[i] * inner - around) / grid.spacing**2
        total += float(np.sum(left[member[i]] ** 2))
    return float(np.sqrt(total) / np.linalg.norm(b))


def _status(key: str) -> int:
    """Return a number of bytes from /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return 1024 * int(line.split()[1])
    raise RuntimeError(f"/proc/self/status has no {key}")


class Peak:
    """The peak of resident memory above the memory in use when this object is made."""

    def __init__(self) -> None:
        gc.collect()
        with contextlib.suppress(AttributeError):  # glibc keeps freed memory, and using it again would not be seen
            ctypes.CDLL(None).malloc_trim(0)
        self.how = "VmHWM, reset"
        try:
            Path("/proc/self/clear_refs").write_text("5")
            self._before = _status("VmRSS")
        except OSError:
            self.how = "ru_maxrss, which may hide what assembly had taken before"
            self._before = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def above(self) -> int:
        """Return the bytes."""
        if self.how.startswith("VmHWM"):
            return _status("VmHWM") - self._before
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - self._before


def child(size: int, way: str, threads: int, repeats: int, warm: bool) -> list[dict[str, Any]]:
    """Measure one size in this process; one row per repeat."""
    solver = DeepCD(threads=threads)
    small = test_grid(FAMILY, (48,) * 3, 99)
    member = unknowns(small)
    first = solver.setup(small if way == "grid" else poisson(small).A)
    first.solve(smooth(small, member, np.random.default_rng(0)), TOL)
    del first
    if warm:
        np.empty(WARM * size**3, dtype=np.uint8)[:: 1 << 12] = 1
    rows = []
    for instance in range(FIRST_INSTANCE, FIRST_INSTANCE + repeats):
        grid = test_grid(FAMILY, (size,) * 3, instance)
        member = unknowns(grid)
        b = smooth(grid, member, np.random.default_rng((777, instance, 1)))
        A = grid if way == "grid" else poisson(grid).A
        peak = None if warm else Peak()
        start = time.perf_counter()
        system = solver.setup(A)
        ready = time.perf_counter()
        solution = system.solve(b, TOL)
        done = time.perf_counter()
        memory = {"peak per cell": peak.above() / size**3, "memory": peak.how} if peak else {"memory": "touched before"}
        x, iterations = solution.x, solution.iterations
        del system, A
        rows.append({
            "size": size, "input": way, "threads": threads, "unknowns": len(b), "setup": ready - start,
            "solve": done - ready, **memory, "iterations": iterations,
            "status": solution.status.name, "preconditioner": solution.preconditioner,
            "residual": residual(grid, member, b, np.asarray(x, dtype=np.float64)),
        })  # fmt: skip
        del solution, x
    return rows


def medians(rows: list[dict[str, Any]], **wanted: Any) -> dict[int, dict[str, float]]:
    """Return the medians by size of the rows that have the wanted entries, where every repeat met the tolerance."""
    found = {}
    for size in sorted({r["size"] for r in rows}):
        own = [r for r in rows if r["size"] == size and all(r[k] == v for k, v in wanted.items())]
        if own and all("setup" in r and r["residual"] <= TOL for r in own):
            keys = [key for key in own[0] if key in MEDIANS]
            found[size] = {key: float(np.median([r[key] for r in own])) for key in keys}
    return found


def draw(name: str) -> Path:
    """Draw time and memory against the unknowns from the saved results."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    rows = json.loads((RESULTS / f"{name}.json").read_text())["rows"]
    panels = 2 if any("peak per cell" in r for r in rows) else 1
    figure, axes = plt.subplots(1, panels, figsize=(6 * panels, 4.8), layout="constrained", squeeze=False)
    colours = {1: "#1f6fb2", 2: "#c8102e"}
    for way, threads in dict.fromkeys((r["input"], r["threads"]) for r in rows):
        found = medians(rows, input=way, threads=threads)
        n = [m["unknowns"] for m in found.values()]
        style: dict[str, Any] = {
            "color": colours.get(threads, "black"),
            "fillstyle": "full" if way == "grid" else "none",
        }
        case = f"from a {way}, {threads} thread{'s' if threads > 1 else ''}"
        line = "-" if way == "grid" else "--"
        axes[0, 0].plot(n, [m["solve"] for m in found.values()], f"o{line}", label=f"solve {case}", **style)
        axes[0, 0].plot(n, [m["setup"] for m in found.values()], f"^{line}", label=f"set-up {case}", alpha=0.6, **style)
        if panels == 2:
            memory = [m["peak per cell"] * size**3 / 2**30 for size, m in found.items()]
            axes[0, 1].plot(n, memory, f"o{line}", label=case, **style)
    for axis, title in zip(axes[0], ("seconds, median", "peak memory above A and b, GiB"), strict=False):
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xlabel("unknowns")
        axis.set_title(title)
        axis.grid(alpha=0.3, which="both")
        axis.legend(frameon=False, fontsize=8)
    figure.suptitle(f"Open-top boxes with obstacles, residual {TOL:g}")
    path = RESULTS / f"{name}.png"
    figure.savefig(path, dpi=110)
    return path


def main() -> None:
    """Start a process per size, print and save what they measured, and draw it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 96, 128, 192, 256])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--warm", action="store_true", help="in memory that has been written to before")
    parser.add_argument("--draw", action="store_true", help="only draw the saved results")
    parser.add_argument("--child", choices=("grid", "matrix"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    name = "scaling-warm" if args.warm else "scaling"
    if args.draw:
        print("drawn", draw(name))
        return
    if args.child:
        print(json.dumps(child(args.sizes[0], args.child, args.threads[0], args.repeats, args.warm)))
        return
    rows: list[dict[str, Any]] = []
    print("  size input   threads   unknowns  setup s  solve s  iterations  bytes/cell  worst residual")
    for size in args.sizes:
        for way in ("grid", "matrix") if size <= LARGEST_MATRIX else ("grid",):
            for threads in args.threads:
                order = ["--sizes", size, "--threads", threads, "--repeats", args.repeats, "--child", way]
                command = [sys.executable, "-m", "benchmarks.scaling", *map(str, order), *["--warm"] * args.warm]
                environment = os.environ | ({"GLIBC_TUNABLES": KEPT} if args.warm else {})
                run = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True, env=environment)
                label = f"{size:4d}^3 {way:7s} {threads:7d}"
                if run.returncode:  # most likely out of memory; the row says so
                    rows.append({"size": size, "input": way, "threads": threads, "status": f"exit {run.returncode}"})
                    print(f"{label}  failed with exit code {run.returncode}", flush=True)
                    continue
                own = json.loads(run.stdout)
                rows += own
                m = medians(own).get(size)
                worst = max(r["residual"] for r in own)
                if m is None:
                    print(f"{label}  tolerance not met, residual {worst:.1e}", flush=True)
                    continue
                text = f"{m['unknowns']:10.0f} {m['setup']:8.3f} {m['solve']:8.3f} {m['iterations']:11g}"
                print(f"{label} {text} {m.get('peak per cell', np.nan):11.1f} {worst:15.1e}", flush=True)
    print("saved", save_results(name, rows, tol=TOL, repeats=args.repeats))
    print("drawn", draw(name))


if __name__ == "__main__":
    main()
