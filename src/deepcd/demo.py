"""The demo: a ball sweeps through a wind tunnel, and every position gives a new pressure matrix to be solved.

Each system is handed over as a bare sparse matrix, so its time contains finding the grid, the setup and the solve.
Beside deepcd, the first system of every size is solved by SciPy's conjugate gradients and by PyAMG's smoothed
aggregation with conjugate gradients, to the same tolerance. What counts is the true residual, computed here for all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from deepcd import DeepCD
from deepcd.pde import Grid, PoissonSystem, ball, domain, poisson, pressure_rhs, project, swirling_flow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TOL = 1e-6
RADIUS = 0.15  # of the ball, in edges of the tunnel
COLOURS = {"deepcd": "#c8102e", "PyAMG": "#1f6fb2", "SciPy CG": "#777777"}
HEADER = "  # cells  unknowns  method                    iter.   setup   solve  |b-Ax|/|b|"


@dataclass(frozen=True)
class Position:
    """One position of the ball: its grid and pressure system, the velocity to project, and the right-hand side."""

    grid: Grid
    system: PoissonSystem
    velocity: tuple[NDArray[np.float64], ...]
    b: NDArray[np.float64]


@dataclass(frozen=True)
class Result:
    """What one method did with one system; times in seconds, `history` in norms of the residual."""

    method: str
    x: NDArray[np.floating[Any]]
    iterations: int
    setup: float
    solve: float
    residual: float
    history: NDArray[np.float64]

    @property
    def seconds(self) -> float:
        """Setup and solve together."""
        return self.setup + self.solve


def run(out: Path, size: int = 96, systems: int = 12, threads: int | None = None) -> bool:
    """Solve the systems, print a line for each, and draw the picture.

    Parameters
    ----------
    out : Path
        Folder of ``demo.png``; made if it is not there.
    size : int, default 96
        Cells per axis of the largest tunnel; the others have two thirds and five sixths of it.
    systems : int, default 12
        Number of positions of the ball.
    threads : int, optional
        As in :class:`deepcd.DeepCD`.

    Returns
    -------
    bool
        Whether deepcd solved all of them to the tolerance, by the true residual.
    """
    console = Console(highlight=False, soft_wrap=True)
    started = perf_counter()
    solver = DeepCD(threads=threads)
    _compile(solver, console)

    console.print(HEADER, style="bold")
    shown: list[tuple[Position, Result]] = []
    compared: list[dict[str, Result]] = []
    ours: list[Result] = []
    sizes = [round(size * (6 - 3 * (systems - 1 - k) // systems) / 6) for k in range(systems)]
    for k, n in enumerate(sizes):
        position = _position(n, (k + 0.5) / systems)
        result = _deepcd(solver, position)
        ours.append(result)
        _print(console, result, f"{k + 1:3d} {n:3d}^3 {len(position.b):9,d}", style="" if _solved(result) else "red")
        if k == 0 or n != sizes[k - 1]:
            others = {"PyAMG": _pyamg(position), "SciPy CG": _scipy(position)}
            for other in others.values():
                _print(console, other, " " * 19, style="dim")
            shown.append((position, result))
            compared.append({"deepcd": result, **others})

    solved = sum(map(_solved, ours))
    console.print(
        f"\n{solved} of {systems} systems solved to {TOL:g} by the true residual, "
        f"in {sum(result.seconds for result in ours):.2f} s"
    )
    total = {name: sum(results[name].seconds for results in compared) for name in COLOURS}
    versus = ", ".join(
        f"{name} {s:.2f} s ({s / total['deepcd']:.1f}x)" for name, s in total.items() if name != "deepcd"
    )
    console.print(f"On the {len(compared)} systems given to all three: deepcd {total['deepcd']:.2f} s, {versus}")
    compared[-1]["SciPy CG"] = replace(compared[-1]["SciPy CG"], history=_scipy_history(shown[-1][0]))
    out.mkdir(parents=True, exist_ok=True)
    _draw(out / "demo.png", shown, compared)
    console.print(f"Picture: {out / 'demo.png'}; all in all {perf_counter() - started:.0f} s")
    return solved == systems


def _compile(solver: DeepCD, console: Console) -> None:
    """Solve a small system of the same kind, so that the compilation is not counted as solving."""
    console.print("Compiling, once after the installation (up to a minute) ...")
    started = perf_counter()
    _deepcd(solver, _position(32, 0.5))
    console.print(f"... ready after {perf_counter() - started:.1f} s\n")


def _position(n: int, t: float) -> Position:
    """Return the tunnel of n^3 cells and unit length at time t in [0, 1]: open at both ends and above."""
    center = (0.72 - 0.44 * t, 0.5, 0.5 - 0.25 * math.cos(math.pi * t))
    motion = (-0.44, 0.0, 0.25 * math.pi * math.sin(math.pi * t))
    grid = domain((n, n, n), solid=ball(center, RADIUS), walls=["air", "solid", ("solid", "air")], spacing=1 / n)
    system = poisson(grid)
    velocity = swirling_flow(grid, seed=3, swirls=6, stream=(1.0, 0.0, 0.0), solid_velocity=motion)
    return Position(grid, system, velocity, pressure_rhs(system, velocity))


def _deepcd(solver: DeepCD, position: Position) -> Result:
    started = perf_counter()
    solution = solver.solve(position.system.A, position.b, tol=TOL)
    seconds = perf_counter() - started
    return Result(
        method=f"deepcd {solution.preconditioner}",
        x=solution.x,
        iterations=solution.iterations,
        setup=seconds - solution.solve_time,
        solve=solution.solve_time,
        residual=_residual(position, solution.x),
        history=np.asarray(solution.residuals),
    )


def _pyamg(position: Position) -> Result:
    """Smoothed aggregation with forward and backward Gauss-Seidel, which is symmetric and its fastest setting here."""
    import pyamg
    from scipy.sparse import csr_matrix

    history: list[float] = []
    started = perf_counter()
    hierarchy = pyamg.smoothed_aggregation_solver(
        csr_matrix(position.system.A),
        presmoother=("gauss_seidel", {"sweep": "forward"}),
        postsmoother=("gauss_seidel", {"sweep": "backward"}),
    )
    ready = perf_counter()
    x = hierarchy.solve(position.b, tol=TOL, maxiter=500, accel="cg", residuals=history)
    done = perf_counter()
    return Result(
        method="PyAMG SA with CG",
        x=x,
        iterations=len(history) - 1,
        setup=ready - started,
        solve=done - ready,
        residual=_residual(position, x),
        history=np.asarray(history),
    )


def _scipy(position: Position) -> Result:
    """Conjugate gradients without a preconditioner."""
    from scipy.sparse.linalg import cg

    counted: list[None] = []
    started = perf_counter()
    x, _ = cg(position.system.A, position.b, rtol=TOL, callback=lambda _: counted.append(None))
    seconds = perf_counter() - started
    return Result(
        method="SciPy CG",
        x=x,
        iterations=len(counted),
        setup=0.0,
        solve=seconds,
        residual=_residual(position, x),
        history=np.empty(0),
    )


def _scipy_history(position: Position) -> NDArray[np.float64]:
    """Residual norms of SciPy's conjugate gradients, which do not tell them: from a second run that is not timed."""
    from scipy.sparse.linalg import cg

    A, b = position.system.A, position.b
    history = [np.linalg.norm(b)]
    cg(A, b, rtol=TOL, callback=lambda x: history.append(np.linalg.norm(b - A @ x)))
    return np.array(history)


