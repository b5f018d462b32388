"""The demo: hot smoke rises past a knot, and every frame needs the solution of a new pressure system.

The obstacle is a surface mesh that the code generates. Three of the systems are also given, as bare sparse matrices and
without an initial guess, to deepcd, to PyAMG's smoothed aggregation with conjugate gradients, and to SciPy's conjugate
gradients, with the same tolerance. All are judged by the true residual, which is computed here.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deepcd import DeepCD
from deepcd.data import SCENES, files
from deepcd.pde import Grid, PressureSolve, ball
from deepcd.pde.solids import Solids, corner_distance
from deepcd.solvers.console import plain_console
from deepcd.solvers.options import usable_threads
from deepcd.solvers.simulation.running import Row
from deepcd.solvers.simulation.running import run as simulate
from deepcd.solvers.simulation.scenes import read_scene

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.console import Console

TOL = 1e-6
COMPARED = 3  # number of systems that are given to the other methods as well
SHOWN = 5  # number of frames in the picture
COLOURS = {"deepcd": "#c8102e", "PyAMG": "#1f6fb2", "SciPy CG": "#777777"}
HEADER = "frame  unknowns  method                    iter.   setup   solve  |b-Ax|/|b|"


@dataclass(frozen=True)
class Result:
    """How one method solved one system: times in seconds, `history` holds norms of the residual."""

    method: str
    x: NDArray[np.floating[Any]]
    iterations: int
    setup: float
    solve: float
    residual: float
    history: NDArray[np.float64]


def run(out: Path, size: int = 64, frames: int = 54, threads: int | None = None) -> bool:
    """Simulate, print a line per frame, and write a picture and an animation.

    Parameters
    ----------
    out : Path
        Folder of ``demo.png`` and ``demo.gif``, which is created if it does not exist.
    size : int, default 64
        Number of cells along each axis.
    frames : int, default 54
        Number of frames.
    threads : int, optional
        Number of threads. The default is one per core.

    Returns
    -------
    bool
        Whether deepcd solved every compared system to the tolerance, judged by the true residual.
    """
    console = plain_console()
    started = perf_counter()
    number = usable_threads() if threads is None else threads
    solver = DeepCD(threads=number)
    scene = replace(read_scene(SCENES / "plume.toml", size / 128), frames=frames)
    asked = {round(frames * (k + 1) / COMPARED) for k in range(COMPARED)}
    console.print("Compiling kernels, once per installation (half a minute on two cores) ...")
    _compile(solver)
    console.print(f"{scene.title}, {' x '.join(map(str, scene.shape))} cells")
    compared: list[tuple[int, PressureSolve, dict[str, Result]]] = []

    def tell(row: Row, solved: PressureSolve) -> None:
        frame = int(row["frame"])
        if frame == 1:
            console.print(f"First frame after {perf_counter() - started:.0f} s")
            console.print(HEADER, style="bold")
        console.print(
            f"{frame:5d} {row['unknowns']:9,.0f}  {'deepcd, prepared, warm':<24}{row['iterations']:7.0f}"
            f"{row['setup_s']:8.2f}{row['solve_s']:8.2f}"
        )
        if frame in asked:
            results = {"deepcd": _deepcd(solver, solved), "PyAMG": _pyamg(solved), "SciPy CG": _scipy(solved)}
            for result in results.values():
                _print(console, result, style="" if result.residual <= TOL else "red")
            compared.append((frame, solved, results))

    with tempfile.TemporaryDirectory() as folder:
        progress = simulate(scene, Path(folder), threads=number, tell=tell)
        film = sorted((Path(folder) / "film").glob("*.png"))
        out.mkdir(parents=True, exist_ok=True)
        files.replace(out / "demo.gif", (Path(folder) / "film.gif").read_bytes())
        _, last, results = compared[-1]
        results["SciPy CG"] = replace(results["SciPy CG"], history=_scipy_history(last))
        _draw(out / "demo.png", film, compared)
    solve = sum(row["solve_s"] for row in progress.rows)
    whole = sum(row["seconds"] for row in progress.rows)
    total = {name: sum(r[name].setup + r[name].solve for _, _, r in compared) for name in COLOURS}
    versus = ", ".join(
        f"{name} {s:.2f} s ({s / total['deepcd']:.1f}x)" for name, s in total.items() if name != "deepcd"
    )
    most = max(row["iterations"] for row in progress.rows)
    console.print(
        f"\n{frames} frames in {whole:.1f} s, of which the pressure solves took {solve:.1f} s, with at most {most:.0f} "
        f"iterations each\nThe {len(compared)} systems that all three methods solved from bare matrices: deepcd "
        f"{total['deepcd']:.2f} s, {versus}\nPicture and animation: {out / 'demo.png'}, {out / 'demo.gif'}; "
        f"{perf_counter() - started:.0f} s in total"
    )
    return all(results["deepcd"].residual <= TOL for _, _, results in compared)


def _compile(solver: DeepCD) -> None:
    """Compile what a frame needs: the solve here, and what a step does beside it in a second process.

    numba keeps what it compiles on disk, where both processes find it: each looks there before it compiles.
    """
    from deepcd.solvers.kernels import compilation
    from deepcd.solvers.kernels.faces import waves

    helper = get_context("spawn").Process(target=_compile_a_step, daemon=True)
    compiled = compilation.is_compiled(waves.ascend)
    if not compiled:
        helper.start()
    grid = Grid(np.zeros((24, 24, 24)), walls=["solid", "solid", ("solid", "air")])
    system = Solids(grid, corner_distance(ball((12, 12, 10), 4), grid)).system()
    solver.setup(system.A).solve(np.ones(len(system.cells)))
    if not compiled:
        helper.join()


def _compile_a_step() -> None:
    """Compile what a step of the simulation calls beside the solve."""
    scene = read_scene(SCENES / "plume.toml", 0.125)
    stepper: Any = scene.stepper(lambda system, b, x0: np.zeros_like(b))
    stepper.step(scene.start(stepper))


def _deepcd(solver: DeepCD, solved: PressureSolve) -> Result:
    """Solve with deepcd from the bare matrix, as a newcomer would."""
    started = perf_counter()
    solution = solver.solve(solved.system.A, solved.b, tol=TOL)
    seconds = perf_counter() - started
    return Result(
        method=f"deepcd {solution.preconditioner}",
        x=solution.x,
        iterations=solution.iterations,
        setup=seconds - solution.solve_time,
        solve=solution.solve_time,
        residual=_residual(solved, solution.x),
        history=np.asarray(solution.residuals),
    )


def _pyamg(solved: PressureSolve) -> Result:
    """Solve with smoothed aggregation and symmetric Gauss-Seidel sweeps, PyAMG's fastest setting here."""
    from deepcd.solvers.bench.methods import smoothed_aggregation

    history: list[float] = []
    started = perf_counter()
    hierarchy = smoothed_aggregation(solved.system.A)
    ready = perf_counter()
    x = hierarchy.solve(solved.b, tol=TOL, maxiter=500, accel="cg", residuals=history)
    done = perf_counter()
    return Result(
        method="PyAMG SA with CG",
        x=x,
        iterations=len(history) - 1,
        setup=ready - started,
        solve=done - ready,
        residual=_residual(solved, x),
        history=np.asarray(history),
    )


