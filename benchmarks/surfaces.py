"""How exact are pressure and velocity beside curved surfaces: whole cells against the free surface and cut cells?

    python -m benchmarks.surfaces [--sizes 16 32 64 128]

Three questions, in two dimensions, on grids of 16^2 to 128^2 cells:

- A liquid turns with its tank, under gravity 1, and its surface is a parabola. In the frame that turns it stays at rest
  under a quadratic pressure. How large is the error of the pressure, and how fast is the liquid after a step?
- A stream meets a cylinder. How far are the potential and the speed beside it from the exact ones?
- A tank with a ball in it, whose surface lies above or across the ball, and a drop without gravity: how fast is what
  should be at rest after ten steps of the simulation?

"Whole cells" are those whose centres are in the liquid, with the pressure 0 at the centres of air, or outside of the
cylinder. "Cut" is what simulations take: the ghost-fluid surface of Gibou, Fedkiw, Cheng and Kang (2002), and the open
parts of faces of Batty, Bertails and Bridson (2007). Every system goes to DeepCD as a bare matrix. The order is that of
the error from one grid to the next.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.problems import RESULTS, save_results
from deepcd import DeepCD
from deepcd.pde import Cell, CutSystem, Grid, LiquidStepper, ball, domain, free_surface, pressure_step, redistance
from deepcd.pde.mac import faces_of
from deepcd.pde.solids import Solids, corner_distance

F64 = NDArray[np.float64]
TOL = 1e-11
TURNING = 1.3  # angular velocity of the tank
LOWEST = 0.37  # height of the parabola in the middle of the tank
CENTER, RADIUS = (0.513, 0.486), 0.2037  # the cylinder


def solve(system: CutSystem, b: F64, _: F64) -> F64:
    """Return the pressure, by DeepCD from the bare matrix."""
    solution = DeepCD(threads=1).solve(system.A, b, tol=TOL)
    if solution.info:
        raise RuntimeError(solution.message)
    return np.asarray(solution.x)


def places(grid: Grid, axis: int | None) -> list[F64]:
    """Return the coordinates of centres, or of the faces of an axis."""
    return list(
        np.meshgrid(
            *((np.arange(n + (d == axis)) + 0.5 * (d != axis)) * grid.spacing for d, n in enumerate(grid.shape)),
            indexing="ij",
        )
    )


def turning(n: int, whole: bool) -> tuple[float, float]:
    """Return the largest error of the pressure, and the largest velocity, after a step of length 1 from rest."""
    solids = Solids(Grid(np.zeros((n, n)), spacing=1 / n))
    x, z = places(solids.grid, None)
    below = LOWEST + TURNING**2 * (x - 0.5) ** 2 / 2 - z  # the exact pressure
    phi = redistance(-below, 1 / n)
    wet, slopes = phi < 0, solids.slopes()
    grid = Grid(np.where(wet, Cell.FLUID, Cell.AIR), spacing=1 / n)
    system = CutSystem(grid, solids.opened, slopes if whole else free_surface(phi, slopes))
    pull = TURNING**2 * (places(grid, 0)[0] - 0.5), np.full((n, n + 1), -1.0)
    flow, pressure, _ = pressure_step(system, solids.held(pull), np.zeros((n, n)), solve)
    speed = max(float(np.abs(u[faces_of(wet, grid, axis)]).max()) for axis, u in enumerate(flow))
    return float(np.abs(pressure - below)[wet].max()), speed


def stream(n: int, whole: bool) -> tuple[float, float]:
    """Return the largest error of the potential around a cylinder, and the mean one of the velocity within a radius."""
    box, cylinder = Grid(np.zeros((n, n)), spacing=1 / n), ball(CENTER, RADIUS)
    if whole:
        solids = Solids(domain((n, n), solid=cylinder, spacing=1 / n))
    else:
        solids = Solids(box, corner_distance(cylinder, box))

    def dipole(axis: int | None) -> tuple[F64, F64, F64]:
        x, z = (a - c for a, c in zip(places(box, axis), CENTER, strict=True))
        return x, z, RADIUS**2 / (x**2 + z**2)

    # The velocity is the curl of z - R^2 z / r^2 and the gradient of x + R^2 x / r^2: what goes through walls is exact.
    corner = np.meshgrid(*[np.arange(n + 1) / n - c for c in CENTER], indexing="ij")
    with np.errstate(divide="ignore", invalid="ignore"):
        current = corner[1] - RADIUS**2 * corner[1] / (corner[0] ** 2 + corner[1] ** 2)
    exact = np.diff(current, axis=1) * n, -np.diff(current, axis=0) * n
    start = list(solids.held((np.ones((n + 1, n)), np.zeros((n, n + 1)))))
    for axis, (component, through) in enumerate(zip(start, exact, strict=True)):
        for end in (0, -1):
            np.moveaxis(component, axis, 0)[end] = np.moveaxis(through, axis, 0)[end]
    flow, pressure, _ = pressure_step(solids.system(), (start[0], start[1]), np.zeros((n, n)), solve)
    x, _, share = dipole(None)
    outside = (1 / share > 1) & solids.grid.fluid  # centres
    error = (pressure + share * x)[outside]
    errors = []
    for axis, u in enumerate(flow):
        x, z, share = dipole(axis)
        speed = 1 - share * (x**2 - z**2) / (x**2 + z**2) if axis == 0 else -2 * share * x * z / (x**2 + z**2)
        near = (share < 1) & (share > 0.25) & (solids.opened[axis] > 0)
        errors.append(np.abs(u - speed)[near])
    return float(np.abs(error - error.mean()).max()), float(np.concatenate(errors).mean())


def resting(n: int, height: float | None) -> float:
    """Return the largest velocity after ten steps of a tank with a ball in it, or of a drop without gravity."""
    grid = Grid(np.zeros((n, n)), spacing=1 / n)
    gravity, solid = (0.0, None) if height is None else (1.0, ball((0.47, 0.35), 0.23))
    tank = LiquidStepper(grid, solve, gravity=gravity, dt=0.2 / n, solid=solid)
    x, z = places(grid, None)
    state = tank.start(np.hypot(x - 0.51, z - 0.48) - 0.31 if height is None else z - height)
    for _ in range(10):
        state = tank.step(state).state
    return max(float(np.abs(u).max()) for u in state.velocity)


PROBLEMS: dict[str, tuple[Callable[[int, bool], tuple[float, float]], str, str]] = {
    "turning tank": (turning, "pressure, largest error", "velocity, largest error"),
    "cylinder in a stream": (stream, "potential, largest error", "velocity nearby, mean error"),
}
RESTING: dict[str, float | None] = {"surface above the ball": 0.803, "surface across the ball": 0.421, "drop": None}


def table(rows: list[dict[str, Any]]) -> None:
    """Print the errors and their orders."""
    for name, (_, *measures) in PROBLEMS.items():
        for k, measure in enumerate(measures):
            print(f"\n{name}: {measure}\n{'cells':>8}{'whole cells':>14}{'order':>7}{'cut':>14}{'order':>7}")
            before: dict[bool, float] = {}
            for n in sorted({row["n"] for row in rows}):
                line = f"{n:>6}^2"
                for whole in (True, False):
                    (row,) = (r for r in rows if (r["problem"], r["n"], r["whole"]) == (name, n, whole))
                    order = f"{np.log2(before[whole] / row['errors'][k]):7.2f}" if whole in before else " " * 7
                    before[whole] = row["errors"][k]
                    line += f"{row['errors'][k]:14.2e}{order}"
                print(line)


def draw(rows: list[dict[str, Any]]) -> None:
    """Draw the errors over the number of cells, with slopes of first and second order."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    sizes = np.array(sorted({row["n"] for row in rows}))
    for axes, (name, (_, *measures)) in zip(figure.subplots(1, 2), PROBLEMS.items(), strict=True):
        for k, (measure, marker, style) in enumerate(zip(measures, "os", ("-", "--"), strict=True)):
            for whole, colour in ((True, "#777777"), (False, "#c8102e")):
                errors = [r["errors"][k] for n in sizes for r in rows
                          if (r["problem"], r["n"], r["whole"]) == (name, n, whole)]  # fmt: skip
                label = f"{measure}, {'whole cells' if whole else 'cut'}"
                axes.loglog(sizes, errors, style, marker=marker, color=colour, label=label)
        top, low = axes.get_ylim()[1], axes.get_ylim()[0]
        for order in (1, 2):
            line = 0.5 * top * (sizes[0] / sizes) ** order
            axes.loglog(sizes, line, ":", color="#1f6fb2", linewidth=1)
            axes.annotate(f"order {order}", (sizes[-1], line[-1]), color="#1f6fb2", fontsize=8, ha="right", va="bottom")
        axes.set(title=name, xlabel="cells per axis", ylim=(0.3 * low, 2 * top))
        axes.set_xticks(sizes, [str(n) for n in sizes])
        axes.minorticks_off()
        axes.legend(fontsize=8, frameon=False, loc="lower left")
    figure.savefig(RESULTS / "surfaces.png")


def main() -> None:
    """Print the tables, save the numbers and the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[16, 32, 64, 128])
    sizes = parser.parse_args().sizes
    rows: list[dict[str, Any]] = [
        {"problem": name, "n": n, "whole": whole, "errors": list(measure(n, whole))}
        for name, (measure, *_) in PROBLEMS.items()
        for n in sizes
        for whole in (True, False)
    ]
    table(rows)
    print("\nat rest for ten steps: largest velocity, as a part of g dt")
    for name, height in RESTING.items():
        speeds = {n: resting(n, height) / (0.2 / n) for n in sizes}
        rows += [{"problem": name, "n": n, "speed": speed} for n, speed in speeds.items()]
        print(f"{name:>26}" + "".join(f"  {n}^2: {speed:.1e}" for n, speed in speeds.items()))
    save_results("surfaces", rows)
    draw([row for row in rows if "errors" in row])


if __name__ == "__main__":
    main()
