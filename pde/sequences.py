"""Sequences of pressure solves on disk, as a simulation makes them: a benchmark of systems that change slowly.

A file is an npz of plain arrays, without pickled objects. Each grid has `cells_<g>` (uint8), `walls_<g>`, `spacing_<g>`
and `air_at_<g>`, and in cut cells `opened_<g>_<axis>` and `slopes_<g>_<axis>`; each solve has `grid_<k>`, the number of
its grid, and `b_<k>` and `x0_<k>` (float64, one entry per unknown in the order of the cells). Solves are written and
read one at a time, so a run need not fit into memory.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from deepcd.pde.cut_systems import CutSystem
from deepcd.pde.files import replacing
from deepcd.pde.grids import Grid
from deepcd.pde.mac import checked_velocity
from deepcd.pde.poisson import PoissonSystem, poisson
from deepcd.pde.projection import PressureSolve


def save_solves(path: str | os.PathLike[str], solves: Iterable[PressureSolve]) -> int:
    """Write a sequence of pressure solves into an npz file.

    Parameters
    ----------
    path : path-like
        The file. If it exists, it is replaced after everything is written.
    solves : iterable of PressureSolve
        The solves; a generator may still be computing them. Consecutive solves of one system share its copy.

    Returns
    -------
    int
        The number of solves that were written.

    Raises
    ------
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from deepcd.pde import PressureSolve, domain, load_solves, poisson, save_solves
    >>> system = poisson(domain((8, 8), walls="air"))
    >>> run = [PressureSolve(system, np.full(64, float(k)), np.zeros(64)) for k in range(3)]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     number = save_solves(f"{folder}/run.npz", run)
    ...     again = list(load_solves(f"{folder}/run.npz"))
    >>> number, again[2].b[0].item(), again[0].system is again[2].system
    (3, 2.0, True)
    """
    system, grids, count = None, 0, 0
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:

        def write(name: str, array: ArrayLike) -> None:
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.asanyarray(array), allow_pickle=False)

        for solve in solves:
            if solve.system is not system:
                system, grid = solve.system, solve.system.grid
                write(f"cells_{grids}", grid.cells)
                write(f"walls_{grids}", np.array(grid.walls))
                write(f"spacing_{grids}", grid.spacing)
                write(f"air_at_{grids}", grid.air_at)
                for name in ("opened", "slopes") if isinstance(system, CutSystem) else ():
                    for axis, faces in enumerate(getattr(system, name)):
                        write(f"{name}_{grids}_{axis}", faces)
                grids += 1
            write(f"grid_{count}", grids - 1)
            write(f"b_{count}", np.asarray(solve.b, dtype=np.float64))
            write(f"x0_{count}", np.asarray(solve.x0, dtype=np.float64))
            count += 1
    return count


def load_solves(path: str | os.PathLike[str]) -> Iterator[PressureSolve]:
    """Read what :func:`save_solves` wrote, one solve at a time.

    Parameters
    ----------
    path : path-like
        The file.

    Yields
    ------
    PressureSolve
        The solves. Those of the same system share it; it is assembled when the first of them is read.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If the file was not written by :func:`save_solves`, or is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            last, system = -1, None
            for k in range(sum(name.startswith("b_") for name in archive.files)):
                number = int(archive[f"grid_{k}"])
                if system is None or number != last:
                    last, system = number, _system(archive, number)
                b, x0 = archive[f"b_{k}"], archive[f"x0_{k}"]
                for name, vector in ((f"b_{k}", b), (f"x0_{k}", x0)):
                    if vector.shape != system.cells.shape or vector.dtype != np.float64:
                        raise ValueError(
                            f"{name} is {vector.dtype} of shape {vector.shape}, "
                            f"not one float64 per unknown, {system.cells.shape}"
                        )
                yield PressureSolve(system, b, x0)
    except (KeyError, TypeError, AttributeError, zipfile.BadZipFile, EOFError, ValueError) as error:
        raise ValueError(f"{os.fspath(path)} is no file of save_solves: {error}") from error


def _system(archive: Mapping[str, Any], number: int) -> PoissonSystem | CutSystem:
    walls = archive[f"walls_{number}"].tolist()
    air_at = str(archive[f"air_at_{number}"])
    grid = Grid(archive[f"cells_{number}"], walls, float(archive[f"spacing_{number}"]), air_at)  # type: ignore[arg-type]
    if f"opened_{number}_0" not in archive:
        return poisson(grid)
    opened, slopes = (
        checked_velocity(grid, [archive[f"{name}_{number}_{axis}"] for axis in range(len(grid.shape))])
        for name in ("opened", "slopes")
    )
    return CutSystem(grid, opened, slopes)