def _residual(position: Position, x: NDArray[np.floating[Any]]) -> float:
    return float(np.linalg.norm(position.b - position.system.A @ x) / np.linalg.norm(position.b))


def _solved(result: Result) -> bool:
    return result.residual <= TOL


def _print(console: Console, result: Result, start: str, style: str) -> None:
    console.print(
        f"{start}  {result.method:<24}{result.iterations:7d}{result.setup:8.2f}{result.solve:8.2f}"
        f"{result.residual:12.1e}",
        style=style,
    )


def _draw(path: Path, shown: list[tuple[Position, Result]], compared: list[dict[str, Result]]) -> None:
    """Draw pressure slices above, convergence and times below."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 8.2), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    rows: Any = figure.subfigures(2, 1, height_ratios=(1.15, 1))
    above, below = rows
    slices = above.subplots(1, len(shown), squeeze=False)[0]
    fields = [position.system.to_field(result.x, fill=np.nan) for position, result in shown]
    limit = max(float(np.nanpercentile(np.abs(field[:, field.shape[1] // 2]), 99.5)) for field in fields)
    image: Any = None
    for axes, (position, result), field in zip(slices, shown, fields, strict=True):
        image = _slice(axes, position, result, field, limit)
    above.colorbar(image, ax=list(slices), label="pressure", fraction=0.02, pad=0.01)
    above.suptitle("Pressure and projected velocity around a ball that moves through a wind tunnel", fontsize=13)
    convergence, times = below.subplots(1, 2, width_ratios=(1.7, 1))
    _convergence(convergence, shown[-1][0], compared[-1])
    _times(times, shown, compared)
    figure.savefig(path)


def _slice(axes: Axes, position: Position, result: Result, field: NDArray[np.float64], limit: float) -> Any:
    """Draw the plane through the middle of the tunnel, with streamlines of the projected velocity."""
    n = field.shape[0]
    middle = n // 2
    u, _, w = project(position.system, position.velocity, result.x)
    along = 0.5 * (u[1:, middle] + u[:-1, middle])
    up = 0.5 * (w[:, middle, 1:] + w[:, middle, :-1])
    along[~position.grid.fluid[:, middle]] = np.nan
    image = axes.imshow(
        field[:, middle].T, origin="lower", extent=(0, 1, 0, 1), cmap="RdBu_r", vmin=-limit, vmax=limit,
        interpolation="bilinear",
    )  # fmt: skip
    at = (np.arange(n) + 0.5) / n
    axes.streamplot(at, at, along.T, up.T, color="#00000070", linewidth=0.6, density=1.1, arrowsize=0.6)
    axes.set(xlim=(0, 1), ylim=(0, 1), xticks=[], yticks=[], facecolor="#404040")
    axes.set_title(f"${n}^3$, {result.iterations} iterations, {result.seconds:.2f} s", fontsize=11)
    return image


def _convergence(axes: Axes, position: Position, results: dict[str, Result]) -> None:
    """Draw relative residuals over iterations, linear up to ten and logarithmic beyond."""
    for name, result in results.items():
        relative = result.history / np.linalg.norm(position.b)
        marker = "o" if len(relative) < 40 else None
        axes.semilogy(relative, color=COLOURS[name], marker=marker, markersize=4, linewidth=1.8, label=result.method)
    axes.axhline(TOL, color="#00000080", linewidth=0.8, linestyle="--")
    axes.set_xscale("symlog", linthresh=10, linscale=1.5)
    longest = max(result.iterations for result in results.values())
    axes.set_xticks([t for t in (0, 2, 4, 6, 8, 10, 20, 50, 100, 200, 500, 1000) if t < 1.5 * longest])
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.xaxis.set_minor_locator(_no_ticks())
    axes.set(xlim=(0, 1.15 * longest), xlabel="iteration (logarithmic beyond 10)", ylabel="|b - A x| / |b|")
    axes.set_title(f"Convergence at {position.grid.shape[0]}$^3$", fontsize=11)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.7, 0.18))
    axes.spines[["top", "right"]].set_visible(False)


def _no_ticks() -> Any:
    from matplotlib.ticker import NullLocator

    return NullLocator()


def _times(axes: Axes, shown: list[tuple[Position, Result]], compared: list[dict[str, Result]]) -> None:
    """Draw setup and solve seconds as stacked bars, grouped by size."""
    width = 0.26
    for i, (name, colour) in enumerate(COLOURS.items()):
        places = np.arange(len(compared)) + (i - 1) * width
        setup = np.array([results[name].setup for results in compared])
        solve = np.array([results[name].solve for results in compared])
        axes.bar(places, setup, 0.9 * width, color=colour, alpha=0.45)
        axes.bar(places, solve, 0.9 * width, bottom=setup, color=colour, label=name)
        for place, seconds in zip(places, setup + solve, strict=True):
            axes.annotate(f"{seconds:.2g}", (place, seconds), ha="center", va="bottom", fontsize=8)
    axes.set_xticks(range(len(shown)), [f"${position.grid.shape[0]}^3$" for position, _ in shown])
    axes.set_ylabel("seconds from the bare matrix (pale: setup)")
    axes.set_title("Time to solution", fontsize=11)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
