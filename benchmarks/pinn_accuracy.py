"""What error does a network reach in how many seconds?

    python -m benchmarks.pinn_accuracy [--problems burgers l_shape ...] [--budget 30] [--seeds 5] [--first 0]
                                       [--set width=20 points=5000 ...] [--sampler aas] [--save NAME]

The problems are those of `deepcd.pinn.PROBLEMS`, and some more that are stated below in a few lines. Their solutions
are known, except that of the cavity, whose velocities are compared with those that Ghia, Ghia and Shin tabulate
("High-Re solutions for incompressible flow using the Navier-Stokes equations and a multigrid method", J. Comput. Phys.
48, 1982, tables I and II, Re = 100).

Seconds are CPU seconds of the process, on one thread; the seconds that the error takes are counted as well. Errors are
those of the iterate that would be returned, which is chosen on held-out points, at the end of the last round within the
budget. Settings were chosen on seeds from 100 up.
"""

from __future__ import annotations

import argparse
import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import cos, exp, pi, sin, sqrt

from benchmarks.problems import save_results, saved_rows
from deepcd import pinn
from deepcd.pde.analytic_meshes import torus as torus_mesh
from deepcd.solvers.pinn.settings import by_budget

Problem = pinn.Problem


def l_shape() -> Problem:
    """Poisson's equation on an L-shape with Dirichlet, Neumann and Robin sides."""
    L = pinn.polygon((0, 0), (2, 0), (2, 1), (1, 1), (1, 2), (0, 2))
    known = lambda x, y: exp(x) * sin(y) + x * x  # noqa: E731
    flux = lambda x, y, n: known(x, y).x * n.x + known(x, y).y * n.y  # noqa: E731
    fixed = pinn.on(L[0, 1, 2], lambda x, y, u: u - known(x, y))
    free = pinn.on(L[3, 4], lambda x, y, u, n: u.n - flux(x, y, n))
    mixed = pinn.on(L[5], lambda x, y, u, n: u.n + 3 * u - flux(x, y, n) - 3 * known(x, y))
    return Problem(lambda u: u.xx + u.yy - 2, L, fixed, free, mixed, solution=known, name="l_shape")


def star() -> Problem:
    """Poisson's equation inside a level set, with a Robin condition all round."""
    phi = lambda x, y: sqrt(x * x + y * y) - 0.7 - 0.15 * cos(5 * torch.atan2(y, x))  # noqa: E731
    S = pinn.level_set(phi, x=(-1, 1), y=(-1, 1))
    known = lambda x, y: exp(x) * sin(y) + x * x  # noqa: E731
    robin = lambda x, y, u, n: u.n + u - known(x, y).x * n.x - known(x, y).y * n.y - known(x, y)  # noqa: E731
    return Problem(lambda u: u.xx + u.yy - 2, S, pinn.on(S.boundary, robin), solution=known, name="star")


def helmholtz() -> Problem:
    """Helmholtz' equation with the wave number 20."""
    D = pinn.box(x=(0, 1), y=(0, 1))
    known = lambda x, y: sin(10 * x + 7 * y)  # noqa: E731
    equation = lambda x, y, u: u.xx + u.yy + 400 * u - 251 * known(x, y)  # noqa: E731
    return Problem(equation, D, pinn.on(D.boundary, lambda x, y, u: u - known(x, y)), solution=known, name="helmholtz")


def elasticity() -> Problem:
    """Linear elasticity on the L-shape, with the body force of a given displacement."""
    L = pinn.polygon((0, 0), (2, 0), (2, 1), (1, 1), (1, 2), (0, 2))
    known = lambda x, y: (sin(pi * x) * cos(y), x * y**2)  # noqa: E731

    def force(u: Any, v: Any) -> list[Any]:
        trace, shear = u.x + v.y, 0.5 * (u.y + v.x)
        return [(trace + u.x).x + shear.y, shear.x + (trace + v.y).y]

    equation = lambda x, y, u, v: [a - b for a, b in zip(force(u, v), force(*known(x, y)), strict=True)]  # noqa: E731
    fixed = lambda x, y, u, v: [u - known(x, y)[0], v - known(x, y)[1]]  # noqa: E731
    return Problem(equation, L, pinn.on(L.boundary, fixed), fields="uv", solution=known, name="elasticity")


def torus() -> Problem:
    """Poisson's equation in three dimensions, inside a torus of 4,096 triangles."""
    B = pinn.body(torus_mesh(major=0.6, minor=0.25, around=64, across=32))
    known = lambda x, y, z: exp(x) * sin(y) + z * z  # noqa: E731
    fixed = pinn.on(B.boundary, lambda x, y, z, u: u - known(x, y, z))
    return Problem(lambda u: u.xx + u.yy + u.zz - 2, B, fixed, solution=known, name="torus")


