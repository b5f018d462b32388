"""The commands of ``deepcd``.

Standard output is kept for ``--json``; messages for people go to standard error. The exit status is 0 for success, 1 if
a system was not solved to its tolerance, and 2 for bad input. Packages are imported when a command runs, so that the
help appears at once.
"""

from __future__ import annotations

import json
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from deepcd.messages import print_json, refuse, require, say
from deepcd.solve_command import solve

LIBRARIES = ("numpy", "scipy", "numba", "torch", "pyamg", "safetensors")

app = typer.Typer(
    help="Learned solvers for sparse linear systems from partial differential equations.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Number of threads. The default is one per core.")]


app.command()(solve)


@app.command()
def info(*, as_json: Json = False) -> None:
    """Show versions, the processor, and how the shipped weights were trained."""
    from deepcd.data import weight_files
    from deepcd.solvers.backends.backend import devices
    from deepcd.solvers.bench.page import processor

    weights: dict[str, Any] = {}
    for name in sorted(weight_files.checksums()):
        try:
            weights[name] = weight_files.load(weight_files.SHIPPED / name, None)[1]
        except weight_files.WeightFileError as error:
            weights[name] = {"error": str(error)}
    facts = {
        "deepcd": _version("deepcd"),
        "python": platform.python_version(),
        **{name: _version(name) for name in LIBRARIES},
        "system": platform.platform(),
        "cpu": processor(),
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        **devices(),
        "weights": weights,
    }
    if as_json:
        print_json(facts)
        return

    from rich.table import Table

    from deepcd.solvers.console import plain_console

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for key, value in facts.items():
        if key != "weights":
            table.add_row(key.replace("_", " "), str(value))
    for name, record in weights.items():
        table.add_section()
        table.add_row("weights", name)
        for key, value in record.items():
            table.add_row(f"  {key}", value if isinstance(value, str) else json.dumps(value))
    if not weights:
        table.add_row("weights", "none shipped")
    plain_console().print(table, soft_wrap=False)


@app.command()
def demo(
    *,
    out: Annotated[Path, typer.Option(help="Folder that the picture and the animation are written to.")] = Path(
        "out/demo"
    ),
    size: Annotated[int, typer.Option(min=16, max=256, help="Number of cells along each axis.")] = 64,
    frames: Annotated[int, typer.Option(min=3, max=1000, help="Number of frames.")] = 54,
    threads: Threads = None,
) -> None:
    """Simulate smoke rising past a mesh, and compare deepcd with SciPy and PyAMG on some of the pressure systems."""
    require("matplotlib", "PIL", extra="simulate", by="deepcd demo")
    from deepcd.demo import run

    raise typer.Exit(0 if run(out, size=size, frames=frames, threads=threads) else 1)


@app.command()
def train(
    *,
    dim: Annotated[int, typer.Option(min=2, max=3, help="Number of space dimensions.")],
    out: Annotated[Path, typer.Option(help="Weight file to write. Checkpoints are written beside it.")],
    steps: Annotated[int, typer.Option(min=1, help="Number of optimiser steps in the whole schedule.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of the domains, right-hand sides and initial weights.")] = 0,
    start: Annotated[Path | None, typer.Option(help="Weight file to start from. A lower --rate is advisable.")] = None,
    rate: Annotated[float, typer.Option(help="Highest learning rate.")] = 3e-3,
    faces: Annotated[bool, typer.Option("--faces", help="Train for grids with variable coefficients.")] = False,
    resume: Annotated[bool, typer.Option(help="Continue from the last checkpoint.")] = False,
    threads: Annotated[int, typer.Option(min=1, help="Number of threads that torch uses.")] = 1,
) -> None:
    """Train the multigrid network on random domains, or on random coefficients."""
    import logging

    require("torch", "matplotlib", extra="train", by="deepcd train")
    from deepcd.solvers import training

    logging.basicConfig(level=logging.INFO, format="%(message)s")  # where there is no terminal for the progress bar
    try:
        run = training.train_faces if faces else training.train
        run(ndim=dim, out=out, steps=steps, seed=seed, start=start, rate=rate, resume=resume, threads=threads)
    except (ValueError, TypeError, OSError) as error:
        refuse(str(error))


