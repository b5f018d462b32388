"""The command ``deepcd solve``: a system from files of A and b, or one that is assembled on a mesh."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Annotated, Any

import typer

from deepcd.messages import print_json, refuse, require, say

Parts = list[str] | None


def solve(
    matrix: Annotated[
        Path | None,
        typer.Argument(metavar="A", help="Sparse matrix: a .mtx or .mtx.gz file, or .npz from SciPy's save_npz."),
    ] = None,
    rhs: Annotated[
        Path | None,
        typer.Argument(metavar="B", help="Right-hand side: a .npy, .mtx or .mtx.gz file. The default is all ones."),
    ] = None,
    *,
    tol: Annotated[float, typer.Option(help="Relative tolerance: stop when |b - A x| <= tol |b|.")] = 1e-6,
    out: Annotated[Path | None, typer.Option(help="Write x to this .npy file; on a mesh, u to this .vtu file.")] = None,
    preconditioner: Annotated[
        str, typer.Option(help='Name of the preconditioner; "auto" chooses one for this matrix.')
    ] = "auto",
    maxiter: Annotated[int | None, typer.Option(help="Largest number of iterations.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Time limit in seconds.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Number of threads. The default is one per core.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")] = False,
    mesh: Annotated[
        Path | None,
        typer.Option(help="Mesh on which to solve -div(k grad u) + c u = f in place of A: a .msh, .vtu or .xdmf file."),
    ] = None,
    order: Annotated[int, typer.Option(min=1, max=2, help="Degree of the polynomials on the mesh.")] = 1,
    coefficient: Annotated[Parts, typer.Option(help="Value of k: a number, or TAG=K for each part.")] = None,
    reaction: Annotated[Parts, typer.Option(help="Value of c: a number, or TAG=C for some parts.")] = None,
    source: Annotated[Parts, typer.Option(help="Value of f: a number, or TAG=F for some parts.")] = None,
    dirichlet: Annotated[Parts, typer.Option(help="Prescribed u of a part of the boundary: TAG=U.")] = None,
    neumann: Annotated[Parts, typer.Option(help="Flux into the domain through a part: TAG=FLUX.")] = None,
    robin: Annotated[
        Parts, typer.Option(help="Transfer h (u_outside - u) into the domain through a part: TAG=H,U_OUTSIDE.")
    ] = None,
    figure: Annotated[Path | None, typer.Option(help="Draw u on the mesh into this .png file.")] = None,
) -> None:
    """Solve A x = b for a symmetric positive (semi)definite A, or a diffusion equation on a mesh.

    On a mesh, for instance: --mesh part.msh --coefficient steel=50 --coefficient air=0.02 --dirichlet inlet=1
    --robin wall=10,20 --out u.vtu. TAG is a physical group of gmsh; "boundary" is the whole boundary.
    """
    equation = {
        "coefficient": coefficient, "reaction": reaction, "source": source,
        "dirichlet": dirichlet, "neumann": neumann, "robin": robin,
    }  # fmt: skip
    if (matrix is None) == (mesh is None) or (mesh is not None and rhs is not None):
        refuse("give either a file of A, and maybe one of B, or --mesh with a mesh")
    if mesh is None:
        for name, given in {**equation, "figure": figure, "order": None if order == 1 else order}.items():
            if given:
                refuse(f"--{name} is for --mesh, which is not given")
    suffix = ".npy" if mesh is None else ".vtu"
    for name, path, ending in (("out", out, suffix), ("figure", figure, ".png")):
        if path is not None and (path.suffix != ending or not path.absolute().parent.is_dir()):
            refuse(f"--{name} {path}: give a {ending} file in a folder that exists")
    if mesh is not None:
        packages = ("skfem", "meshio") if figure is None else ("skfem", "meshio", "matplotlib")
        require(*packages, extra="fem", by="deepcd solve --mesh")
    import numpy as np

    from deepcd.solvers.console import plain_console

    system, points, A, b = None, None, None, None
    if mesh is None:
        A, b = _files(matrix, rhs)
    else:
        from deepcd.solvers.fem.command import assembled

        try:
            system = assembled(mesh, order, equation)
        except (ValueError, TypeError) as error:
            refuse(str(error))
        say(f"{system!r}")
        A, b, points = system
    say(f"A: {A.shape[0]} x {A.shape[1]}, {A.nnz} entries")
    try:
        from deepcd import DeepCD
        from deepcd.solvers.fem.solving import solve_at

        with plain_console(stderr=True).status("solving (the first run compiles kernels for up to a minute)"):
            solver = DeepCD(preconditioner=preconditioner, threads=threads)
            options: dict[str, Any] = {"tol": tol, "maxiter": maxiter, "timeout": timeout}
            solution = solver.solve(A, b, **options) if points is None else solve_at(points, solver, A, b, **options)
    except (ValueError, TypeError) as error:
        refuse(str(error))

    # Scaled first: the norm of a b near the limits of float64 overflows or underflows.
    scale = float(np.abs(b).max(initial=0.0)) or 1.0
    relative = float(np.linalg.norm((b - A @ solution.x) / scale) / (np.linalg.norm(b / scale) or 1.0))
    converged = solution.info == 0
    say(
        f"{'converged' if converged else 'NOT converged'}: {solution.message}\n"
        f"{solution.iterations} iterations of {solution.preconditioner}, |b - A x| / |b| = {relative:.2e}, "
        f"setup {solution.setup_time:.3f} s, solve {solution.solve_time:.3f} s"
    )
    _keep(system, solution.x, out, figure, as_json)
    if as_json:
        facts = {
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
        if system is not None:
            u = system.values(solution.x)
            facts |= {"nodes": len(u), "least": float(u.min()), "largest": float(u.max())}
            facts |= {"figure": None if figure is None else str(figure)}
        print_json(facts)
    raise typer.Exit(0 if converged else 1)


def _files(matrix: Path | None, rhs: Path | None) -> tuple[Any, Any]:
    """Return A and b from files."""
    import numpy as np

    from deepcd.data.matrix_files import MatrixFileError, read_matrix, read_vector

    assert matrix is not None
    try:
        A = read_matrix(matrix)
        if rhs is None:
            say(f"no right-hand side is given: b = 1 in all {A.shape[0]} entries")
        return A, np.ones(A.shape[0]) if rhs is None else read_vector(rhs, A.shape[0])
    except MatrixFileError as error:
        refuse(str(error))


def _keep(system: Any, x: Any, out: Path | None, figure: Path | None, as_json: bool) -> None:
    """Write the solution and draw it, where that is asked for."""
    import numpy as np

    from deepcd.data import files

    name, kind = ("x", "x.npy") if system is None else ("u", "u.vtu")
    if out is not None:
        try:
            if system is None:
                content = io.BytesIO()
                np.save(content, x, allow_pickle=False)
                files.replace(out, content.getvalue())
            else:
                system.write(x, out)
        except OSError as error:
            refuse(f"--out {out}: {name} was not written ({error.strerror})")
        say(f"{name} written to {out}")
    elif not as_json and figure is None:
        say(f"{name} is not kept; give --out {kind} to write it")
    if figure is not None:
        from deepcd.solvers.fem.figure import picture

        try:
            files.replace(figure, picture(system, x))
        except OSError as error:
            refuse(f"--figure {figure}: it was not written ({error.strerror})")
        say(f"u drawn in {figure}")