def cavity() -> Problem:
    """The lid-driven cavity at Re = 100, with a lid whose ends are smoothed."""
    D = pinn.box(x=(0, 1), y=(0, 1))

    def flow(u: Any, v: Any, p: Any, reynolds: float = 100) -> list[Any]:
        along = u * u.x + v * u.y + p.x - (u.xx + u.yy) / reynolds
        return [along, u * v.x + v * v.y + p.y - (v.xx + v.yy) / reynolds, u.x + v.y]

    lid = pinn.on(D["y+"], lambda x, u, v: [u - (1 - (2 * x - 1) ** 16) ** 2, v])
    return Problem(flow, D, pinn.on(D["x-", "x+", "y-"], lambda u, v: [u, v]), lid, fields="uvp", name="cavity")


OWN: dict[str, Callable[[], Problem]] = {
    "l_shape": l_shape,
    "star": star,
    "helmholtz": helmholtz,
    "elasticity": elasticity,
    "torus": torus,
    "cavity": cavity,
}

# Ghia, Ghia and Shin, Re = 100: u along x = 1/2 by y, and v along y = 1/2 by x.
GHIA_U = {
    0.0547: -0.03717, 0.0625: -0.04192, 0.0703: -0.04775, 0.1016: -0.06434, 0.1719: -0.10150, 0.2813: -0.15662,
    0.4531: -0.21090, 0.5000: -0.20581, 0.6172: -0.13641, 0.7344: 0.00332, 0.8516: 0.23151, 0.9531: 0.68717,
    0.9609: 0.73722, 0.9688: 0.78871, 0.9766: 0.84123,
}  # fmt: skip
GHIA_V = {
    0.0625: 0.09233, 0.0703: 0.10091, 0.0781: 0.10890, 0.0938: 0.12317, 0.1563: 0.16077, 0.2266: 0.17507,
    0.2344: 0.17527, 0.5000: 0.05454, 0.8047: -0.24533, 0.8594: -0.22445, 0.9063: -0.16914, 0.9453: -0.10313,
    0.9531: -0.08864, 0.9609: -0.07391, 0.9688: -0.05906,
}  # fmt: skip


def against_ghia(run: pinn.Run) -> float:
    """Return the largest difference of the velocities from the tabulated ones, in units of the speed of the lid."""
    u = run.predict([[0.5, y] for y in GHIA_U], "u") - np.array(list(GHIA_U.values()))
    v = run.predict([[x, 0.5] for x in GHIA_V], "v") - np.array(list(GHIA_V.values()))
    return float(max(np.abs(u).max(), np.abs(v).max()))


def measured(name: str, seed: int, budget: float, **settings: Any) -> dict[str, Any]:
    """Return the error of the iterate that is returned after some CPU seconds."""
    torch.set_num_threads(1)
    problem = OWN[name]() if name in OWN else pinn.problem(name)
    begun = time.process_time()
    curve: list[tuple[float, float, float]] = []

    def note(run: pinn.Run) -> bool:
        theta = run.objective.theta
        run.finish()
        error = against_ghia(run) if problem.solution is None else run.error()
        run.objective.load(theta)
        curve.append((time.process_time() - begun, error, run.history[-1]["steps"]))
        return curve[-1][0] >= budget

    sized = {"width": pinn.RunSettings.width, "points": pinn.RunSettings.points} | by_budget(budget)
    sized = {name: value for name, value in sized.items() if name not in problem.recommended}
    run = pinn.solve(problem, seed=seed, budget=1e9, callback=note, **sized | settings)
    within = [row for row in curve if row[0] <= budget] or curve[:1]
    seconds, error, steps = within[-1]
    return {
        "problem": name,
        "sampler": settings.get("sampler", "aas"),
        "seed": seed,
        "budget": budget,
        "seconds": seconds,
        "error": error,
        "metric": problem.metric,
        "steps": steps,
        "parameters": len(run.objective.theta),
        "curve": curve,
    }


def main() -> None:
    """Print and save the errors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="+", default=list(OWN), choices=[*OWN, *pinn.PROBLEMS])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--budget", type=float, default=30.0, help="CPU seconds")
    parser.add_argument("--sampler", default="aas", choices=pinn.SAMPLERS)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=NUMBER", help="settings of the runs")
    parser.add_argument("--save", default="", help="name of the file of results")
    args = parser.parse_args()
    pairs = [one.split("=") for one in args.set]
    settings = {name: int(value) if value.isdigit() else float(value) for name, value in pairs}
    rows = saved_rows(args.save) if args.save else []
    for name in args.problems:
        rows = [
            row for row in rows if (row["problem"], row["budget"], row["sampler"]) != (name, args.budget, args.sampler)
        ]
        errors = []
        for seed in range(args.first, args.first + args.seeds):
            row = measured(name, seed, args.budget, sampler=args.sampler, **settings)
            rows.append(row)
            errors.append(row["error"])
            print(
                f"{name:16s} seed {seed}: {row['error']:.2e} after {row['seconds']:.1f} CPU s, "
                f"{row['steps']:.0f} steps, {row['parameters']} parameters",
                flush=True,
            )
            if args.save:
                save_results(args.save, rows)
        print(f"{name:16s} median {np.median(errors):.2e}, largest {max(errors):.2e}", flush=True)


if __name__ == "__main__":
    main()
