"""The two kinds of operators that waves and the outer passes work on: faces, and couplings to all cells around.

Which of the two an argument is, is known when a pass is compiled. `x` are always where planes p - 1, p and p + 1 of a
vector begin in v, and `bounds` where a loop over a plane begins and ends; r and q are whole boxes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.extending import overload

from deepcd.solvers.kernels.faces import around, stages
from deepcd.solvers.kernels.faces.records import Around, Faces, ShortFaces
from deepcd.solvers.kernels.lanes import LANES


def relax(grid: Any, f: Any, omega: Any, p: Any, v: Any, x: Any, r: Any, bounds: Any, out: Any, to: Any) -> None:
    """Set a plane of `out`, from entry `to` on, to x + omega (r - A x) / d in plane p."""
    _of_type(f, _relax_faces, _relax_around)(grid, f, omega, p, v, x, r, bounds, out, to)


def subtract(grid: Any, f: Any, p: Any, v: Any, x: Any, r: Any, bounds: Any, out: Any, to: Any) -> None:
    """Set a plane of `out`, from entry `to` on, to r - A x in plane p."""
    _of_type(f, _subtract_faces, _subtract_around)(grid, f, p, v, x, r, bounds, out, to)


def image(grid: Any, f: Any, p: Any, v: Any, x: Any, bounds: Any, q: Any) -> Any:
    """Set plane p of q to A x; return the energy of what leads to no earlier cell."""
    return _of_type(f, _image_faces, _image_around)(grid, f, p, v, x, bounds, q)


def _of_type(f: Any, faces: Any, around: Any) -> Any:
    """Return the one of two functions that is for an operator, or for a type of numba's that is that of one."""
    kind = getattr(f, "instance_class", type(f))
    return {Faces: faces, ShortFaces: faces, Around: around}[kind]


@overload(relax)
def _relax(grid, f, omega, p, v, x, r, bounds, out, to):
    return _of_type(f, _relax_faces, _relax_around)


@overload(subtract)
def _subtract(grid, f, p, v, x, r, bounds, out, to):
    return _of_type(f, _subtract_faces, _subtract_around)


@overload(image)
def _image(grid, f, p, v, x, bounds, q):
    return _of_type(f, _image_faces, _image_around)


def _relax_around(grid, f, omega, p, v, x, r, bounds, out, to):
    s0, (lo, hi) = grid.s[0], bounds
    o = (p + 1) * s0
    around.relax_plane(
        grid.s[1], omega, f.w[p], f.w[p + 1], f.extra[o : o + s0], f.inverse[o : o + s0], v[x[0] : x[0] + s0],
        v[x[1] : x[1] + s0], v[x[2] : x[2] + s0], r[o : o + s0], lo, hi, out[to : to + s0],
    )  # fmt: skip


def _relax_faces(grid, f, omega, p, v, x, r, bounds, out, to):
    s0, s1 = grid.s
    lo, hi = bounds
    if hi - lo < LANES:
        stages.relax_cells(s0, np.uint64(s1), omega, f, p, v, x, r, lo, hi, out, to)
    elif s1 == 0:
        stages.relax_plane(s0, None, omega, f, p, v, x, r, lo, hi, out, to)
    else:
        stages.relax_plane(s0, np.uint64(s1), omega, f, p, v, x, r, lo, hi, out, to)


def _subtract_around(grid, f, p, v, x, r, bounds, out, to):
    s0, (lo, hi) = grid.s[0], bounds
    o = (p + 1) * s0
    around.residual_plane(
        grid.s[1], f.w[p], f.w[p + 1], f.extra[o : o + s0], v[x[0] : x[0] + s0], v[x[1] : x[1] + s0],
        v[x[2] : x[2] + s0], r[o : o + s0], lo, hi, out[to : to + s0],
    )  # fmt: skip


def _subtract_faces(grid, f, p, v, x, r, bounds, out, to):
    s0, s1 = grid.s
    lo, hi = bounds
    if hi - lo < LANES:
        stages.residual_cells(s0, np.uint64(s1), f, p, v, x, r, lo, hi, out, to)
    elif s1 == 0:
        stages.residual_plane(s0, None, f, p, v, x, r, lo, hi, out, to)
    else:
        stages.residual_plane(s0, np.uint64(s1), f, p, v, x, r, lo, hi, out, to)


def _image_around(grid, f, p, v, x, bounds, q):
    s0, (lo, hi) = grid.s[0], bounds
    o = (p + 1) * s0
    return around.image_plane(
        grid.s[1], f.w[p], f.w[p + 1], f.extra[o : o + s0], v[x[0] : x[0] + s0], v[x[1] : x[1] + s0],
        v[x[2] : x[2] + s0], lo, hi, q[o : o + s0],
    )  # fmt: skip


def _image_faces(grid, f, p, v, x, bounds, q):
    n, s, wrap = grid
    lo, hi = bounds
    if s[1] == 0:
        energy = stages.image_plane(s[0], None, f, p, v, x, lo, hi, q)
    else:
        energy = stages.image_plane(s[0], np.uint64(s[1]), f, p, v, x, lo, hi, q)
    if wrap[2]:
        energy -= stages.clear_padding(n, s, f.w2, v, q, x[1])
    return energy