@app.command()
def pinn(
    problem: Annotated[
        str, typer.Argument(help='Name of a problem, or FILE.py:NAME for one of your own; "list" shows the names.')
    ],
    *,
    out: Annotated[
        Path | None, typer.Option(help="Folder of all that is written. The default is out/PROBLEM, or out/NAME.")
    ] = None,
    sampler: Annotated[str, typer.Option(help="Name of the sampler that moves the training points.")] = "aas",
    optimizer: Annotated[
        str | None,
        typer.Option(
            help="Optimiser: gauss-newton, ssbroyden, ssbfgs, lbfgs, soap or adam. The default suits the size."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the network, the sampler and the boundary points.")] = 0,
    seeds: Annotated[
        int,
        typer.Option(
            min=1, help="Number of runs: with this seed and the following ones, each in a process of its own."
        ),
    ] = 1,
    budget: Annotated[float | None, typer.Option(help="Seconds after which a run ends.")] = None,
    steps: Annotated[
        int | None, typer.Option(help="Number of steps after which a run ends: Gauss-Newton steps, or gradients.")
    ] = None,
    points: Annotated[int | None, typer.Option(help="Number of training points in the domain.")] = None,
    resume: Annotated[bool, typer.Option(help="Continue from the checkpoint in the folder.")] = False,
    threads: Annotated[int, typer.Option(min=1, help="Number of threads that torch uses.")] = 1,
    as_json: Json = False,
) -> None:
    """Train a network to solve a PDE, on points that a sampler moves to where the residual is large.

    FILE.py is a program of yours, which is executed. NAME is a pinn.Problem in it, or a function without arguments that
    returns one. The folder gets checkpoint, metrics, pictures, and the fields, for pinn.load.
    """
    require("matplotlib", "torch", "zuko", "pytorch_optimizer", extra="pinn", by="deepcd pinn")
    from deepcd.solvers.pinn import command

    try:
        if problem == "list":
            rows: Any = command.listing()
        else:
            folder = out if out is not None else Path("out") / problem.rpartition(":")[2]
            options = {"sampler": sampler, "optimizer": optimizer, "budget": budget, "steps": steps, "resume": resume}
            options |= {} if points is None else {"points": points}
            rows = command.run(problem, folder, range(seed, seed + seeds), threads, options)
    except (ValueError, TypeError, OSError, ArithmeticError) as error:
        refuse(str(error))
    if as_json:
        print_json(rows)


@app.command("train-dcdm")
def train_dcdm(
    *,
    out: Annotated[Path, typer.Option(help="Weight file to write. Checkpoints are written beside it.")],
    variant: Annotated[str, typer.Option(help='Variant of the network: "64", "128" or "2d".')] = "64",
    size: Annotated[
        int, typer.Option(help="Number of cells along each edge of the closed box whose matrix is learned.")
    ] = 32,
    other_size: Annotated[
        int, typer.Option(help="Cells along the edges of a second box, used in every other step; 0 for none.")
    ] = 0,
    steps: Annotated[int, typer.Option(help="Number of optimiser steps in the whole schedule.")] = 2_000,
    seed: Annotated[int, typer.Option(help="Seed of the Ritz vectors, their mixtures and the initial weights.")] = 0,
    batch: Annotated[int, typer.Option(help="Number of right-hand sides in a step.")] = 4,
    rate: Annotated[float, typer.Option(help="Highest learning rate.")] = 1e-3,
    ritz: Annotated[int, typer.Option(help="Number of Lanczos vectors.")] = 1_000,
    kind: Annotated[str, typer.Option(help="Kind of right-hand sides: ritz, white, smooth or harvested.")] = "ritz",
    loss: Annotated[str, typer.Option(help="Loss: residual, unscaled or energy.")] = "residual",
    paper: Annotated[
        bool, typer.Option("--paper", help="Use the paper's size, batch, constant rate and number of Lanczos vectors.")
    ] = False,
    start: Annotated[
        Path | None, typer.Option(help="Weight file to start from; --kind harvested needs one that works.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Continue from the last checkpoint.")] = False,
    threads: Annotated[int, typer.Option(min=1, help="Number of threads that torch uses.")] = 1,
) -> None:
    """Train the network of the Deep Conjugate Direction Method on the matrix of a box."""
    import logging

    require("torch", "matplotlib", extra="train", by="deepcd train-dcdm")
    from deepcd.solvers.training.dcdm import PAPER
    from deepcd.solvers.training.dcdm import train_dcdm as run

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    settings: dict[str, Any] = {"size": size, "batch": batch, "rate": rate, "ritz": ritz} | (PAPER if paper else {})
    settings |= {"variant": variant, "other_size": other_size, "steps": steps, "seed": seed, "kind": kind, "loss": loss}
    try:
        run(out, start=start, resume=resume, threads=threads, **settings)
    except (ValueError, TypeError, OSError) as error:
        refuse(str(error))


@app.command()
def bench(
    *,
    problems: Annotated[str, typer.Option(help="Names, separated by commas. The default is nine of them.")] = "",
    sizes: Annotated[str, typer.Option(help="Numbers of cells along an edge, separated by commas.")] = "64",
    matrix: Annotated[
        Path | None,
        typer.Option(help="A matrix to solve in place of the problems: a .mtx, .mtx.gz or SciPy .npz file."),
    ] = None,
    rhs: Annotated[
        Path | None,
        typer.Option(help="Its right-hand side: a .npy, .mtx or .mtx.gz file. The default is normal random numbers."),
    ] = None,
    methods: Annotated[str, typer.Option(help="Names, separated by commas. The default is all.")] = "",
    tol: Annotated[float, typer.Option(help="Relative tolerance of the true residual.")] = 1e-6,
    out: Annotated[Path, typer.Option(help="Folder of results.json, report.html, tables and figures.")] = Path(
        "out/bench"
    ),
    threads: Annotated[int, typer.Option(min=1, help="Number of threads of deepcd's methods, AMGCL and apxchol.")] = 1,
    timeout: Annotated[float, typer.Option(min=1.0, help="Time limit of a run in seconds.")] = 300.0,
) -> None:
    """Compare methods on problems or on a matrix of yours: iterations, seconds, memory, true residuals and failures.

    Methods that are not installed, or that need more than a matrix, have a row that says so. Rows of earlier runs in
    the same folder are kept.
    """
    from deepcd.solvers.bench.command import run

    def split(text: str) -> list[str]:
        return [part.strip() for part in text.split(",") if part.strip()]

    chosen = split(problems), split(sizes), split(methods)
    try:
        run(*chosen, tol, out, threads=threads, timeout=timeout, matrix=matrix, rhs=rhs)
    except (ValueError, TypeError, OSError) as error:
        refuse(str(error))


@app.command()
def simulate(
    scene: Annotated[
        str, typer.Argument(help="A .toml file, or the name of a shipped scene: plume, paddle, tunnel or dam_break.")
    ],
    *,
    out: Annotated[
        Path | None, typer.Option(help="Folder of pictures and checkpoint. The default is out/SCENE.")
    ] = None,
    frames: Annotated[int | None, typer.Option(min=1, help="Number of frames. The default is the scene's own.")] = None,
    scale: Annotated[
        float, typer.Option(min=0.01, help="Factor that multiplies the number of cells along each axis.")
    ] = 1.0,
    resume: Annotated[bool, typer.Option(help="Continue from the checkpoint in the folder.")] = False,
    vti_every: Annotated[
        int, typer.Option(min=0, help="Write a file for ParaView every this many frames; 0 for none.")
    ] = 0,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Simulate smoke or a liquid, with every pressure system solved by deepcd.

    A scene holds obstacles, sources, fills and inflows, as many as needed, between walls that are solid, open or
    periodic; the head of deepcd.solvers.simulation.scenes has an example of everything. What is too thin for its cells
    is named.
    """
    require("matplotlib", "PIL", "meshio", extra="simulate", by="deepcd simulate")
    from deepcd.solvers.simulation import command
    from deepcd.solvers.simulation.pressure import NotConvergedError

    try:
        rows = command.run(scene, out, frames=frames, scale=scale, resume=resume, vti_every=vti_every, threads=threads)
    except NotConvergedError as error:
        say(f"error: {error}")
        raise typer.Exit(1) from error
    except (ValueError, TypeError, OSError) as error:
        refuse(str(error))
    if as_json:
        print_json(rows)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
