"""The command ``deepcd``: solve a file, show what is installed, run the demo, train.

``solve`` keeps standard output for ``--json``; what people read goes to standard error. Exit status: 0 done (for
``solve``: converged), 1 not converged, 2 bad input. Imports wait until a command runs, so that help is there at once.
"""

from __future__ import annotations

import io
import json
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

LIBRARIES = ("numpy", "scipy", "numba", "torch", "pyamg", "safetensors")

app = typer.Typer(
    help="Learned solvers for sparse linear systems from partial differential equations.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads to compute with; default: one per core.")]


@app.command()
def solve(
    matrix: Annotated[
        Path, typer.Argument(metavar="A", help="Sparse matrix: .mtx, .mtx.gz, or .npz of SciPy's save_npz.")
    ],
    rhs: Annotated[
        Path | None, typer.Argument(metavar="B", help="Right-hand side: .npy, .mtx or .mtx.gz; default: all ones.")
    ] = None,
    *,
    tol: Annotated[float, typer.Option(help="Stop when |b - A x| <= tol |b|.")] = 1e-6,
    out: Annotated[Path | None, typer.Option(help="Write x to this .npy file.")] = None,
    preconditioner: Annotated[str, typer.Option(help='Its name, or "auto": the best for this matrix.')] = "auto",
    maxiter: Annotated[int | None, typer.Option(help="Give up after so many iterations.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Give up after so many seconds.")] = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Solve A x = b for a symmetric positive (semi)definite A."""
    if out is not None and (out.suffix != ".npy" or not out.absolute().parent.is_dir()):
        _refuse(f"--out {out}: give a .npy file in a folder that exists")
    import numpy as np
    from rich.console import Console

    from deepcd import DeepCD
    from deepcd.data import files
    from deepcd.data.matrix_files import MatrixFileError, read_matrix, read_vector

    try:
        A = read_matrix(matrix)
        if rhs is None:
            _say(f"no right-hand side given: b = 1 in all {A.shape[0]} entries")
        b = np.ones(A.shape[0]) if rhs is None else read_vector(rhs, A.shape[0])
    except MatrixFileError as error:
        _refuse(str(error))
    _say(f"A: {A.shape[0]} x {A.shape[1]}, {A.nnz} entries")
    try:
        with Console(stderr=True).status("solving (the first run compiles, which takes up to a minute)"):
            solver = DeepCD(preconditioner=preconditioner, threads=threads)
            solution = solver.solve(A, b, tol=tol, maxiter=maxiter, timeout=timeout)
    except (ValueError, TypeError) as error:
        _refuse(str(error))

    # Scaled first: the norm of a b near the limits of float64 overflows or underflows.
    scale = float(np.abs(b).max(initial=0.0)) or 1.0
    relative = float(np.linalg.norm((b - A @ solution.x) / scale) / (np.linalg.norm(b / scale) or 1.0))
    converged = solution.info == 0
    _say(
        f"{'converged' if converged else 'NOT converged'}: {solution.message}\n"
        f"{solution.iterations} iterations of {solution.preconditioner}, |b - A x| / |b| = {relative:.2e}, "
        f"setup {solution.setup_time:.3f} s, solve {solution.solve_time:.3f} s"
    )
    if out is not None:
        content = io.BytesIO()
        np.save(content, solution.x, allow_pickle=False)
        try:
            files.replace(out, content.getvalue())
        except OSError as error:
            _refuse(f"--out {out}: x was not written ({error.strerror})")
        _say(f"x written to {out}")
    elif not as_json:
        _say("x is not kept: give --out x.npy to write it")
    if as_json:
        _print_json(
            {
                "converged": converged,
                "status": solution.status.name,
                "message": solution.message,
                "info": solution.info,
                "iterations": solution.iterations,
                "relative_residual": relative,
                "residuals": [float(norm) for norm in solution.residuals],
                "preconditioner": solution.preconditioner,
                "setup_seconds": solution.setup_time,
                "solve_seconds": solution.solve_time,
                "unknowns": A.shape[0],
                "entries": A.nnz,
                "tol": tol,
                "out": None if out is None else str(out),
            }
        )
    raise typer.Exit(0 if converged else 1)


@app.command()
def info(*, as_json: Json = False) -> None:
    """Show versions, the processor, and the shipped weights with how they were trained."""
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
        _print_json(facts)
        return

    from rich.console import Console
    from rich.table import Table

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
    Console().print(table)


@app.command()
def demo(
    *,
    out: Annotated[Path, typer.Option(help="Folder for picture and animation.")] = Path("out/demo"),
    size: Annotated[int, typer.Option(min=16, max=256, help="Cells per axis.")] = 64,
    frames: Annotated[int, typer.Option(min=3, max=1000, help="How many.")] = 54,
    threads: Threads = None,
) -> None:
    """Simulate smoke past a mesh, and solve some of its pressure systems with SciPy and PyAMG as well."""
    from deepcd.demo import run

    raise typer.Exit(0 if run(out, size=size, frames=frames, threads=threads) else 1)


@app.command()
def train(
    *,
    dim: Annotated[int, typer.Option(min=2, max=3, help="Space dimension of the network.")],
    out: Annotated[Path, typer.Option(help="Weight file to write; checkpoints lie beside it.")],
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps of the whole schedule.")],
    seed: Annotated[int, typer.Option(min=0, help="Of the domains, right-hand sides and initial weights.")] = 0,
    start: Annotated[Path | None, typer.Option(help="Weights to start from; give a lower rate, too.")] = None,
    rate: Annotated[float, typer.Option(help="Highest learning rate.")] = 3e-3,
    resume: Annotated[bool, typer.Option(help="Go on from the last checkpoint.")] = False,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch.")] = 1,
) -> None:
    """Train the multigrid network on random domains."""
    import logging

    from deepcd.solvers.training import train as run

    logging.basicConfig(level=logging.INFO, format="%(message)s")  # where there is no terminal for the progress bar
    try:
        run(ndim=dim, out=out, steps=steps, seed=seed, start=start, rate=rate, resume=resume, threads=threads)
    except (ValueError, TypeError, OSError) as error:
        _refuse(str(error))


@app.command()
def pinn(
    problem: Annotated[str, typer.Argument(help='Name of a problem; "list" shows all.')],
    *,
    out: Annotated[
        Path | None, typer.Option(help="Folder for checkpoint, metrics and pictures; default: out/PROBLEM.")
    ] = None,
    sampler: Annotated[str, typer.Option(help="What moves the points.")] = "aas",
    optimizer: Annotated[str | None, typer.Option(help="adam, soap, lbfgs, ssbroyden or ssbfgs.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of network, sampler and boundary points.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, help="Runs, of this seed and the next ones, each in a process.")] = 1,
    budget: Annotated[int | None, typer.Option(help="Gradients of the loss to compute.")] = None,
    points: Annotated[int | None, typer.Option(help="Points in a round.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on from the checkpoint in the folder.")] = False,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch.")] = 1,
    as_json: Json = False,
) -> None:
    """Train a network on a PDE, on points that a sampler moves to where the residual is."""
    from deepcd.solvers.pinn import command

    try:
        if problem == "list":
            rows: Any = command.listing()
        else:
            folder = out if out is not None else Path("out") / problem
            options = {"sampler": sampler, "optimizer": optimizer, "budget": budget, "resume": resume}
            options |= {} if points is None else {"points": points}
            rows = command.run(problem, folder, range(seed, seed + seeds), threads, options)
    except (ValueError, TypeError, OSError, FloatingPointError) as error:
        _refuse(str(error))
    if as_json:
        _print_json(rows)


@app.command("train-dcdm")
def train_dcdm(
    *,
    out: Annotated[Path, typer.Option(help="Weight file to write; checkpoints lie beside it.")],
    variant: Annotated[str, typer.Option(help='The network: "64", "128" or "2d".')] = "64",
    size: Annotated[int, typer.Option(help="Cells per edge of the closed box whose matrix is learned.")] = 32,
    other_size: Annotated[int, typer.Option(help="Edge of a second box, for every other step; 0: none.")] = 0,
    steps: Annotated[int, typer.Option(help="Optimiser steps of the whole schedule.")] = 2_000,
    seed: Annotated[int, typer.Option(help="Of the Ritz vectors, their mixtures and the initial weights.")] = 0,
    batch: Annotated[int, typer.Option(help="Right-hand sides in a step.")] = 4,
    rate: Annotated[float, typer.Option(help="Highest learning rate.")] = 1e-3,
    ritz: Annotated[int, typer.Option(help="Lanczos vectors.")] = 1_000,
    kind: Annotated[str, typer.Option(help="Right-hand sides: ritz, white, smooth or harvested.")] = "ritz",
    loss: Annotated[str, typer.Option(help="residual, unscaled or energy.")] = "residual",
    paper: Annotated[bool, typer.Option("--paper", help="Settings of the paper; steps and seed stay yours.")] = False,
    start: Annotated[Path | None, typer.Option(help="Weights to start from; harvested needs some that work.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on from the last checkpoint.")] = False,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch.")] = 1,
) -> None:
    """Train the network of the Deep Conjugate Direction Method on the matrix of a box."""
    import logging

    from deepcd.solvers.training.dcdm import PAPER
    from deepcd.solvers.training.dcdm import train_dcdm as run

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    settings: dict[str, Any] = {"size": size, "batch": batch, "rate": rate, "ritz": ritz} | (PAPER if paper else {})
    settings |= {"variant": variant, "other_size": other_size, "steps": steps, "seed": seed, "kind": kind, "loss": loss}
    try:
        run(out, start=start, resume=resume, threads=threads, **settings)
    except (ValueError, TypeError, OSError) as error:
        _refuse(str(error))


@app.command()
def bench(
    *,
    problems: Annotated[str, typer.Option(help="Names, separated by commas; default: all.")] = "",
    sizes: Annotated[str, typer.Option(help="Cells per edge, separated by commas.")] = "64",
    methods: Annotated[str, typer.Option(help="Names, separated by commas; default: all.")] = "",
    tol: Annotated[float, typer.Option(help="Of the true relative residual.")] = 1e-6,
    out: Annotated[Path, typer.Option(help="Folder of results.json, report.html, tables, PNGs.")] = Path("out/bench"),
    threads: Annotated[int, typer.Option(min=1, help="Threads of deepcd's methods and of AMGCL.")] = 1,
    timeout: Annotated[float, typer.Option(min=1.0, help="Seconds after which a run is given up.")] = 300.0,
) -> None:
    """Compare methods on pressure systems: iterations, seconds, memory, true residuals, failures included.

    Rows of other runs that are in the folder already are kept.
    """
    from deepcd.solvers.bench.command import run

    def split(text: str) -> list[str]:
        return [part.strip() for part in text.split(",") if part.strip()]

    try:
        run(split(problems), split(sizes), split(methods), tol, out, threads=threads, timeout=timeout)
    except (ValueError, TypeError, OSError) as error:
        _refuse(str(error))


@app.command()
def simulate(
    scene: Annotated[str, typer.Argument(help='A .toml file, or "plume", "paddle" or "dam_break".')],
    *,
    out: Annotated[Path | None, typer.Option(help="Folder of pictures and checkpoint; default: out/SCENE.")] = None,
    frames: Annotated[int | None, typer.Option(min=1, help="Instead of what the scene says.")] = None,
    scale: Annotated[float, typer.Option(min=0.01, help="Of the number of cells per axis.")] = 1.0,
    resume: Annotated[bool, typer.Option(help="Go on from the checkpoint in the folder.")] = False,
    vti_every: Annotated[int, typer.Option(min=0, help="Write every so many frames for ParaView.")] = 0,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Simulate smoke or a liquid; every pressure system is solved by deepcd."""
    from deepcd.solvers.simulation import command
    from deepcd.solvers.simulation.pressure import NotConvergedError

    try:
        rows = command.run(scene, out, frames=frames, scale=scale, resume=resume, vti_every=vti_every, threads=threads)
    except NotConvergedError as error:
        _say(f"error: {error}")
        raise typer.Exit(1) from error
    except (ValueError, TypeError, OSError) as error:
        _refuse(str(error))
    if as_json:
        _print_json(rows)


def _refuse(message: str) -> NoReturn:
    """End the program with status 2 and a message."""
    _say(f"error: {message}")
    raise typer.Exit(2)


def _say(message: str) -> None:
    print(message, file=sys.stderr)


def _print_json(value: Any) -> None:
    """Print strict JSON, in which numbers that are not finite are null."""
    finite = json.loads(json.dumps(value), parse_constant=lambda _: None)
    print(json.dumps(finite, indent=2, allow_nan=False))


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