def _scipy(solved: PressureSolve) -> Result:
    """Solve with conjugate gradients and no preconditioner."""
    from scipy.sparse.linalg import cg

    counted: list[None] = []
    started = perf_counter()
    x, _ = cg(solved.system.A, solved.b, rtol=TOL, callback=lambda _: counted.append(None))
    seconds = perf_counter() - started
    return Result(
        method="SciPy CG",
        x=x,
        iterations=len(counted),
        setup=0.0,
        solve=seconds,
        residual=_residual(solved, x),
        history=np.empty(0),
    )


def _scipy_history(solved: PressureSolve) -> NDArray[np.float64]:
    """Return the residual norms of SciPy's conjugate gradients from a second run, which is not timed."""
    from scipy.sparse.linalg import cg

    A, b = solved.system.A, solved.b
    history = [np.linalg.norm(b)]
    cg(A, b, rtol=TOL, callback=lambda x: history.append(np.linalg.norm(b - A @ x)))
    return np.array(history)


def _residual(solved: PressureSolve, x: NDArray[np.floating[Any]]) -> float:
    return float(np.linalg.norm(solved.b - solved.system.A @ x) / np.linalg.norm(solved.b))


def _print(console: Console, result: Result, style: str) -> None:
    console.print(
        f"{'':17s}{result.method:<24}{result.iterations:7d}{result.setup:8.2f}{result.solve:8.2f}{result.residual:12.1e}",
        style=style or "dim",
    )


def _draw(path: Path, film: Sequence[Path], compared: list[tuple[int, PressureSolve, dict[str, Result]]]) -> None:
    """Draw frames in the upper half, convergence and times in the lower half."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.image import imread

    figure = Figure(figsize=(13, 7.4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    rows: Any = figure.subfigures(2, 1, height_ratios=(1, 1.1))
    above, below = rows
    chosen = [film[i] for i in np.unique(np.linspace(0, len(film) - 1, min(SHOWN, len(film))).round().astype(int))]
    for axes, file in zip(above.subplots(1, len(chosen), squeeze=False)[0], chosen, strict=True):
        axes.imshow(imread(file))
        axes.set_axis_off()
        axes.set_title(f"frame {int(file.stem)}", fontsize=10)
    above.suptitle("Hot smoke rises past a knot; each frame's pressure is solved by deepcd", fontsize=13)
    convergence, times = below.subplots(1, 2, width_ratios=(1.7, 1))
    frame, last, results = compared[-1]
    _convergence(convergence, frame, last, results)
    _times(times, [frame for frame, _, _ in compared], [results for _, _, results in compared])
    figure.savefig(path)


def _convergence(axes: Axes, frame: int, solved: PressureSolve, results: dict[str, Result]) -> None:
    """Draw relative residuals over iterations, on an axis that is linear up to ten and logarithmic beyond."""
    for name, result in results.items():
        relative = result.history / np.linalg.norm(solved.b)
        marker = "o" if len(relative) < 40 else None
        axes.semilogy(relative, color=COLOURS[name], marker=marker, markersize=4, linewidth=1.8, label=result.method)
    axes.axhline(TOL, color="#00000080", linewidth=0.8, linestyle="--")
    axes.set_xscale("symlog", linthresh=10, linscale=1.5)
    longest = max(result.iterations for result in results.values())
    axes.set_xticks([t for t in (0, 2, 4, 6, 8, 10, 20, 50, 100, 200, 500, 1000) if t < 1.5 * longest])
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.xaxis.set_minor_locator(_no_ticks())
    axes.set(xlim=(0, 1.15 * longest), xlabel="iteration (logarithmic beyond 10)", ylabel="|b - A x| / |b|")
    axes.set_title(f"Convergence in frame {frame}, from zero", fontsize=11)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.7, 0.18))
    axes.spines[["top", "right"]].set_visible(False)


def _no_ticks() -> Any:
    from matplotlib.ticker import NullLocator

    return NullLocator()


def _times(axes: Axes, frames: Sequence[int], compared: list[dict[str, Result]]) -> None:
    """Draw the seconds of setup and solve as stacked bars, grouped by frame."""
    width = 0.26
    for i, (name, colour) in enumerate(COLOURS.items()):
        places = np.arange(len(compared)) + (i - 1) * width
        setup = np.array([results[name].setup for results in compared])
        solve = np.array([results[name].solve for results in compared])
        axes.bar(places, setup, 0.9 * width, color=colour, alpha=0.45)
        axes.bar(places, solve, 0.9 * width, bottom=setup, color=colour, label=name)
        for place, seconds in zip(places, setup + solve, strict=True):
            axes.annotate(f"{seconds:.2g}", (place, seconds), ha="center", va="bottom", fontsize=8)
    axes.set_xticks(range(len(frames)), [f"frame {frame}" for frame in frames])
    axes.set_ylabel("seconds from the bare matrix (pale: setup)")
    axes.set_title("Time to solution", fontsize=11)
    axes.set_ylim(top=1.2 * axes.get_ylim()[1])  # room for the legend above the bars
    axes.legend(frameon=False, ncols=len(COLOURS), loc="upper center")
    axes.spines[["top", "right"]].set_visible(False)
